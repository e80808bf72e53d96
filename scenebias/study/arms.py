"""What is compared with what: the arms of the study, and how their weights of the losses are chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from scenebias.training.objective import ObjectiveConfig

BASELINE = "baseline"
MOST_LOST = 0.02
"""How much accuracy on usual scenes debiasing may cost, as a share."""


@dataclass(frozen=True)
class Arm:
    """One way to pretrain."""

    name: str
    what: str
    """The name in a few words."""
    candidates: tuple[ObjectiveConfig, ...] = ()
    """The settings among which tuning chooses, on a world that no reported number is of; a single one is not tuned."""
    as_tuned: str | None = None
    """Another arm, whose setting this one takes over."""
    changes: Mapping[str, object] = field(default_factory=dict)
    """What this one does otherwise."""
    times_longer: int = 1
    """Its epochs, as a multiple of what the others have."""

    def objective(self, chosen: Mapping[str, ObjectiveConfig]) -> ObjectiveConfig:
        """What the arm trains for, when ``chosen`` holds what tuning chose for the arms that are tuned."""
        if self.as_tuned is not None:
            return replace(arm_named(self.as_tuned).objective(chosen), **self.changes)  # type: ignore[arg-type]
        return self.candidates[0] if len(self.candidates) == 1 else chosen[self.name]


LONGER = (BASELINE, "scene", "mask", "both")
"""The arms that are also trained twice as long: as many updates for a baseline as the masked clips give the others."""


def long(arm: str) -> str:
    """The name of an arm that is trained twice as long."""
    return f"{arm}-long"


SCENE_WEIGHTS = (0.01, 0.03, 0.1)
MASK_WEIGHTS = (0.5, 1.0)
ARMS = (
    Arm(BASELINE, "actions alone", (ObjectiveConfig(name="baseline"),)),
    Arm(
        "scene",
        "with the scene-adversarial loss",
        tuple(ObjectiveConfig(name="scene", alpha_scene=weight) for weight in SCENE_WEIGHTS),
    ),
    Arm(
        "mask",
        "with the confusion of masked clips",
        tuple(ObjectiveConfig(name="mask", alpha_mask=weight) for weight in MASK_WEIGHTS),
    ),
    Arm(
        "both",
        "with both losses, as in the paper",
        tuple(
            ObjectiveConfig(alpha_scene=of_scene, alpha_mask=of_mask)
            for of_scene in SCENE_WEIGHTS[:2]
            for of_mask in MASK_WEIGHTS
        ),
    ),
    Arm(
        "both-released",
        "with both losses, the mask loss as in the released code",
        tuple(
            ObjectiveConfig(mask_loss="released", alpha_scene=of_scene, alpha_mask=of_mask)
            for of_scene in SCENE_WEIGHTS[:2]
            for of_mask in MASK_WEIGHTS
        ),
    ),
    Arm("both-published", "both, with the weights of the reproduction (0.5, 0.5)", (ObjectiveConfig(),)),
    *(Arm(long(name), f"“{name}”, twice as long", as_tuned=name, times_longer=2) for name in LONGER),
    Arm("both-fill-white", "both, people filled with white", as_tuned="both", changes={"fill": "white"}),
    Arm("both-fill-random", "both, people filled with a random colour", as_tuned="both", changes={"fill": "random"}),
)


def arm_named(name: str) -> Arm:
    """The arm of that name."""
    return next(arm for arm in ARMS if arm.name == name)


@dataclass(frozen=True)
class Trial:
    """What one candidate reached on the world that tuning uses."""

    objective: ObjectiveConfig
    in_distribution: float
    """Accuracy on usual scenes, as a share."""
    swapped: float
    """Accuracy on swapped scenes, as a share."""


def choose(trials: Sequence[Trial], baseline: Trial) -> Trial:
    """The candidate that is right most often on swapped scenes, of those that lose at most `MOST_LOST` on usual ones.

    Where every candidate loses more than that against the ``baseline``, the one that loses least.
    """
    harmless = [trial for trial in trials if trial.in_distribution >= baseline.in_distribution - MOST_LOST]
    if harmless:
        return max(harmless, key=lambda trial: trial.swapped)
    return max(trials, key=lambda trial: trial.in_distribution)

"""What is compared with what: the arms of the study, and how their weights of the losses are chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any, Literal

from scenebias.compose.config import ComposeConfig, Composition
from scenebias.debiasing.objective import ObjectiveConfig

BASELINE, BASELINE_LONG, PAPER, SWAP, BEST = "baseline", "baseline-2x", "both", "background-swap", "swap-mask"
"""BEST was named before any reported run, by trials on another world."""
MOST_LOST = 0.02
"""How much accuracy on usual scenes debiasing may cost, as a share."""
Tuned = Literal["mask", "scene", "conditional"]


@dataclass(frozen=True)
class Weights:
    """The weights of the losses that tuning chooses; the defaults are what it chose for the reported study."""

    mask: float = 8.0
    """`alpha_mask`."""
    scene: float = 0.1
    """`alpha_scene` of the marginal adversary."""
    conditional: float = 0.1
    """`alpha_scene` of the conditional adversary."""


GRIDS: Mapping[Tuned, tuple[float, ...]] = {
    "mask": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
    "scene": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    "conditional": (0.03, 0.1, 0.3, 1.0),
}
"""The values that tuning tries."""


@dataclass(frozen=True)
class Method:
    """How a model is pretrained."""

    objective: ObjectiveConfig
    compose: ComposeConfig = field(default_factory=ComposeConfig)


@dataclass(frozen=True)
class Arm:
    """One way to pretrain."""

    name: str
    what: str
    """The name in a few words."""
    objective: Mapping[str, Any] = field(default_factory=dict)
    """Its `ObjectiveConfig`, but for the weights that tuning chooses."""
    compose: tuple[Composition, ...] = ()
    tuned: Tuned | None = None
    """The weight that is tuned with this arm; the others take over what came out."""
    times_longer: int = 1
    """Its epochs, as a multiple of what the others have."""

    def method(self, weights: Weights) -> Method:
        """How it pretrains with these weights of the losses."""
        conditional = self.objective.get("scene_adversary") == "conditional"
        alphas: dict[str, Any] = {
            "alpha_mask": weights.mask,
            "alpha_scene": weights.conditional if conditional else weights.scene,
        }
        return Method(ObjectiveConfig(**alphas, **self.objective), ComposeConfig(compose=self.compose))

    @property
    def uses_masked_clips(self) -> bool:
        """Whether a step passes every clip twice, so that it costs about twice as much."""
        return self.method(Weights()).objective.uses_masks

    @property
    def of_the_same_compute(self) -> str:
        """The baseline that has had as much of it, or more."""
        return BASELINE_LONG if self.uses_masked_clips else BASELINE


def _actions_alone(name: str, what: str, *compose: Composition, times_longer: int = 1) -> Arm:
    return Arm(name, what, {"name": "baseline"}, compose, times_longer=times_longer)


AS_RELEASED = {"mask_step": "alternate", "masked_batch_norm": "released"}
CONDITIONAL = {"scene_adversary": "conditional"}
ARMS = (
    _actions_alone(BASELINE, "actions alone"),
    _actions_alone(BASELINE_LONG, "actions alone, twice as long", times_longer=2),
    Arm("scene", "scene adversary, marginal as in the paper", {"name": "scene"}, tuned="scene"),
    Arm(
        "scene-conditional",
        "scene adversary that is told the action",
        {"name": "scene", **CONDITIONAL},
        tuned="conditional",
    ),
    Arm("mask", "confusion of masked clips, in one batch", {"name": "mask"}, tuned="mask"),
    Arm(PAPER, "both losses of the paper, in one batch", {"name": "debias"}),
    Arm(
        "released",
        "both losses, masked clips in passes of their own, as in the released code",
        {"name": "debias", **AS_RELEASED},
    ),
    _actions_alone(SWAP, "humans before other clips' backgrounds", "background_swap"),
    _actions_alone("actor-cutmix", "ActorCutMix", "actor_cutmix"),
    _actions_alone("fame", "FAME, which needs no masks", "fame"),
    _actions_alone("still-mix", "StillMix", "still_mix"),
    Arm(BEST, "backgrounds swapped, and confusion of masked clips", {"name": "mask"}, ("background_swap",)),
    Arm(
        "swap-mask-scene",
        "that, and the scene adversary that is told the action",
        {"name": "debias", **CONDITIONAL},
        ("background_swap",),
    ),
)
QUICK_ARMS = (BASELINE, BASELINE_LONG, "mask", "released", SWAP, BEST)
"""What a quick study trains."""


def arm_named(name: str) -> Arm:
    """The arm of that name."""
    return next(arm for arm in ARMS if arm.name == name)


@dataclass(frozen=True)
class Trial:
    """What one candidate reached on a world that tuning uses."""

    in_distribution: float
    """Accuracy on usual scenes, as a share."""
    swapped: float
    """Accuracy on swapped scenes, as a share."""


def mean_trial(trials: Sequence[Trial]) -> Trial:
    """The mean over seeds."""
    return Trial(mean(trial.in_distribution for trial in trials), mean(trial.swapped for trial in trials))


def choose(trials: Mapping[float, Trial], baseline: Trial) -> float:
    """The value that is right most often on swapped scenes, of those that lose at most `MOST_LOST` on usual ones.

    Where every value loses more than that against the ``baseline``, the one that loses least.
    """
    harmless = {
        value: trial for value, trial in trials.items() if trial.in_distribution >= baseline.in_distribution - MOST_LOST
    }
    if harmless:
        return max(harmless, key=lambda value: harmless[value].swapped)
    return max(trials, key=lambda value: trials[value].in_distribution)


def choose_weights(trials: Mapping[Tuned, Mapping[float, Trial]], baseline: Trial) -> Weights:
    """What tuning comes to."""
    chosen: dict[str, float] = {name: choose(found, baseline) for name, found in trials.items()}
    return replace(Weights(), **chosen)

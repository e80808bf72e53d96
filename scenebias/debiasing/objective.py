"""What to train for: the options of the objective, which `DebiasingModel` computes."""

import math
from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_args

import tyro

from scenebias.clips.masked_clip import FILLS, MIN_PERSON_SHARE, Fill
from scenebias.clips.views import COVERS, Cover
from scenebias.debiasing.albar import ADVERSARIAL_WEIGHT, ENTROPY_WEIGHT, PENALTY_WEIGHT
from scenebias.debiasing.losses import AlphaSchedule
from scenebias.debiasing.masked_batch_norm import (
    IN_ONE_BATCH,
    IN_PASSES_OF_THEIR_OWN,
    MaskedBatchNorm,
)

ObjectiveName = Literal["baseline", "scene", "mask", "debias", "albar"]
MaskLoss = Literal["paper", "released", "adversarial"]
MaskStep = Literal["one_batch", "alternate", "joint"]
SceneAdversary = Literal["marginal", "conditional", "weighted"]
SceneHiddenLayers = Literal[0, 1, 3]
WHOLE_FRAME_MEAN: Final = "whole_frame_mean"
TrainingFill = Fill | Literal["whole_frame_mean"]
Phase = Literal["clean", "masked", "joint", "one_batch"]


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What to train for."""

    name: Annotated[ObjectiveName, tyro.conf.arg(name="objective")] = "debias"
    """baseline: actions alone; scene: and unlearn the scene; mask: and be unsure of masked clips; debias: all three;
    albar: actions, and unlearn what one still frame tells of them (Fioresi et al., ICLR 2025), without masks or
    scenes."""
    alpha_scene: float = 0.5
    """Weight of the reversed scene gradient in the backbone."""
    alpha_mask: float = 0.5
    """Weight of the loss on human-masked clips in the backbone."""
    alpha_schedule: AlphaSchedule = "constant"
    """constant: all weights of debiasing as given; dann: they rise from 0 over the training (Ganin and Lempitsky, ICML
    2015)."""
    albar_adversarial: float = ADVERSARIAL_WEIGHT
    """ALBAR's weight of the cross entropy of stills, which is raised."""
    albar_entropy: float = ENTROPY_WEIGHT
    """ALBAR's weight of the entropy on stills, which is raised."""
    albar_penalty: float = PENALTY_WEIGHT
    """ALBAR's weight of the gradient of the predictions for stills by their pixels, which is lowered; 0: it is not
    computed, and a step takes less than half the time."""
    scene_adversary: SceneAdversary = "marginal"
    """What the features are to forget of the scene: marginal, all of it (the paper); conditional, what the action does
    not tell anyhow: the scene head is told the action; weighted: as marginal, on clips weighted so that within every
    action all of its scenes count alike."""
    mask_loss: MaskLoss = "paper"
    """paper: raise the action head's entropy on masked clips; released: what the code released with the paper does, a
    head of its own raises it and the backbone lowers it; adversarial: that code's other variant, a head of its own
    learns to name the action of masked clips, and the backbone to make it fail."""
    mask_step: MaskStep = "one_batch"
    """one_batch: clean and masked clips in one forward pass and one update. alternate, as released: two passes, each
    with its own BatchNorm statistics and an update of its own; joint: two such passes, one update. In two passes the
    loss is mostly met by what BatchNorm makes of a masked batch: the network is hardly changed by it, see
    scenebias/training/README.md."""
    masked_batch_norm: MaskedBatchNorm | None = None
    """BatchNorm of masked clips. In one batch: by the statistics of the clean clips (clean, the default) or of both
    (both). In passes of their own: by their own statistics (own, the default; released: these also move the running
    statistics, as in the released code), by the running ones (frozen), or a second set of layers (separate)."""
    mask_cover: Cover = "pixels"
    """What of people is covered: their pixels, or the boxes around them (the released code)."""
    fill: TrainingFill = "frame_mean"
    """What hides people: the mean colour of the frame, of what the crop shows of it (frame_mean) or of all of it
    (whole_frame_mean, as in the released code; all of every frame is decoded for it), dataset_mean, white, random (a
    colour a clip and epoch) or noise."""
    min_person_share: float = MIN_PERSON_SHARE
    """A mask is effective if it shows a person in at least this share of the frames."""
    consistency: float = 0.0
    """Weight of the divergence between the predictions for a composed clip and for the clip as it was, where both show
    the same action; 0: the latter is not passed."""
    label_smoothing: float = 0.0
    """Share of the action label that is spread evenly over all actions."""
    scene_hidden_layers: SceneHiddenLayers = 3
    """Hidden layers of the scene head (the paper: 3)."""

    def __post_init__(self) -> None:
        if self.name not in get_args(ObjectiveName):
            raise ValueError(f"objective must be one of {', '.join(get_args(ObjectiveName))}, not {self.name!r}")
        for name, allowed in (
            ("alpha_schedule", get_args(AlphaSchedule)),
            ("scene_adversary", get_args(SceneAdversary)),
            ("mask_loss", get_args(MaskLoss)),
            ("mask_step", get_args(MaskStep)),
            ("mask_cover", tuple(COVERS)),
            ("fill", (*FILLS, WHOLE_FRAME_MEAN)),
            ("scene_hidden_layers", get_args(SceneHiddenLayers)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, not {getattr(self, name)!r}")
        norms = IN_ONE_BATCH if self.mask_step == "one_batch" else IN_PASSES_OF_THEIR_OWN
        if self.masked_batch_norm is not None and self.masked_batch_norm not in norms:
            raise ValueError(
                f"masked_batch_norm must be one of {', '.join(norms)} with mask_step {self.mask_step}, not"
                f" {self.masked_batch_norm!r}"
            )
        weights = ("alpha_scene", "alpha_mask", "albar_adversarial", "albar_entropy", "albar_penalty", "consistency")
        for name in weights:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, not {getattr(self, name)}")
        if self.name == "albar" and self.consistency:
            raise ValueError(f"consistency must be 0 with objective albar, not {self.consistency}")
        if not 0 <= self.min_person_share <= 1:
            raise ValueError(f"min_person_share must be from 0 to 1, not {self.min_person_share}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be from 0 to below 1, not {self.label_smoothing}")

    @property
    def uses_scenes(self) -> bool:
        """Whether soft scene labels are needed."""
        return self.name in ("scene", "debias")

    @property
    def uses_masks(self) -> bool:
        """Whether human masks are needed."""
        return self.name in ("mask", "debias")

    @property
    def uses_frame_means(self) -> bool:
        """Whether the mean colours of whole frames are needed."""
        return self.uses_masks and self.fill == WHOLE_FRAME_MEAN

    @property
    def uses_stills(self) -> bool:
        """Whether each clip needs a still one beside it."""
        return self.name == "albar"

    @property
    def takes_second_derivatives(self) -> bool:
        """Whether a loss is of a gradient, so that all that it passes must have two derivatives."""
        return self.uses_stills and self.albar_penalty > 0

    @property
    def norm_of_masked(self) -> MaskedBatchNorm:
        """``masked_batch_norm``, or the default of the ``mask_step``."""
        return self.masked_batch_norm or ("clean" if self.mask_step == "one_batch" else "own")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The forward passes of one training step, each followed by a step of the optimiser."""
        if not self.uses_masks:
            return ("clean",)
        return ("clean", "masked") if self.mask_step == "alternate" else (self.mask_step,)

    @property
    def clips_in_one_batch(self) -> int:
        """Versions of each clip in the pass of the clean clips: the clip, its masked version, itself uncomposed.

        Stills are not counted: they are normalised with the clips.
        """
        return 1 + (self.uses_masks and self.mask_step == "one_batch") + (self.consistency > 0)

"""How the pixels of training clips are changed; which pixels are decoded at all, `dali_pipelines.ClipConfig` says."""

from dataclasses import dataclass

from dali_pipelines.rectangles import require_area, require_aspect

MOST_OPERATIONS = 14
"""Of RandAugment in a row: as many as there are."""
LARGEST_MAGNITUDE = 30
"""Of RandAugment; 0 is the smallest."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of training clips, the same for all frames of a clip; by default there are none."""

    rand_augment: int = 0
    """Operations of RandAugment done to each clip, one after another."""
    rand_augment_magnitude: int = 9
    """How strong they are, 0 to 30, as in torchvision."""
    jitter_brightness: float = 0.0
    """Colour jitter: brightness is multiplied by up to so much more or less than 1."""
    jitter_contrast: float = 0.0
    """The same of the contrast."""
    jitter_saturation: float = 0.0
    """The same of the saturation."""
    jitter_hue: float = 0.0
    """Hues are turned by up to so much of the whole circle, either way; at most 0.5."""
    jitter_probability: float = 1.0
    """How often a clip's colours are jittered, where any of these four is above 0."""
    grey_probability: float = 0.0
    """How often a clip loses its colours."""
    erasing_probability: float = 0.0
    """How often a rectangle of a clip is hidden, the same in all frames, in the mean colour of videos."""
    erasing_area: tuple[float, float] = (0.02, 1 / 3)
    """The smallest and largest area of that rectangle, as shares of the frame's."""
    erasing_aspect: tuple[float, float] = (0.3, 10 / 3)
    """The smallest and largest width over height of that rectangle."""

    def __post_init__(self) -> None:
        if not 0 <= self.rand_augment <= MOST_OPERATIONS:
            raise ValueError(f"rand_augment must be in [0, {MOST_OPERATIONS}], got {self.rand_augment}")
        if not 0 <= self.rand_augment_magnitude <= LARGEST_MAGNITUDE:
            raise ValueError(
                f"rand_augment_magnitude must be in [0, {LARGEST_MAGNITUDE}], got {self.rand_augment_magnitude}"
            )
        for name in ("jitter_brightness", "jitter_contrast", "jitter_saturation"):
            if not 0 <= getattr(self, name) <= 10:
                raise ValueError(f"{name} must be in [0, 10], got {getattr(self, name)}")
        if not 0 <= self.jitter_hue <= 0.5:
            raise ValueError(f"jitter_hue must be in [0, 0.5], got {self.jitter_hue}")
        for name in ("jitter_probability", "grey_probability", "erasing_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        require_area(erasing_area=self.erasing_area)
        require_aspect(erasing_aspect=self.erasing_aspect)

    @property
    def jitters(self) -> bool:
        """Whether any clip's colours are jittered."""
        strengths = (self.jitter_brightness, self.jitter_contrast, self.jitter_saturation, self.jitter_hue)
        return any(strengths) and self.jitter_probability > 0

    @property
    def changes_colours(self) -> bool:
        """Whether a clip may have other colours than its video."""
        return self.jitters or self.grey_probability > 0 or self.rand_augment > 0

    @property
    def changes_clips(self) -> bool:
        """Whether anything is done at all."""
        return self.changes_colours or self.erasing_probability > 0


NOT_AUGMENTED = AugmentConfig()
"""Every clip stays as it was decoded."""

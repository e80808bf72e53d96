"""Which clips are composed with others while training, and how."""

from dataclasses import dataclass
from typing import Literal, get_args

from shards.checks import require_at_least

Composition = Literal["background_swap", "actor_cutmix", "fame", "background_erasing", "still_mix", "mixup", "cutmix"]
COMPOSITIONS: tuple[Composition, ...] = get_args(Composition)

WITHOUT_PARTNER: frozenset[Composition] = frozenset({"background_erasing"})
"""Those for which a clip is all that it takes."""

MIXING_ACTIONS: tuple[Composition, ...] = ("actor_cutmix", "mixup", "cutmix")
"""Those after which a clip may be of two actions."""

COMPOSED_SHARE = 0.5
"""How many of the clips are composed where no probabilities are given."""


@dataclass(frozen=True, kw_only=True)
class ComposeConfig:
    """How often a training clip is composed with another, and by which method."""

    compose: tuple[Composition, ...] = ()
    """Ways to compose clips; a clip is composed in one of them, or stays as it is. None: every clip does."""
    compose_probability: tuple[float, ...] = ()
    """How often each of them is taken, in their order; empty: all alike, for half of the clips together."""
    fame_share: float = 0.5
    """Share of a frame that fame takes for the foreground (β of the paper)."""
    erasing_max: float = 0.3
    """Weight of the still frame that background_erasing adds: uniform from 0 to this."""
    still_mix_concentration: float = 200.0
    """α of the symmetric Beta distribution of a clip's own weight in still_mix."""
    mixup_alpha: float = 0.2
    """α of the symmetric Beta distribution of a clip's own weight in mixup."""
    cutmix_alpha: float = 1.0
    """α of the symmetric Beta distribution of a clip's own area in cutmix."""

    def __post_init__(self) -> None:
        for name in self.compose:
            if name not in COMPOSITIONS:
                raise ValueError(f"compose must be of {', '.join(COMPOSITIONS)}, not {name!r}")
        if len(set(self.compose)) < len(self.compose):
            raise ValueError(f"compose must name each way once, got {', '.join(self.compose)}")
        given = self.compose_probability
        if given and len(given) != len(self.compose):
            raise ValueError(
                f"compose_probability must be one number for each of compose ({len(self.compose)}), got {len(given)}"
            )
        if not all(0 <= probability <= 1 for probability in given) or sum(given) > 1 + 1e-9:
            raise ValueError(f"compose_probability must be numbers from 0 on with a sum of at most 1, got {given}")
        for field in ("fame_share", "erasing_max"):
            if not 0 < getattr(self, field) < 1:
                raise ValueError(f"{field} must be above 0 and below 1, got {getattr(self, field)}")
        # Far below, the inverse of the Beta distribution is 0 or 1 in double precision; far above, always a half.
        for field in ("still_mix_concentration", "mixup_alpha", "cutmix_alpha"):
            require_at_least(0.01, **{field: getattr(self, field)})
            if not getattr(self, field) <= 1e6:
                raise ValueError(f"{field} must be at most 1000000, got {getattr(self, field)}")

    @property
    def probabilities(self) -> tuple[float, ...]:
        """How often each way of ``compose`` is taken."""
        return self.compose_probability or tuple(COMPOSED_SHARE / len(self.compose) for _ in self.compose)

    @property
    def needs_masks(self) -> bool:
        """Whether human masks are needed."""
        return not {"background_swap", "actor_cutmix"}.isdisjoint(self.compose)

    @property
    def group_size(self) -> int:
        """Neighbours of the order that must come in one batch, as a loader's ``group_size``."""
        return 2 if set(self.compose) - WITHOUT_PARTNER else 1


AS_THEY_ARE = ComposeConfig()
"""No clip is composed."""

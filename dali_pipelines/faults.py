"""What comes of a clip that cannot be read or decoded: an error, or another clip in its place."""

import logging
from dataclasses import dataclass
from typing import Literal, get_args

from shards.errors import DamagedClipError, UserError

OnFault = Literal["raise", "skip"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FaultConfig:
    """What to do about clips that cannot be read or decoded."""

    on_fault: OnFault = "raise"
    """raise: end with an error that names the clip; skip: take another clip in its place, and count."""
    max_skipped_share: float = 0.01
    """The largest share of the data set's clips that may be skipped."""
    check_crc: bool = False
    """Compare the checksum of all that is stored of a clip with each read; a damaged film strip may look sound."""

    def __post_init__(self) -> None:
        if self.on_fault not in get_args(OnFault):
            raise ValueError(f"on_fault must be one of {', '.join(get_args(OnFault))}, got {self.on_fault!r}")
        if not 0 <= self.max_skipped_share < 1:
            raise ValueError(f"max_skipped_share must be in [0, 1), got {self.max_skipped_share}")


class Faults:
    """Counts the clips that were passed over; ``clip_count`` are in the data set.

    ``quiet``: without a line for each of them.
    """

    def __init__(self, config: FaultConfig, clip_count: int, *, quiet: bool = False) -> None:
        self._config, self._quiet = config, quiet
        self._clip_count = clip_count
        self.samples: set[int] = set()
        """The clips that were passed over so far, in this process."""

    def pass_over(self, sample: int, error: DamagedClipError) -> None:
        """Count a clip that cannot be read or decoded because of ``error``.

        Raises:
            DamagedClipError: ``error`` itself, where faults are errors.
            UserError: too many clips have been passed over.
        """
        if self._config.on_fault == "raise":
            raise error
        if sample not in self.samples:
            self.samples.add(sample)
            if not self._quiet:
                _logger.warning("skipped: %s", error)
        if len(self.samples) > self._config.max_skipped_share * self._clip_count:
            raise UserError(
                f"{len(self.samples)} of {self._clip_count} clips cannot be read, more than the"
                f" {self._config.max_skipped_share:.1%} that may be skipped; the last one: {error}"
            )

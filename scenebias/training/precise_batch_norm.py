"""The statistics that BatchNorm is evaluated and saved with: those of training batches, under the latest weights.

The running averages that training leaves are of earlier weights. So at the end of every epoch the statistics are
estimated anew (`estimate_statistics`) over the clips with which that epoch ended, put together as in training. Every
process passes the same batches, of a size that ``batch_size`` alone decides: so the statistics do not depend on the
number of processes, which need not talk about them.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn

from dali_pipelines import ClipBatch
from dali_pipelines.epoch_loader import EpochLoader
from scenebias.distributed.interruption import Interruption
from scenebias.models.batch_statistics import estimate_statistics

LARGEST_BATCH = 32
"""Clips of a batch, or those of a step of the run where these are fewer."""
LEAST_BETWEEN, SHARE_BETWEEN = 64, 16
"""Clips that are passed after all epochs but the last: a sixteenth of the epoch, and not fewer than so many.

A clip costs from a quarter (r3d_18) to nearly all (small3d, where decoding counts) of what training on it does. Over 64
clips the validation accuracy of the demo's network varies by 0.7 points (standard deviation), over all 960 by 0.2."""


@dataclass(frozen=True, kw_only=True)
class PreciseBatchNormConfig:
    """Over how many clips BatchNorm's statistics are estimated anew."""

    precise_bn_clips: int = 1024
    """Training clips, at most all, over which BatchNorm's statistics are estimated anew before the last evaluation;
    before the others at most a sixteenth of all (but 64). 0: keep the running averages of training."""

    def __post_init__(self) -> None:
        if self.precise_bn_clips < 0:
            raise ValueError(f"precise_bn_clips must be 0 or more, got {self.precise_bn_clips}")

    def clips_after(self, *, last_epoch: bool, epoch_clips: int) -> int:
        """How many of an epoch's ``epoch_clips`` are passed after it."""
        most = epoch_clips if last_epoch else max(LEAST_BETWEEN, epoch_clips // SHARE_BETWEEN)
        return min(self.precise_bn_clips, most, epoch_clips)


class PreciseBatchNorm:
    """Estimates the statistics of a model in training, over batches of ``loader``: one of a single process."""

    def __init__(self, config: PreciseBatchNormConfig, loader: EpochLoader) -> None:
        self._config, self._loader = config, loader
        self.spent_s = 0.0
        """Seconds that it took so far."""

    def estimate(
        self,
        model: nn.Module,
        epoch: int,
        forward: Callable[[ClipBatch, int], object],
        interruption: Interruption,
        *,
        last_epoch: bool,
    ) -> float:
        """Estimate the statistics of ``model`` after ``epoch``; returns the seconds that it took.

        ``forward`` passes a batch, of the step with that number, through the model. Where ``interruption`` asks for an
        end, the statistics come of those batches that were passed by then.
        """
        begun_s = time.perf_counter()
        loader = self._loader
        clips = self._config.clips_after(last_epoch=last_epoch, epoch_clips=loader.clips_per_epoch)
        # The last ones, as a loader makes batches ahead that nobody asks for, unless the epoch is over.
        first_step = loader.steps_per_epoch - math.ceil(clips * loader.steps_per_epoch / loader.clips_per_epoch)

        def batches() -> Iterator[tuple[ClipBatch, int]]:
            for step, batch in enumerate(loader.epoch(epoch, first_step), first_step):
                yield batch, step
                if interruption.requested is not None:
                    return

        estimate_statistics(model, batches(), lambda given: forward(*given))
        taken_s = time.perf_counter() - begun_s
        self.spent_s += taken_s
        return taken_s

    def cost_of(self, whole_s: float) -> str:
        """What it has taken of a run of ``whole_s`` seconds, for a person."""
        share = 100 * self.spent_s / whole_s
        return f"BatchNorm statistics estimated anew: {self.spent_s:.1f} s, {share:.1f} % of {whole_s:.0f} s"

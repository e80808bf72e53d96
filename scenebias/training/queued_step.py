"""A step that the device was given, and whose numbers the host has yet to read.

All of them come to the host together, when the device has done the step; meanwhile it may be given the next one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scenebias.distributed.process_place import ProcessPlace
from scenebias.training.ready_batches import ReadyBatch
from scenebias.training.step import StepOutcome, StepSetting


class Reading:
    """Numbers on their way from the device to the host."""

    def __init__(self, numbers: Mapping[str, Tensor]) -> None:
        """Ask for the scalars ``numbers``, which may not be computed yet."""
        self._names = tuple(numbers)
        on_device = torch.stack([number.double() for number in numbers.values()])
        self._on_host = on_device.to("cpu", non_blocking=True)
        self._come: torch.cuda.Event | None = None
        if on_device.is_cuda:
            self._come = torch.cuda.Event()
            self._come.record()

    def read(self) -> dict[str, float]:
        """Wait for them."""
        if self._come is not None:
            self._come.synchronize()
        return dict(zip(self._names, self._on_host.tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step has come to, over all processes."""

    setting: StepSetting
    numbers: dict[str, float]
    """Means over the clips and other finite numbers."""
    known: dict[str, float]
    """As of `QueuedStep`."""
    is_sound: bool
    """Whether its losses and gradients were finite, so that its updates were made."""
    skipped_clips: int
    asked_to_end: bool
    """Whether a signal had come to any process before the step was given to its device."""


@dataclass(kw_only=True)
class QueuedStep:
    """A step between its device and the log."""

    setting: StepSetting
    batch: ReadyBatch
    """Kept until the numbers are read, as the device works with it."""
    outcome: StepOutcome
    reading: Reading
    known: dict[str, float] = field(default_factory=dict)
    """More numbers for the log, which the host knows by itself; the times of the step come last."""

    @classmethod
    def of(
        cls,
        setting: StepSetting,
        batch: ReadyBatch,
        outcome: StepOutcome,
        place: ProcessPlace,
        *,
        loss_scale: Tensor,
        asked_to_end: bool,
    ) -> "QueuedStep":
        """Ask for the numbers of a step; ``loss_scale`` is a scalar. All ranks must call this."""

        def on_device(number: float) -> Tensor:
            return torch.full((), number, dtype=torch.float64, device=place.device)

        of_rank = outcome.sums | {"skipped_clips": on_device(batch.skipped_count), "asked": on_device(asked_to_end)}
        totals = place.sum_over_ranks(torch.stack([number.double() for number in of_rank.values()]))
        of_all = {"updated": outcome.updated, "loss_scale": loss_scale, **outcome.gradient_norms}
        if outcome.effective_count is not None:
            of_all["effective_count"] = outcome.effective_count
        reading = Reading(dict(zip(of_rank, totals, strict=True)) | of_all)
        return cls(setting=setting, batch=batch, outcome=outcome, reading=reading)

    def report(self) -> StepReport:
        """Wait until the device has done the step."""
        found = self.reading.read()
        of_all = {name: found.pop(name) for name in (*self.outcome.gradient_norms, "loss_scale")}
        skipped_clips, asked = int(found.pop("skipped_clips")), found.pop("asked") > 0
        updated, effective_count = found.pop("updated") > 0, found.pop("effective_count", None)
        means = _means(found, self.setting.clip_count, effective_count)
        is_sound = updated and all(math.isfinite(mean) for mean in means.values())
        numbers = {name: number for name, number in (means | of_all).items() if math.isfinite(number)}
        return StepReport(
            setting=self.setting,
            numbers=numbers | ({} if is_sound else {"skipped": 1.0}),
            known=self.known,
            is_sound=is_sound,
            skipped_clips=skipped_clips,
            asked_to_end=asked,
        )


def _means(totals: dict[str, float], clip_count: int, effective_count: float | None) -> dict[str, float]:
    """Sums over the clips of a step to means over them; none of masked clips where no mask was effective, nor of scenes
    where no clip has a label."""
    scene_clips = totals.pop("scene_clips", 0.0)
    of_scenes = {name: totals.pop(name) for name in ("scene_loss", "scene_correct") if name in totals}
    of_masked = {name: totals.pop(name) for name in ("masked_entropy", "masked_correct") if name in totals}
    means = {name: total / clip_count for name, total in totals.items()}
    if scene_clips:
        means |= {name: total / scene_clips for name, total in of_scenes.items()}
    if effective_count is not None:
        means["effective_share"] = effective_count / clip_count
        if effective_count:
            means |= {name: total / effective_count for name, total in of_masked.items()}
    return means

"""A trace of some steps of a run, by torch's profiler."""

from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch.profiler import ProfilerActivity, profile, schedule

FIRST_STEPS = 5
"""Steps before the trace: caches fill, libraries choose their algorithms."""
TRACED_STEPS = 5


class StepProfiler:
    """Writes a trace of a few steps to ``path``, after the first few; nothing where ``path`` is None.

    A trace opens in a browser at ui.perfetto.dev or chrome://tracing. A run that is too short leaves a part, or none.
    """

    def __init__(self, path: Path | None, traced_steps: int = TRACED_STEPS) -> None:
        self._path = path
        self._traced_steps = traced_steps
        self._profile: profile | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            self._profile = profile(
                activities=activities,
                schedule=schedule(wait=FIRST_STEPS - 1, warmup=1, active=self._traced_steps, repeat=1),
                on_trace_ready=self._write,
            )
            self._profile.start()
        return self

    def step_done(self) -> None:
        """A step of the run is over."""
        if self._profile is not None:
            self._profile.step()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._profile is not None:
            self._profile.stop()

    def _write(self, finished: profile) -> None:
        assert self._path is not None, "nothing is profiled without a path"
        unfinished = self._path.with_name(f".{self._path.name}")
        finished.export_chrome_trace(str(unfinished))
        unfinished.replace(self._path)

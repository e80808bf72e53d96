"""What a person sees while a run trains: a live bar on a terminal, a line every so often elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

LINE_INTERVAL_S = 10.0


class TrainingProgress:
    """Progress over all steps of a run; silent where ``visible`` is False (every rank but the first)."""

    def __init__(self, title: str, total_steps: int, done_steps: int, visible: bool) -> None:
        self.console = Console(quiet=not visible, soft_wrap=True)
        self._title = title
        self._total_steps = total_steps
        self._begun_s = self._line_s = time.monotonic()
        self._begun_at = done_steps
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self.console,
            disable=not visible or not self.console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total_steps, completed=done_steps, numbers="")

    def step(self, done_steps: int, numbers: dict[str, float]) -> None:
        """Show that ``done_steps`` are done and the latest ``numbers``."""
        text = "  ".join(f"{name} {value:.3g}" for name, value in numbers.items())
        self._bar.update(self._task, completed=done_steps, numbers=text)
        now_s = time.monotonic()
        if self._bar.disable and now_s - self._line_s > LINE_INTERVAL_S:
            self._line_s = now_s
            left_s = (now_s - self._begun_s) / (done_steps - self._begun_at) * (self._total_steps - done_steps)
            self.console.print(f"{self._title}: step {done_steps}/{self._total_steps}  {text}  {left_s:.0f} s left")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

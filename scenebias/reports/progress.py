"""What a person sees of a long job: a live bar on a terminal, a line every few seconds elsewhere."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_INTERVAL_S = 5.0


class ProgressDisplay:
    """Progress towards ``total`` units, with their rate and the time left; as a context manager.

    ``done`` units may be done already, and do not count for the rate. Nothing is shown unless ``visible``.
    """

    def __init__(self, title: str, total: int, unit: str, *, done: int = 0, visible: bool = True) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = self._begun_at = done
        self._begun_s = self._line_s = time.monotonic()
        self._console = Console(stderr=True, quiet=not visible, soft_wrap=True, highlight=False)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total, completed=done, numbers="")

    def begin(self, done: int, total: int) -> None:
        """The work turns out to be ``total`` units, ``done`` of them done already; the rate counts from here."""
        self._total, self._done, self._begun_at = total, done, done
        self._begun_s = self._line_s = time.monotonic()
        self._bar.update(self._task, completed=done, total=total)

    def advance(self) -> None:
        """One more unit is done."""
        self.update(self._done + 1)

    def update(self, done: int, numbers: Mapping[str, float] | None = None) -> None:
        """``done`` units are done in all; show the latest ``numbers`` beside the rate."""
        self._done = done
        now_s = time.monotonic()
        rate = (done - self._begun_at) / max(now_s - self._begun_s, 1e-9)
        shown = [f"{rate:.3g} {self._unit}/s", *(f"{name} {value:.3g}" for name, value in (numbers or {}).items())]
        self._bar.update(self._task, completed=done, numbers="  ".join(shown))
        if self._bar.disable and now_s - self._line_s >= LINE_INTERVAL_S:
            self._line_s = now_s
            left = f", {(self._total - done) / rate:.0f} s left" if rate else ""
            self._console.print(f"{self._title}: {done}/{self._total} {self._unit}, {', '.join(shown)}{left}")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

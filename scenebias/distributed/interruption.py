"""What to do when the machine is wanted back: go on to a point where nothing is lost, save, and end.

Batch systems and spot machines send a signal a while before they kill: SIGTERM, or what was asked for (Slurm:
``--signal=USR1@120``). A signal that comes again while the first is being answered changes nothing.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from scenebias.distributed.process_place import ProcessPlace

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Interruption:
    """Whether this process has been asked to end."""

    def __init__(self) -> None:
        self.requested: int | None = None
        """The first signal that came; None: go on."""

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.requested = self.requested or number

    def end_together(self, place: ProcessPlace) -> None:
        """Raise `Interrupted` in all processes where a signal has come to any of them; all must call this."""
        asked = torch.tensor(self.requested is not None, dtype=torch.int64, device=place.device)
        if place.sum_over_ranks(asked):
            raise self.ended()

    def ended(self) -> "Interrupted":
        """The end of this process that was asked for; where another process was asked alone, as by SIGTERM."""
        return Interrupted(self.requested or signal.SIGTERM)


class Interrupted(SystemExit):
    """Ends the process as the signal would have: exit status 128 + ``signal_number``, as a shell reports it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)
        self.signal_name = signal.Signals(signal_number).name


@contextmanager
def noted_signals() -> Iterator[Interruption]:
    """Note SIGTERM and SIGUSR1 inside, instead of dying of them; the handlers of before afterwards.

    Only the main thread may enter.
    """
    interruption = Interruption()
    before = {number: signal.signal(number, interruption._note) for number in SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

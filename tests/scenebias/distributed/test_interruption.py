"""A signal that asks for an end is noted, and nothing else changes."""

import os
import signal
from contextlib import suppress

import pytest
import torch

from scenebias.distributed.interruption import SIGNALS, Interrupted, noted_signals
from scenebias.distributed.process_place import ProcessPlace

ALONE = ProcessPlace(rank=0, world_size=1, device=torch.device("cpu"))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_ends_the_process_with_its_status_where_it_is_let(number: signal.Signals) -> None:
    with noted_signals() as interruption:
        interruption.end_together(ALONE)
        assert interruption.requested is None
        os.kill(os.getpid(), number)
        assert interruption.requested == number
        with pytest.raises(Interrupted) as ended:
            interruption.end_together(ALONE)
    assert ended.value.code == 128 + number
    assert ended.value.signal_name == number.name


def test_the_first_of_several_signals_counts() -> None:
    with noted_signals() as interruption:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert interruption.requested == signal.SIGUSR1


def test_the_handlers_of_before_are_back_after_an_error_too() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with suppress(ZeroDivisionError), noted_signals():
        assert [signal.getsignal(number) for number in SIGNALS] != before
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == before

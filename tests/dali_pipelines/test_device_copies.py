"""What must hold of copies to a GPU, which is played here: their order on the streams, how long memory is kept."""

import gc
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from dali_pipelines import device_copies
from dali_pipelines.device_copies import DeviceCopies


@dataclass(frozen=True)
class Numbers:
    values: Tensor
    name: str


class PlayedGpu:
    """Streams that note what they are told; a copy is done when the test says so."""

    def __init__(self):
        self.told, self.done, self.waited = [], set(), []
        self.current, self.events = "default", 0

    def Stream(self, device):
        del device
        return SimpleNamespace(record_event=self.record_event)

    @contextmanager
    def stream(self, stream):
        del stream
        self.current = "copies"
        yield
        self.current = "default"

    def record_event(self):
        number, self.events = self.events, self.events + 1
        self.told.append(("copied", number, self.current))
        return SimpleNamespace(
            number=number, query=lambda: number in self.done, synchronize=lambda: self.waited.append(number)
        )

    def current_stream(self, device):
        del device
        return SimpleNamespace(
            name="consumer", wait_event=lambda event: self.told.append(("waits", event.number, "consumer"))
        )


@pytest.fixture
def gpu(monkeypatch):
    played = PlayedGpu()
    monkeypatch.setattr(device_copies, "cuda", played)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor.clone())
    monkeypatch.setattr(
        Tensor, "record_stream", lambda tensor, stream: played.told.append(("used", int(tensor[0]), stream.name))
    )
    return played


def batches(count, seen=None):
    for number in range(count):
        values = torch.full((4,), number)
        if seen is not None:
            seen.append(weakref.ref(values))
        yield Numbers(values, f"batch {number}")
        del values


def test_the_consumers_stream_waits_for_each_copy_and_keeps_its_memory(gpu):
    copies = DeviceCopies(torch.device("cpu"), depth=2)
    received = list(copies.received(copies.started(batches(3))))
    assert [batch.name for batch in received] == ["batch 0", "batch 1", "batch 2"]
    assert [batch.values.tolist() for batch in received] == [[number] * 4 for number in range(3)]
    for number in range(3):
        own = [what for what in gpu.told if what[1] == number]
        assert own == [("copied", number, "copies"), ("waits", number, "consumer"), ("used", number, "consumer")]


def test_memory_is_kept_until_its_copy_is_done_and_no_longer(gpu, monkeypatch):
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)  # what is copied is what the batch holds
    monkeypatch.setattr(Tensor, "to", lambda tensor, *_, **__: tensor.clone())
    seen = []
    started = DeviceCopies(torch.device("cpu"), depth=2).started(batches(4, seen))
    next(started), next(started)
    gc.collect()
    assert seen[0]() is not None  # its copy is not done
    gpu.done.add(0)
    next(started)
    gc.collect()
    assert seen[0]() is None
    assert seen[1]() is not None
    assert not [number for number in gpu.waited if number not in gpu.done]


@pytest.mark.parametrize("stop_after", [1, 2])
def test_every_copy_is_done_when_an_iteration_ends_or_is_ended(gpu, stop_after):
    started = DeviceCopies(torch.device("cpu"), depth=5).started(batches(2))
    for _ in range(stop_after):
        next(started)
    started.close()
    assert gpu.waited == list(range(stop_after))


def test_no_more_copies_are_under_way_than_asked_for(gpu):
    started = DeviceCopies(torch.device("cpu"), depth=2).started(batches(4))
    for _ in range(4):
        next(started)
    assert gpu.waited == [0, 1]

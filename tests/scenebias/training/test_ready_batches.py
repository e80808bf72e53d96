"""Batches are made ready while the one before is used, in a thread that ends with the block."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dali_pipelines import ClipBatch, ClipConfig, TrainLoader
from scenebias.training.ready_batches import ReadyBatch, made_ahead
from shards.dataset import ShardDataset
from tests.forked import LONGEST_RUN_S

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def batch(tiny_dataset: Path) -> ClipBatch:
    loader = TrainLoader(ShardDataset.open(tiny_dataset), ClipConfig(frames=2, size=16), global_batch_size=4)
    return next(iter(loader.epoch(0)))


def make(place: int, batch: ClipBatch) -> ReadyBatch:
    return ReadyBatch(inputs={}, sample_B=batch.sample_B, skipped_count=place + batch.skipped_count)


def test_one_batch_is_made_while_the_one_before_is_used_and_no_more(batch: ClipBatch) -> None:
    asked = [threading.Event() for _ in range(4)]

    def batches() -> Iterator[ClipBatch]:
        for event in asked:
            event.set()
            yield batch

    with made_ahead(batches(), make, CPU) as ahead:
        for number in range(3):
            assert next(ahead).skipped_count == number
            assert asked[number + 1].wait(LONGEST_RUN_S)
            assert not any(event.is_set() for event in asked[number + 2 :])


def test_every_batch_comes_in_its_place_and_the_thread_ends(batch: ClipBatch) -> None:
    before = threading.active_count()
    with made_ahead((replace(batch, skipped_count=10 * number) for number in range(5)), make, CPU) as ahead:
        assert [ready.skipped_count for ready in ahead] == [0, 11, 22, 33, 44]
    with made_ahead(iter([batch] * 3), make, CPU) as ahead:
        next(ahead)
    assert threading.active_count() == before


@pytest.mark.parametrize("where", ["loading", "making"])
def test_what_goes_wrong_in_the_thread_is_raised_where_the_batch_is_asked_for(batch: ClipBatch, where: str) -> None:
    def batches() -> Iterator[ClipBatch]:
        yield batch
        if where == "loading":
            raise OSError("gone")
        yield batch

    def make_or_fail(place: int, batch: ClipBatch) -> ReadyBatch:
        if place == 1:
            raise OSError("gone")
        return make(place, batch)

    with made_ahead(batches(), make_or_fail, CPU) as ahead:
        next(ahead)
        with pytest.raises(OSError, match="gone"):
            next(ahead)

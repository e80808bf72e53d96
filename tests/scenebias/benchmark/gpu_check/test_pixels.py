"""What must hold of the comparison of pixels: it passes what is right, and sees a batch of other or of lost pixels."""

from dataclasses import replace

import pytest
import torch

from dali_pipelines import ClipConfig, TrainLoader
from scenebias.benchmark.gpu_check.pixels import KEPT, check_pixels, compare_for
from shards.dataset import ShardDataset


class Batch:
    """Stands in for a ClipDecoder: ``spoil`` changes what it serves."""

    def __init__(self, batches, spoil=None):
        self.served, self.spoil = batches, spoil or (lambda number, served: None)

    def batches(self, draws):
        served = []
        for number, _ in enumerate(draws):
            batch = self.served[number]
            served.append(replace(batch, clip_BTHWC=batch.clip_BTHWC.clone(), mask_BTHW=batch.mask_BTHW.clone()))
            self.spoil(number, served)
            yield served[number]


@pytest.fixture(scope="module")
def expected(tiny_dataset):
    loader = TrainLoader(ShardDataset.open(tiny_dataset), ClipConfig(frames=8, size=32), global_batch_size=2)
    return list(loader.epoch(0))


def compared(expected, spoil=None):
    return compare_for(0, Batch(expected, spoil), [None] * len(expected), expected)


def test_the_cpus_two_crops_agree_under_load(small):
    outcome = check_pixels(small)
    assert outcome.status == "passed", outcome
    assert outcome.values["compared"] >= 12
    assert 0 < outcome.values["clip_mean"] < 1
    assert outcome.values["mask_share"] == 0


def test_the_same_batches_do_not_differ(expected):
    found = compared(expected)
    assert (found.clip_mean, found.pixel, found.mask_share, found.races) == (0, 0, 0, [])
    assert found.compared == sum(len(batch.label_B) for batch in (*expected, *expected[:-KEPT]))


def test_a_clip_of_other_pixels_is_found(expected):
    def spoil(number, served):
        if number == 1:
            served[1].clip_BTHWC[0] = expected[0].clip_BTHWC[0]

    races = compared(expected, spoil).races
    assert {race["sample"] for race in races} == {int(expected[1].sample_B[0])}
    assert {race["when"] for race in races} == {"at once", "later"}
    assert min(race["clip_mean"] for race in races) > 20


def test_a_batch_that_is_written_to_after_it_was_handed_over_is_found(expected):
    def spoil(number, served):
        if number == 2:
            served[0].mask_BTHW.logical_not_()

    races = compared(expected, spoil).races
    assert {(race["sample"], race["when"]) for race in races} == {
        (sample, "later") for sample in expected[0].sample_B.tolist()
    }
    assert all(race["mask_share"] == 1 for race in races)


def test_rounding_is_no_race(expected):
    def spoil(number, served):
        clip_BTHWC = served[number].clip_BTHWC
        clip_BTHWC.copy_((clip_BTHWC.int() + 2).clamp(max=255).to(torch.uint8))

    found = compared(expected, spoil)
    assert found.races == []
    assert 1 < found.clip_mean <= 2

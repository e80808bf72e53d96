"""What must hold of measuring augmentation."""

from itertools import islice
from pathlib import Path
from typing import get_args

import pytest
import torch

from dali_pipelines import ClipConfig, TrainLoader
from scenebias.benchmark.training.augmentations import AUGMENTATIONS, CHANGED, LOADED, Augmentation, augmentation_turns
from scenebias.training.recipes import PRETRAIN_RECIPES
from shards.dataset import ShardDataset

CLIP = ClipConfig(frames=4, size=24)


def test_every_augmentation_is_measured_and_the_set_is_the_recipe_s() -> None:
    assert {*LOADED, *CHANGED} == set(get_args(Augmentation))
    assert CHANGED["swin_strong_set"] == PRETRAIN_RECIPES["swin_strong"]["augment"]


@pytest.mark.parametrize("names", [AUGMENTATIONS, ("grey",)], ids=["all", "one"])
def test_a_turn_of_each_tells_a_rate_and_leaves_the_batches(
    tiny_dataset: Path, names: tuple[Augmentation, ...]
) -> None:
    loader = TrainLoader(ShardDataset.open(tiny_dataset), CLIP, global_batch_size=4)
    batches = list(islice(loader.epoch(0), 2))
    before = [batch.clip_BTHWC.clone() for batch in batches]
    turns = augmentation_turns(names, loader, batches, CLIP, torch.device("cpu"), threads=1)
    assert set(turns) == ({"loading", *names} if names == AUGMENTATIONS else set(names))
    for turn in turns.values():
        times = turn()
        assert times.clips_per_s > 0
        assert times.clips == pytest.approx(8)
    assert all(torch.equal(batch.clip_BTHWC, clip) for batch, clip in zip(batches, before, strict=True))

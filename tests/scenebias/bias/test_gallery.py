"""Which clips the gallery shows, and what it says of them.

Shape suffixes: M swapped clips.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dali_pipelines import ClipConfig
from scenebias.bias.gallery import choose_disagreements, make_gallery
from scenebias.bias.measuring import BiasTest
from scenebias.bias.model_bias import CLEAN
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import Evaluation
from shards.dataset import ShardDataset
from shards.errors import UserError

PLACE = ProcessPlace(0, 1, torch.device("cpu"))


class Says(nn.Module):
    """A model that says one action, whatever it sees."""

    action_count = feature_count = 3

    def __init__(self, action: int) -> None:
        super().__init__()
        self.action = action

    def features(self, clip_BTHWC: Tensor) -> Tensor:
        return nn.functional.one_hot(torch.full((len(clip_BTHWC),), self.action), 3).float()

    def forward(self, clip_BTHWC: Tensor) -> Tensor:
        return 3 * self.features(clip_BTHWC)


def bias_test(train: Path, val: Path, *, needs_swaps: bool = False) -> BiasTest:
    datasets = ShardDataset.open(train), ShardDataset.open(val)
    return BiasTest.prepare(ClipConfig(size=48), *datasets, PLACE, threads=1, needs_swaps=needs_swaps)


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_the_greatest_differences_come_first(clips: int, most: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    label_M = random.integers(0, 3, clips)
    first, second = (Evaluation(random.dirichlet(np.ones(3), clips), label_M) for _ in range(2))
    chosen = choose_disagreements(first, second, most)
    differing = np.flatnonzero(first.prediction_N != second.prediction_N)
    distance_M = np.abs(first.probability_NA - second.probability_NA).sum(axis=1)
    assert len(chosen) == len(set(chosen)) == min(most, len(differing))
    assert set(chosen) <= set(differing)
    assert np.array_equal(distance_M[chosen], np.sort(distance_M[differing])[::-1][:most])


def test_it_shows_the_clips_with_what_both_models_say(plain_train: Path, plain_test: Path) -> None:
    test = bias_test(plain_train, plain_test)
    biases = {f"says {action}": test.measure(Says(action)) for action in range(2)}  # type: ignore[arg-type]
    gallery = make_gallery(test, biases, most=4)
    section = gallery.section()
    assert section.body.count("<img") == 4
    assert (
        len(re.findall("[✓✗]\N{NO-BREAK SPACE}blue", section.body))
        == len(re.findall("[✓✗]\N{NO-BREAK SPACE}green", section.body))
        == 8
    )
    right = {action: biases[f"says {action}"].evaluations[CLEAN].top1 * 21 for action in range(2)}
    assert f"says 0 alone is right on {right[0]:.0f}, says 1 alone on {right[1]:.0f}, both on 0" in section.body
    named = re.findall(r"(\w+/clip\d+), and below before the background of (\w+/clip\d+)</figcaption>", section.body)
    assert len(named) == 4
    assert all(human.split("/")[0] != background.split("/")[0] for human, background in named)
    titles = [axis.get_title(loc="left") for axis in gallery.figure().axes]
    assert [title.split("\n")[0] for title in titles] == [human.split("/")[0] for human, _ in named]
    assert all("says 0: " in title and "says 1: " in title for title in titles)


def test_models_that_agree_leave_it_empty(plain_train: Path, plain_test: Path) -> None:
    test = bias_test(plain_train, plain_test)
    bias = test.measure(Says(0))  # type: ignore[arg-type]
    gallery = make_gallery(test, {"a": bias, "b": bias})
    assert "<img" not in gallery.section().body
    assert not any(axis.get_images() for axis in gallery.figure().axes)


def test_clips_without_masks_have_no_gallery(plain_train: Path, plain_test_without_masks: Path) -> None:
    with pytest.raises(UserError, match="no clips whose humans can change backgrounds"):
        bias_test(plain_train, plain_test_without_masks, needs_swaps=True)
    assert not len(bias_test(plain_train, plain_test_without_masks).swaps.sample_M)

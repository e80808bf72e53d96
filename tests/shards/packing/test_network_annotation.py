from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.codecs.masks import pack_masks, resize_masks
from shards.format.sample import SCENE_COUNT
from shards.packing.clip_preparation import FrameDemand, PreparedClip
from shards.packing.network_annotation import add_masks, add_scenes


class BrightPixels:
    """Finds bright pixels, some frames at a time, and notes how many frames each batch had."""

    def __init__(self, every: int, batch: int) -> None:
        self.every, self._batch = every, batch
        self.batches: list[int] = []

    def settings(self) -> dict:
        return {}

    def masks(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        frames = iter(frames)
        while batch := list(islice(frames, self._batch)):
            self.batches.append(len(batch))
            yield from (frame[..., 0] > 127 for frame in batch)

    def probabilities(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for frame in frames:
            yield np.eye(SCENE_COUNT, dtype=np.float32)[int(frame[0, 0, 1])]


@pytest.fixture(scope="module")
def make_clip(synthetic_sample):
    def make(number: int, frame_count: int, strides: frozenset[int]) -> PreparedClip:
        random = np.random.default_rng((number, frame_count))
        frames = random.integers(0, 256, (frame_count, 20 + number % 3, 30, 3), np.uint8)
        sample = synthetic_sample(number, frame_count, masks=False, scene=False)
        wanted = FrameDemand(strides)
        return PreparedClip(sample, {k: frame for k, frame in enumerate(frames) if wanted.wants(k)})

    return make


@given(
    frame_counts=st.lists(st.integers(1, 9), max_size=6),
    mask_every=st.integers(1, 4),
    scene_every=st.integers(1, 4),
    batch=st.integers(1, 7),
)
def test_each_clip_gets_what_the_network_says_of_its_own_frames(
    make_clip, frame_counts, mask_every, scene_every, batch
):
    strides = frozenset({mask_every, scene_every})
    clips = [make_clip(number, count, strides) for number, count in enumerate(frame_counts)]
    mask_network, scene_network = BrightPixels(mask_every, batch), BrightPixels(scene_every, batch)
    annotated = list(add_scenes(add_masks(iter(clips), mask_network, 0.5), scene_network))
    assert [clip.sample.info.name for clip in annotated] == [clip.sample.info.name for clip in clips]
    for clip, result in zip(clips, annotated, strict=True):
        count = clip.sample.info.frame_count
        seen = [clip.network_frames[k - k % mask_every][..., 0] > 127 for k in range(count)]
        size = (result.sample.info.mask_height, result.sample.info.mask_width)
        assert np.array_equal(result.sample.masks, pack_masks(resize_masks(np.stack(seen), size)))
        tops = [int(clip.network_frames[k][0, 0, 1]) for k in range(0, count, scene_every)]
        assert np.allclose(result.sample.scene, np.bincount(tops, minlength=365)[:365] / len(tops), atol=1e-3)
        assert list(result.sample.problems()) == []


def test_a_batch_is_filled_across_clips(make_clip):
    network = BrightPixels(2, 8)
    clips = [make_clip(number, 5, frozenset({2})) for number in range(8)]
    assert len(list(add_masks(iter(clips), network, 0.5))) == 8
    assert network.batches == [8, 8, 8]

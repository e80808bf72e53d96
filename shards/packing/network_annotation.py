"""Add to clips what networks see in them: a stream of clips becomes a stream of frames, and comes back annotated.

Frames of several clips run through a network together, so short clips fill its batches as well as long ones.

Array suffixes: H height, W width, C colours, N frames of a clip, M frames that a network sees, S scene categories.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.packing.annotations import MaskNetwork, SceneNetwork
from shards.packing.clip_preparation import PreparedClip, with_masks


def add_masks(clips: Iterable[PreparedClip], network: MaskNetwork, mask_scale: float) -> Iterator[PreparedClip]:
    """Give every clip the network's masks; frames that it did not see keep the mask before them."""
    for clip, mask_MHW in _run(clips, network.every, network.masks):
        frame_count = clip.sample.info.frame_count
        mask_NHW = mask_MHW[np.arange(frame_count) // network.every]
        yield replace(clip, sample=with_masks(clip.sample, mask_NHW, mask_scale))


def add_scenes(clips: Iterable[PreparedClip], network: SceneNetwork) -> Iterator[PreparedClip]:
    """Give every clip the mean of the network's probabilities."""
    for clip, probability_MS in _run(clips, network.every, network.probabilities):
        scene_S = probability_MS.mean(axis=0, dtype=np.float64)
        yield replace(clip, sample=replace(clip.sample, scene=scene_S.astype(np.float16)))


def _run(
    clips: Iterable[PreparedClip], every: int, network: Callable[[Iterable[NDArray[np.uint8]]], Iterator[NDArray[Any]]]
) -> Iterator[tuple[PreparedClip, NDArray[Any]]]:
    """Yield each clip with the network's results for its frames 0, every, 2 * every, ..., stacked."""
    waiting: deque[PreparedClip] = deque()

    def frames() -> Iterator[NDArray[np.uint8]]:
        for clip in clips:
            waiting.append(clip)
            for number in range(0, clip.sample.info.frame_count, every):
                yield clip.network_frames[number]

    results: list[NDArray[Any]] = []
    for result in network(frames()):
        results.append(result)
        if len(results) == -(-waiting[0].sample.info.frame_count // every):
            yield waiting.popleft(), np.stack(results)
            results = []
    assert not waiting, "the network gave fewer results than it got frames"

"""Windows made ahead: each key frame once, in the same order whoever reads them."""

import numpy as np
import pytest
import torch

from scenebias.detect.key_frames import InputConfig, KeyFrames
from scenebias.detect.windows_ahead import ReadingConfig, TrainingWindows, evaluation_batches, in_threads
from tests.scenebias.detect.rectangles import CLIP, write_rectangles


@pytest.fixture(scope="module")
def key_frames(tmp_path_factory: pytest.TempPathFactory) -> KeyFrames:
    return KeyFrames.of(write_rectangles(tmp_path_factory.mktemp("rectangles"), 3), 5)


def shown(batches: list) -> list[torch.Tensor]:
    return [torch.stack([window.clip_THWC for window in batch]) for batch in batches]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_together_train_on_what_one_does_and_go_on_from_any_step(key_frames: KeyFrames, world_size: int) -> None:
    alone = TrainingWindows(key_frames, CLIP, InputConfig(), 5, seed=1)
    more_threads = TrainingWindows(key_frames, CLIP, InputConfig(), 5, 1, ReadingConfig(loader_threads=3))
    whole = shown(list(alone.batches(0, 2, 0, rank=0, world_size=1)))
    assert len(whole) == 2 * alone.steps_per_epoch
    assert sum(map(len, whole)) == 2 * len(key_frames)
    for start_step in (0, 1):
        ranks = [shown(list(more_threads.batches(0, 2, start_step, rank, world_size))) for rank in range(world_size)]
        assert all(map(torch.equal, map(torch.cat, zip(*ranks, strict=True)), whole[start_step:]))


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_ranks_together_look_at_every_key_frame_once(key_frames: KeyFrames, world_size: int) -> None:
    size = InputConfig().size(CLIP)
    batches = [
        batch
        for rank in range(world_size)
        for batch in evaluation_batches(key_frames, CLIP, size, 4, rank=rank, world_size=world_size)
    ]
    assert np.concatenate([batch.number_B for batch in batches]).tolist() == list(range(len(key_frames)))
    assert all(batch.clip_BTHWC.shape == (len(batch.number_B), CLIP.frames, *size, 3) for batch in batches)


def test_work_is_done_in_order_and_no_further_ahead_than_asked() -> None:
    drawn: list[int] = []

    def items():
        for number in range(10):
            drawn.append(number)
            yield number

    results = in_threads(lambda number: 10 // (7 - number), items(), threads=2, ahead=3)
    assert next(results) == 1
    assert drawn == [0, 1, 2, 3]
    assert [next(results) for _ in range(6)] == [10 // (7 - number) for number in range(1, 7)]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_training_windows_differ_between_seeds_and_epochs(key_frames: KeyFrames) -> None:
    def first(seed: int, epoch: int) -> torch.Tensor:
        windows = TrainingWindows(key_frames, CLIP, InputConfig(), len(key_frames), seed)
        return shown(list(windows.batches(epoch, epoch + 1, 0, 0, 1)))[0]

    assert torch.equal(first(0, 0), first(0, 0))
    assert not torch.equal(first(0, 0), first(0, 1))
    assert not torch.equal(first(0, 0), first(1, 0))

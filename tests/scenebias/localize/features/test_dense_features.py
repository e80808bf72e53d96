"""Dense features are those of the windows one by one; the video is never in memory as a whole."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dali_pipelines.windows import ClipConfig
from scenebias.localize.features.dense_features import DenseConfig, dense_features, dense_track, shared_layers
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BackboneName
from shards.dataset import ShardDataset
from tools.trials.ready_samples import sample_from_frames, write_samples

SIDE = 32


def model_of(backbone: BackboneName) -> ActionModel:
    """Its BatchNorms have statistics of their own."""
    torch.manual_seed(0)
    model = ActionModel(ModelConfig(backbone=backbone), 3)
    model.features(video(32)[None].reshape(2, 16, SIDE, SIDE, 3))
    return model.eval().requires_grad_(False)


def video(frames: int) -> torch.Tensor:
    return torch.randint(
        0, 256, (frames, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(frames)
    )


def one_by_one(model: ActionModel, frames_NSSC: torch.Tensor, window: int, stride: int) -> torch.Tensor:
    starts = range(0, len(frames_NSSC) - window + 1, stride)
    with torch.inference_mode():
        return torch.cat([model.features(frames_NSSC[None, start : start + window]) for start in starts]).T


SMALL = model_of("small3d")


@settings(max_examples=30)
@given(st.integers(8, 60), st.integers(2, 8), st.integers(1, 6), st.integers(1, 13), st.integers(1, 5))
def test_dense_features_are_those_of_the_windows_one_by_one(
    frames: int, window: int, stride: int, piece: int, batch_size: int
) -> None:
    frames_NSSC, stride = video(frames), min(stride, window)
    dense = dense_features(SMALL, frames_NSSC.split(piece), window, stride, batch_size)
    torch.testing.assert_close(dense, one_by_one(SMALL, frames_NSSC, window, stride), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", ["r3d_18", "resnet3d_18_a"])
def test_so_are_those_of_a_network_that_looks_across_windows(backbone: BackboneName) -> None:
    model, frames_NSSC = model_of(backbone), video(30)
    dense = dense_features(model, frames_NSSC.split(7), 16, 4)
    torch.testing.assert_close(dense, one_by_one(model, frames_NSSC, 16, 4), rtol=1e-3, atol=1e-4)
    assert shared_layers(model.backbone, 16, 4)[1] == 1


def test_layers_are_shared_where_windows_begin_on_patches_alone() -> None:
    assert [shared_layers(SMALL.backbone, *sizes)[1] for sizes in ((16, 4), (16, 3), (15, 4))] == [2, 1, 1]


def test_pieces_are_let_go_of_as_they_are_used() -> None:
    alive, most = 0, 0

    def let_go() -> None:
        nonlocal alive
        alive -= 1

    def pieces() -> Iterator[torch.Tensor]:
        nonlocal alive, most
        for _ in range(12):
            piece = video(16).clone()
            weakref.finalize(piece.untyped_storage(), let_go)
            alive += 1
            most = max(most, alive)
            yield piece

    assert dense_features(SMALL, pieces(), 16, 4).shape == (128, 45)
    assert most <= 2


def test_the_mode_of_the_model_stays_as_it_was() -> None:
    model = model_of("small3d").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    dense_features(model, [video(16)], 16, 4)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_fewer_frames_than_a_window_are_refused() -> None:
    with pytest.raises(ValueError, match="16 frames of a window"):
        dense_features(SMALL, [video(15)], 16, 4)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    """Videos of 50 and of 5 frames at 10 frames a second, in strips of 16."""
    random = np.random.default_rng(0)
    samples = [
        sample_from_frames(
            random.integers(0, 256, (frames, 32, 48, 3), dtype=np.uint8), name=f"a/{frames}", fps=10, frames_per_part=16
        )
        for frames in (50, 5)
    ]
    folder = tmp_path_factory.mktemp("dense") / "train"
    write_samples(folder, samples, ("a",), dataset="noise", subset="train", quality=95, samples_per_shard=2)
    return ShardDataset.open(Path(folder))


def test_a_packed_video_has_the_features_of_its_windows_and_their_times(packed: ShardDataset) -> None:
    clip = ClipConfig(frames=8, stride=2, size=32)
    track = dense_track(SMALL, packed, 0, clip, DenseConfig(feature_stride=4, feature_batch_size=3))
    squares_NSSC = torch.from_numpy(packed[0].frames[:, :, 8:40])
    expected = one_by_one(SMALL, squares_NSSC[::2], 8, 2)
    torch.testing.assert_close(track.feature_CT, expected, rtol=1e-4, atol=1e-5)
    assert len(track) == (50 - clip.span) // 4 + 1
    assert (track.first_s, track.step_s, track.duration_s) == (0.75, 0.4, 5.0)  # the first window has frames 0 to 14


def test_a_video_that_is_shorter_than_a_window_loops(packed: ShardDataset) -> None:
    track = dense_track(SMALL, packed, 1, ClipConfig(frames=8, size=32))
    looped_TSSC = torch.from_numpy(packed[1].frames[np.arange(8) % 5][:, :, 8:40])
    with torch.inference_mode():
        torch.testing.assert_close(track.feature_CT.T, SMALL.features(looped_TSSC[None]), rtol=1e-4, atol=1e-5)


def test_windows_that_begin_between_frames_are_refused(packed: ShardDataset) -> None:
    with pytest.raises(ValueError, match="feature_stride must be a multiple of the stride of the windows' frames, 3"):
        dense_track(SMALL, packed, 0, ClipConfig(stride=3), DenseConfig(feature_stride=4))
    with pytest.raises(ValueError, match="feature_stride must be at most 8"):
        dense_track(SMALL, packed, 0, ClipConfig(frames=8), DenseConfig(feature_stride=9))
    with pytest.raises(ValueError, match="feature_stride"):
        DenseConfig(feature_stride=0)

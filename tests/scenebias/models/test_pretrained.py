"""A loaded model sees what the evaluation shows it, and what it says is what the evaluation counts.

Shape suffixes: N frames of a clip, H rows, W columns, C colours; B windows, T frames of a window, S side of the input.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import scenebias
from dali_pipelines import ClipConfig, EvalLoader
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import evaluate_model
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.pretrained import ClipTransform
from scenebias.models.weights import WeightsMetadata, save_weights
from scenebias.run_folder.record import plain
from shards.dataset import ShardDataset
from shards.errors import UserError

CLIP = ClipConfig(frames=8, stride=2, size=32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    metadata = WeightsMetadata(
        backbone="small3d", classes=("clap", "jump", "wave"), trained_on=(), configuration={"clip": plain(CLIP)}
    )
    save_weights(path, ActionModel(ModelConfig(backbone="small3d"), 3), metadata)
    return path


def stored_frames(dataset: ShardDataset, i: int) -> np.ndarray:
    return dataset.decode(i, dataset.read_clip(i, np.arange(dataset.frame_counts[i])))


def test_windows_of_stored_clips_are_those_of_the_evaluation(tiny_dataset: Path) -> None:
    dataset = ShardDataset.open(tiny_dataset)
    transform = ClipTransform(CLIP)
    for batch in EvalLoader(dataset, CLIP, batch_size=1):
        i, window = int(batch.sample_B), int(batch.window_B)
        frames_NHWC = stored_frames(dataset, i)
        window_BTSSC = transform(frames_NHWC)
        difference_TSSC = window_BTSSC[window].int() - batch.clip_BTHWC[0].int()
        assert difference_TSSC.abs().max() <= 1  # two JPEG decoders


def test_masks_are_cut_like_their_frames() -> None:
    mask_NHW = np.random.default_rng(0).random((20, 31, 50)) < 0.5
    frames_NHWC = mask_NHW[..., None].repeat(3, axis=-1).astype(np.uint8) * 255
    transform = ClipTransform(ClipConfig(frames=8, size=31))  # no pixels are blended at this size
    torch.testing.assert_close(transform.masks(mask_NHW), transform(frames_NHWC)[..., 0] == 255)


@given(st.integers(1, 40), st.integers(4, 40), st.integers(4, 40), st.integers(1, 9), st.integers(1, 3))
def test_any_clip_gives_whole_windows_in_order(frames: int, height: int, width: int, length: int, stride: int) -> None:
    clip = ClipConfig(frames=length, stride=stride, size=16)
    # Each frame is one grey level: its number.
    frames_NHWC = np.arange(frames, dtype=np.uint8)[:, None, None, None] * np.ones((1, height, width, 3), np.uint8)
    window_BTSSC = ClipTransform(clip)(frames_NHWC)
    seen_BT = window_BTSSC[:, :, 0, 0, 0].tolist()
    assert (window_BTSSC == window_BTSSC[:, :, :1, :1, :1]).all()
    whole = [
        list(range(start, start + (length - 1) * stride + 1, stride))
        for start in range(0, frames, length * stride)
        if start + (length - 1) * stride < frames
    ]
    assert seen_BT == (whole or [[number * stride % frames for number in range(length)]])


@pytest.mark.parametrize(
    "frames", [np.zeros((4, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8)]
)
def test_other_arrays_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"frames must be uint8 \(N, H, W, 3\)"):
        ClipTransform(CLIP)(frames)


def test_three_lines_give_the_probabilities_that_the_evaluation_counts(tiny_dataset: Path, weights: Path) -> None:
    dataset = ShardDataset.open(tiny_dataset)
    model, classes, transform = scenebias.load(weights)
    with torch.inference_mode():
        probability_A = model(transform(stored_frames(dataset, 7))).softmax(dim=1).mean(dim=0)
    assert classes == ("clap", "jump", "wave")
    place = ProcessPlace(0, 1, torch.device("cpu"))
    evaluation = evaluate_model(model, EvalLoader(dataset, CLIP, batch_size=4), 3, place)
    np.testing.assert_allclose(probability_A, evaluation.probability_NA[7], atol=1e-3)


def test_weights_are_loaded_ready_to_use(weights: Path) -> None:
    model, _, _ = scenebias.load(str(weights))
    assert not model.training


def test_a_file_that_is_no_weights_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such weight file"):
        scenebias.load(tmp_path / "none.safetensors")


def test_the_package_alone_is_light() -> None:
    code = "import sys, scenebias; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0

"""A loaded model sees what the evaluation shows it, and what it says is what the evaluation counts; loading is quick.

Shape suffixes: N frames of a clip, H rows, W columns, C colours; B windows, T frames of a window, S side of the input.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import scenebias
from dali_pipelines import ClipConfig, EvalLoader
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import evaluate_model
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BACKBONES
from scenebias.models.loading import ClipTransform, LoadedModel
from scenebias.models.weights import WeightsMetadata, save_weights
from scenebias.run_folder.record import plain
from scenebias.transfer.plan import find_starts
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


def test_a_clip_gets_the_probabilities_that_the_evaluation_counts(tiny_dataset: Path, weights: Path) -> None:
    dataset = ShardDataset.open(tiny_dataset)
    loaded = scenebias.load(weights)
    model, classes, transform = loaded
    frames_NHWC = stored_frames(dataset, 7)
    probability_A = loaded.predict(frames_NHWC)
    with torch.inference_mode():
        same_A = model(transform(frames_NHWC)).softmax(dim=1).mean(dim=0)
    np.testing.assert_allclose(probability_A, same_A, rtol=1e-5)
    assert probability_A.dtype == np.float64
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


class Watched(torch.nn.Module):
    """Notes how many windows it is shown at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(1))
        self.shown: list[int] = []

    def forward(self, clip_BTHWC: torch.Tensor) -> torch.Tensor:
        self.shown.append(len(clip_BTHWC))
        return clip_BTHWC.float().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_long_clip_is_looked_at_a_few_windows_at_a_time(as_tensor: bool) -> None:
    frames_NHWC = np.random.default_rng(0).integers(0, 256, (16 * 7 + 3, 40, 50, 3), np.uint8)
    model = Watched()
    loaded = LoadedModel(model, ("a", "b", "c"), ClipTransform(CLIP))
    found_A = loaded.predict(torch.from_numpy(frames_NHWC) if as_tensor else frames_NHWC, batch_size=3)
    assert model.shown == [3, 3, 1]
    np.testing.assert_allclose(found_A, loaded.predict(frames_NHWC, batch_size=99), rtol=1e-12)
    assert found_A.sum() == pytest.approx(1)


def test_all_networks_are_listed_and_made() -> None:
    assert scenebias.list_models() == list(BACKBONES)
    model = scenebias.create_model("small3d", classes=5, dropout=0.5)
    assert model.training
    assert model(torch.zeros(2, 8, 32, 32, 3, dtype=torch.uint8)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "classes", "dropout", "named"),
    [
        ("resnet", 2, 0.0, "backbone must be one of"),
        ("small3d", 0, 0.0, "classes"),
        ("small3d", 2, 1.0, "drop"),
    ],
)
def test_networks_that_cannot_be_are_refused(name: Any, classes: int, dropout: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        scenebias.create_model(name, classes, dropout=dropout)


OLD = json.loads((Path(__file__).parent / "old_weights.json").read_text(encoding="utf-8"))
"""A weight file of before the first release: its description word by word, shapes, and the logits of its network."""


@pytest.fixture
def old_weights(tmp_path: Path) -> Path:
    """The file, whose numbers are noise from a formula."""
    tensors = {"scale": torch.tensor(OLD["scale"]), "shift": torch.tensor(OLD["shift"])}
    for number, (name, shape) in enumerate(OLD["shapes"].items()):
        count = torch.Size(shape).numel()
        noise = (43758.5453 * torch.sin(12.9898 * torch.arange(count, dtype=torch.float64) + number)).frac()
        if name in tensors:
            tensors[name] = tensors[name].view(shape)
        elif name.endswith("running_var"):
            tensors[name] = (1 + 0.5 * noise).float().view(shape)
        else:
            tensors[name] = (0.2 * noise).float().view(shape) if shape else torch.tensor(7)
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path, {"scenebias": OLD["metadata"]})
    return path


def test_an_old_weight_file_gives_the_logits_of_the_version_that_wrote_it(old_weights: Path) -> None:
    model, classes, transform = scenebias.load(old_weights)
    assert classes == ("clap", "jump", "wave")
    assert transform.clip == ClipConfig(frames=8, size=32)
    clip_BTHWC = (torch.arange(2 * 8 * 32 * 32 * 3) * 7919 % 251).to(torch.uint8).view(2, 8, 32, 32, 3)
    with torch.no_grad():
        torch.testing.assert_close(model(clip_BTHWC), torch.tensor(OLD["logits"]))


def test_an_old_weight_file_is_named_by_its_objective(old_weights: Path) -> None:
    assert '"objective": "debias"' in OLD["metadata"]  # as the option was called then
    (start,) = find_starts([old_weights], scratch=False)
    assert (start.row, start.name[:13]) == ("debias", "debias-seed0-")


LOADING = """
import sys, time
{setup}
print(time.process_time(), *sys.modules)
"""


def started(setup: str) -> tuple[float, set[str]]:
    """CPU seconds of a new interpreter, and its modules."""
    line = [sys.executable, "-c", LOADING.format(setup=setup)]
    told = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True).stdout.split()
    return float(told[0]), set(told[1:])


def test_the_package_alone_is_light() -> None:
    alone_s, _ = started("")
    package_s, modules = started("import scenebias")
    assert not modules & {"torch", "numpy", "tyro", "rich", "shards"}
    assert package_s - alone_s < 0.1


def test_loading_takes_little_more_than_torch_and_nothing_of_training(weights: Path) -> None:
    """The least of some starts, as other programs run on the machine."""
    torch_s, load_s, modules = float("inf"), float("inf"), set[str]()
    for _ in range(3):
        torch_s = min(torch_s, started("import torch")[0])
        seconds, modules = started(f"import scenebias; scenebias.load({str(weights)!r})")
        load_s = min(load_s, seconds)
        if load_s < torch_s + 0.5:
            break
    assert not modules & {"nvidia.dali", "torchvision", "tensorboard", "tyro", "rich", "matplotlib", "scipy"}
    assert not any(name.startswith(("scenebias.training", "scenebias.evaluation")) for name in modules)
    assert load_s < torch_s + 0.5

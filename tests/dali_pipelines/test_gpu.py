"""What must hold of batches on a GPU; each test runs on the CPU as well, so that all but the device is tried anywhere.

    pytest -m gpu tests/dali_pipelines/test_gpu.py

No GPU has run this module yet: the tolerances of GPUs follow from how decoders may round, not from measurements.
"""

import math
import shutil
from dataclasses import dataclass, fields
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dali_pipelines import (
    ClipBatch,
    ClipConfig,
    DecodingConfig,
    EvalLoader,
    FaultConfig,
    ProtocolConfig,
    TrainLoader,
)
from dali_pipelines.clip_decoder import ClipDecoder
from dali_pipelines.gpu_decoding import why_no_dali
from dali_pipelines.requests import Draw
from dali_pipelines.windows import Windows, draw_training_windows
from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.distributed.process_place import ProcessPlace
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.training.computing.arithmetic import ArithmeticConfig
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.step import StepSetting, TrainingStep
from shards.dataset import ShardDataset
from shards.errors import UserError
from tests.dali_pipelines.damage import break_marker, break_picture

CLIP = ClipConfig(frames=8, size=32)
CODECS = ("h264", "hevc", "vp9")


@dataclass(frozen=True)
class Tolerance:
    """How far pixels may be from those of the CPU's loader, in levels of 255."""

    mean: float
    """Over all of a batch; a wrong frame, crop or flip of these clips is off by 20 and more."""
    most: float
    """Of any pixel that is not at the rim, where DALI's resize looks past the crop and torch's does not."""


GRAPH_CROPS = {"cpu": Tolerance(0.5, 1), "cuda": Tolerance(1.5, 16)}
"""Between DALI's crop and torch's. On a GPU nvJPEG transforms and converts colours with a rounding of its own, too."""
FILM_STRIPS = {"cpu": Tolerance(0, 0), "cuda": GRAPH_CROPS["cuda"]}
VIDEO = {"cpu": Tolerance(0, 0), "cuda": Tolerance(4, 40)}
"""NVDEC's pixels are exact before their colours are converted; interpolated chroma is where converters differ most."""
RUNS = {"cpu": Tolerance(0, 0), "cuda": Tolerance(0.1, 8)}
"""Between two runs: a GPU divides a batch between its decoders, and which of them gets a picture is not promised."""


def why_no_gpu() -> str | None:
    """What keeps DALI from a GPU here; None where nothing does."""
    if torch.version.cuda is None:
        return "this PyTorch is built without CUDA"
    return why_no_dali(torch.cuda.current_device()) if torch.cuda.is_available() else "no CUDA device"


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> torch.device:
    """The CPU, then the current GPU; skips the latter where there is none."""
    if request.param == "cpu":
        return torch.device("cpu")
    if (reason := why_no_gpu()) is not None:
        pytest.skip(reason)
    return torch.device("cuda", torch.cuda.current_device())


def train_loader(dataset: ShardDataset, device: torch.device | str, **options) -> TrainLoader:
    return TrainLoader(dataset, **{"clip": CLIP, "global_batch_size": 6, "seed": 5, "device": device} | options)


def tensors_of(batch: ClipBatch) -> dict[str, Tensor]:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def assert_close(batch: ClipBatch, expected: ClipBatch, tolerance: Tolerance) -> None:
    """The same clips with the same masks and labels, and pixels within ``tolerance``."""
    ours, theirs = tensors_of(batch), tensors_of(expected)
    assert ours.keys() == theirs.keys()
    assert batch.skipped_count == expected.skipped_count
    difference_BTHWC = (ours.pop("clip_BTHWC").cpu().int() - theirs.pop("clip_BTHWC").cpu().int()).abs()
    if "frame_mean_BTC" in theirs:
        mean_difference_BTC = ours.pop("frame_mean_BTC").cpu().int() - theirs.pop("frame_mean_BTC").cpu().int()
        assert mean_difference_BTC.abs().max() <= 1 + tolerance.mean
    for name, value in ours.items():
        assert torch.equal(value.cpu(), theirs[name].cpu()), name
    assert difference_BTHWC.float().mean(dim=(1, 2, 3, 4)).max() <= tolerance.mean
    assert difference_BTHWC[:, :, 2:-2, 2:-2].max() <= tolerance.most


def assert_all_close(batches: list[ClipBatch], expected: list[ClipBatch], tolerance: Tolerance) -> None:
    assert len(batches) == len(expected) > 0
    for batch, other in zip(batches, expected, strict=True):
        assert_close(batch, other, tolerance)


@pytest.mark.parametrize("loader_class", [TrainLoader, EvalLoader])
def test_batches_lie_on_the_device_in_the_documented_types(waves, device, loader_class):
    size_option = {TrainLoader: "global_batch_size", EvalLoader: "batch_size"}[loader_class]
    for batch in loader_class(waves, CLIP, device=device, **{size_option: 6}):
        count = len(batch.label_B)
        assert {name: (value.device, value.dtype, tuple(value.shape)) for name, value in tensors_of(batch).items()} == {
            "clip_BTHWC": (device, torch.uint8, (count, 8, 32, 32, 3)),
            "mask_BTHW": (device, torch.bool, (count, 8, 32, 32)),
            "has_mask_B": (device, torch.bool, (count,)),
            "scene_BS": (device, torch.float32, (count, 365)),
            "label_B": (device, torch.int64, (count,)),
            "sample_B": (device, torch.int64, (count,)),
            "window_B": (device, torch.int64, (count,)),
        }
        assert batch.clip_BTHWC.is_contiguous()
        assert batch.clip_BCTHW.is_contiguous(memory_format=torch.channels_last_3d)


def decode(dataset: ShardDataset, windows: Windows, device: torch.device, *, crop_in_graph: bool) -> ClipBatch:
    decoder = ClipDecoder(
        dataset,
        CLIP,
        batch_size=len(windows),
        device=device,
        threads=2,
        prefetch=2,
        frame_means=True,
        crop_in_graph=crop_in_graph,
    )
    (batch,) = decoder.batches([Draw(windows)])
    return batch


@pytest.mark.parametrize("epoch", [0, 1])
def test_pixels_and_masks_of_the_graph_are_those_that_the_cpu_decodes_and_torch_crops(waves, device, epoch):
    """Every scale, position and flip of training, on clips of two sizes, some of them shorter than a window."""
    windows = draw_training_windows(
        CLIP,
        seed=3,
        epoch=epoch,
        sample_B=np.arange(len(waves)),
        frame_count_B=waves.frame_counts,
        frame_size_B2=waves.frame_sizes,
    )
    expected = decode(waves, windows, torch.device("cpu"), crop_in_graph=False)
    batch = decode(waves, windows, device, crop_in_graph=True)
    assert_close(batch, expected, GRAPH_CROPS[device.type])


def test_training_takes_the_same_clips_and_windows_as_on_the_cpu_while_the_device_works(waves, device):
    """All batches of two epochs are kept to the end: none may lie in memory that a later one is written to."""
    loader, expected = train_loader(waves, device, threads=4, prefetch=3), train_loader(waves, "cpu")
    work = torch.full((256, 256), 1 / 256, device=device)
    kept = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        for batch in loader:
            kept.append(batch)
            for _ in range(20):
                work = work @ work
    assert_all_close(kept, list(expected.epochs(0, 2)), FILM_STRIPS[device.type])
    assert work.sum().item() == pytest.approx(256)


def test_what_is_decoded_on_the_cpu_arrives_unchanged_while_the_device_works(waves, device):
    loader = train_loader(waves, device, prefetch=3, decoding=DecodingConfig(loader_device="cpu"))
    work = torch.full((256, 256), 1 / 256, device=device)
    kept = []
    for batch in loader.epochs(0, 2):
        kept.append(batch)
        for _ in range(20):
            work = work @ work
    assert {value.device for batch in kept for value in tensors_of(batch).values()} == {device}
    assert_all_close(kept, list(train_loader(waves, "cpu").epochs(0, 2)), Tolerance(0, 0))


def test_evaluation_serves_the_same_windows_as_on_the_cpu(waves, device):
    protocol = ProtocolConfig(test_clips=3, test_crops=3)
    batches, expected = (
        list(EvalLoader(waves, CLIP, batch_size=7, device=where, protocol=protocol)) for where in (device, "cpu")
    )
    assert_all_close(batches, expected, FILM_STRIPS[device.type])


def test_a_new_loader_goes_on_with_the_next_batch(waves, device):
    undisturbed = list(train_loader(waves, device).epoch(1))
    stopped, restored = train_loader(waves, device), train_loader(waves, device)
    stopped.set_epoch(1)
    received = list(islice(stopped, 2))
    restored.load_state_dict(stopped.state_dict())
    assert_all_close([*received, *restored], undisturbed, RUNS[device.type])


@pytest.mark.parametrize("damage", [break_marker, break_picture])
def test_a_damaged_clip_is_named_and_the_loader_stays_usable(waves, device, tmp_path, damage):
    expected, bad_step = list(train_loader(waves, "cpu").epoch(0)), 1
    sample = int(expected[bad_step].sample_B[0])
    folder = Path(shutil.copytree(waves.directory, tmp_path / "copy"))
    damage(folder, sample)
    loader = train_loader(ShardDataset.open(folder), device)
    for _ in range(2):
        with pytest.raises(UserError, match=rf"clip '.*_{sample}' in .*\.tar, sample {sample}, byte \d+: .*--verify"):
            list(loader)
    assert loader.state_dict()["step"] <= bad_step
    after = list(loader.epoch(0, start_step=bad_step + 1))
    assert_all_close(after, expected[bad_step + 1 :], FILM_STRIPS[device.type])


@pytest.mark.parametrize("damage", [break_marker, break_picture])
def test_a_skipped_clip_has_the_same_one_in_its_place_as_on_the_cpu(waves, device, tmp_path, damage):
    folder = Path(shutil.copytree(waves.directory, tmp_path / "copy"))
    damage(folder, 9)
    faults = FaultConfig(on_fault="skip", max_skipped_share=0.5)
    loader, expected = (train_loader(ShardDataset.open(folder), where, faults=faults) for where in (device, "cpu"))
    batches = list(loader)
    assert loader.skipped_samples == {9}
    assert sum(batch.skipped_count for batch in batches) == 1
    assert_all_close(batches, list(expected), FILM_STRIPS[device.type])


@pytest.fixture(scope="module")
def large_video(make_dataset, make_sample, random_masks):
    """Makes (once) a data set of clips that are large enough for the decoder engines, in segments of 8 frames."""

    @cache
    def make(codec: str) -> ShardDataset:
        size, counts = (144, 176), (10, 15, 20, 25)
        samples = [
            make_sample(seed, frame_count=count, size=size, masks=random_masks(seed, count, size), codec=codec)
            for seed, count in enumerate(counts)
        ]
        return make_dataset(samples)

    return make


@pytest.mark.parametrize("codec", CODECS)
def test_video_is_decoded_on_the_device(large_video, device, codec):
    dataset, clip = large_video(codec), ClipConfig(frames=6, size=64, stride=2)  # windows lie across segments
    loader, expected = (train_loader(dataset, where, clip=clip, global_batch_size=2) for where in (device, "cpu"))
    batches = [batch for epoch in range(2) for batch in loader.epoch(epoch)]
    assert {batch.clip_BTHWC.device for batch in batches} == {device}
    assert_all_close(batches, list(expected.epochs(0, 2)), VIDEO[device.type])


def test_a_training_step_in_bf16_has_finite_losses_and_moves_the_weights(tiny_dataset, device):
    dataset = ShardDataset.open(tiny_dataset)
    arithmetic = ArithmeticConfig(precision="bf16")
    torch.manual_seed(0)
    model = DebiasingModel(ActionModel(ModelConfig(backbone="small3d"), 3), ObjectiveConfig(name="debias"))
    place = ProcessPlace(rank=0, world_size=1, device=device)
    step = TrainingStep(model, OptimizationConfig(), arithmetic, place, outlives_nonfinite=False)
    step.begin_epoch(0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for number, batch in enumerate(train_loader(dataset, device)):
        setting = StepSetting(
            epoch=0,
            step=number,
            clip_count=len(batch.label_B),
            learning_rates={"backbone": 0.01, "heads": 0.01},
            ramp=1.0,
            seed=0,
        )
        outcome = step(batch, setting)
        assert outcome.updated
        assert outcome.effective_count
        assert {"action_loss", "scene_loss", "masked_entropy"} <= outcome.sums.keys()
        assert all(value.device == device and value.isfinite() for value in outcome.sums.values())
        assert all(math.isfinite(norm) and norm > 0 for norm in outcome.gradient_norms.values())
    after = list(model.parameters())
    assert {parameter.device for parameter in after} == {device}
    assert all(parameter.isfinite().all() for parameter in after)
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))

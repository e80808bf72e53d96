"""Training of the detector of boxes: what it learns, from where it goes on, and in how many processes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scenebias.detect.detector import ActionDetector
from scenebias.detect.evaluating import evaluate_detector
from scenebias.detect.key_frames import InputConfig, KeyFrames
from scenebias.detect.training import ALONE, DetectorTraining, DetectorTrainingConfig
from scenebias.detect.windows_ahead import TrainingWindows
from scenebias.distributed.interruption import Interrupted, Interruption
from scenebias.distributed.process_place import distributed_session
from scenebias.run_folder.checkpoint import CheckpointFolder
from scenebias.training.computing.arithmetic import Precision
from scenebias.training.optimization import OptimizationConfig
from shards.dataset import ShardDataset
from shards.errors import UserError
from tests.forked import run_in_ranks
from tests.scenebias.detect.rectangles import CLIP, small_detector, write_rectangles

SHORT = DetectorTrainingConfig(epochs=2, batch_size=5, key_frame_group=6, sync_batch_norm=True)
STEPS = 2
"""Of an epoch of five clips with two groups each."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rectangles") / "dataset"
    write_rectangles(folder, 4)
    return folder


def windows_of(folder: Path, config: DetectorTrainingConfig) -> TrainingWindows:
    key_frames = KeyFrames.of(ShardDataset.open(folder), config.key_frame_group)
    return TrainingWindows(key_frames, CLIP, InputConfig(), config.batch_size, config.seed)


def trained(folder: Path, config: DetectorTrainingConfig, **more: object) -> tuple[ActionDetector, list[float]]:
    detector = small_detector()
    losses = DetectorTraining(detector, windows_of(folder, config), config, **more).run()  # type: ignore[arg-type]
    return detector, losses


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


class EndsAfter(Interruption):
    """Asks for an end when so many steps are done."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def end_together(self, place: object) -> None:
        self._left -= 1
        if self._left == 0:
            raise Interrupted(15)


def test_a_few_clips_are_learned_by_heart(folder: Path) -> None:
    config = DetectorTrainingConfig(epochs=40, batch_size=5, key_frame_group=6)
    detector, losses = trained(folder, config)
    assert losses[-1] < 0.5 * losses[0]
    found = evaluate_detector(detector, KeyFrames.of(ShardDataset.open(folder), 3), CLIP, ALONE)
    assert found.frame_matches().mean_average_precision > 0.9
    assert found.recall(most=1) > 0.9


@pytest.mark.parametrize("steps", [1, STEPS, STEPS + 1])
def test_a_run_that_was_interrupted_comes_to_the_same_bits(folder: Path, tmp_path: Path, steps: int) -> None:
    whole, losses = trained(folder, SHORT)
    checkpoints = CheckpointFolder(tmp_path)
    with pytest.raises(Interrupted):
        trained(folder, SHORT, checkpoints=checkpoints, interruption=EndsAfter(steps))
    resumed, losses_after = trained(folder, SHORT, checkpoints=checkpoints)
    assert losses_after == losses
    assert_same(resumed.state_dict(), whole.state_dict())
    again, losses_again = trained(folder, SHORT, checkpoints=checkpoints)  # there is nothing left to train
    assert losses_again == losses
    assert_same(again.state_dict(), whole.state_dict())


def train_as_rank(folder: Path, out: Path) -> None:
    """What one process does."""
    with distributed_session() as place:
        detector, losses = trained(folder, SHORT, place=place)
        found = evaluate_detector(detector, KeyFrames.of(ShardDataset.open(folder), 5), CLIP, place, batch_size=2)
        boxes = [video.found for video in found.videos]
        torch.save(
            {
                "state": detector.state_dict(),
                "losses": losses,
                "frames": [b.frame_N for b in boxes],
                "scores": [b.score_N for b in boxes],
            },
            out / f"{place.rank}.pt",
        )


def test_two_processes_come_to_what_one_does(folder: Path, tmp_path: Path) -> None:
    one, losses = trained(folder, SHORT)
    run_in_ranks(tmp_path, 2, train_as_rank, folder, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert_same(first["state"], second["state"])
    assert first["losses"] == second["losses"] == pytest.approx(losses, rel=1e-3)
    torch.testing.assert_close(first["state"], dict(one.state_dict()), rtol=0.05, atol=5e-3)
    assert all(map(torch.equal, first["scores"], second["scores"]))
    found = evaluate_detector(one, KeyFrames.of(ShardDataset.open(folder), 5), CLIP, ALONE)
    assert [set(f.tolist()) for f in first["frames"]] == [set(v.found.frame_N.tolist()) for v in found.videos]


def test_a_frozen_backbone_stays_as_it_is_and_the_rest_learns(folder: Path) -> None:
    before, (after, _) = small_detector(), trained(folder, replace(SHORT, freeze_backbone=True))
    assert_same(before.model.state_dict(), after.model.state_dict())
    moved = [
        not torch.equal(a, b)
        for a, b in zip(before.own_layers.parameters(), after.own_layers.parameters(), strict=True)
    ]
    assert all(moved)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_the_bits_are_about_as_good(folder: Path, precision: Precision) -> None:
    _, losses = trained(folder, replace(SHORT, precision=precision))
    _, exact = trained(folder, replace(SHORT, precision="fp32"))
    assert losses != exact
    assert losses == pytest.approx(exact, rel=0.05)


def test_what_cannot_be_trained_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="too few for 3 processes"):
        trained(folder, replace(SHORT, batch_size=2), place=replace(ALONE, world_size=3))
    unlimited = OptimizationConfig(learning_rate=1e30)
    with pytest.raises(UserError, match="not finite"):
        trained(folder, replace(SHORT, optimization=unlimited))
    for options in ({"epochs": 0}, {"key_frame_group": 0}, {"precision": "fp8"}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            DetectorTrainingConfig(**options)
    for optimization in (OptimizationConfig(schedule="plateau"), OptimizationConfig(head_warmup_epochs=1)):
        with pytest.raises(ValueError, match=r"schedule|head_warmup_epochs"):
            DetectorTrainingConfig(optimization=optimization)

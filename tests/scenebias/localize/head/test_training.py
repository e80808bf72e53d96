"""The detector of segments learns what is to be learned, and nothing where there is nothing."""

import contextlib
import json
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenebias.detection.instances import AMBIGUOUS, Segments
from scenebias.distributed.interruption import Interrupted, Interruption
from scenebias.distributed.process_place import ProcessPlace, distributed_session
from scenebias.localize.features.tracks import FeatureTrack, Take
from scenebias.localize.head.pyramid import Pyramid, PyramidConfig
from scenebias.localize.head.training import (
    ALONE,
    DetectorTraining,
    HeadTrainingConfig,
    SegmentDetector,
    Takes,
    new_pyramid,
    train_pyramid,
)
from scenebias.run_folder.checkpoint import CheckpointFolder
from scenebias.training.optimization import OptimizationConfig
from shards.errors import UserError
from tests.forked import run_in_ranks
from tests.scenebias.localize.takes import CLASSES, make_takes, map_at_half

SMALL = PyramidConfig(levels=3, width=32, stem_layers=1, head_layers=1)
TRAINING = HeadTrainingConfig(
    epochs=40,
    optimization=OptimizationConfig(optimizer="adamw", learning_rate=4e-3, schedule="cosine", warmup_epochs=2),
)


@pytest.fixture(scope="module")
def trained() -> Pyramid:
    return train_pyramid(make_takes(8), CLASSES, SMALL, TRAINING)


def test_a_few_takes_are_learned_by_heart_and_others_like_them_are_understood(trained: Pyramid) -> None:
    assert map_at_half(trained, make_takes(8)) > 0.95
    assert map_at_half(trained, make_takes(8, seed=1)) > 0.8


def test_shuffled_labels_are_not_learned_in_that_time_and_teach_nothing_of_other_takes() -> None:
    """One class in three by chance."""
    shuffled = make_takes(8, shuffled=True)
    trained = train_pyramid(shuffled, CLASSES, SMALL, TRAINING)
    assert map_at_half(trained, shuffled) < 0.8
    assert map_at_half(trained, make_takes(8, seed=1)) < 0.6


def test_training_is_a_function_of_its_arguments_and_leaves_the_generator_alone(trained: Pyramid) -> None:
    short = HeadTrainingConfig(epochs=2)
    before = torch.random.get_rng_state()
    first, again = (train_pyramid(make_takes(3), CLASSES, SMALL, short) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    other = train_pyramid(make_takes(3), CLASSES, SMALL, HeadTrainingConfig(epochs=2, seed=1))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    assert not torch.equal(first.classes.weight, other.classes.weight)


def test_the_loss_falls() -> None:
    losses: list[float] = []

    def keep(_epoch: int, loss: float) -> None:
        losses.append(loss)

    train_pyramid(
        make_takes(4), CLASSES, SMALL, replace(TRAINING, epochs=10), after_epoch=lambda _, loss: losses.append(loss)
    )
    assert len(losses) == 10
    assert losses[-1] < 0.7 * losses[0]


def test_nothing_to_learn_is_refused() -> None:
    track = FeatureTrack(feature_CT=torch.zeros(2, 3), first_s=0, step_s=1, duration_s=3)
    ambiguous = Segments(start_s_N=torch.zeros(1), end_s_N=torch.ones(1), label_N=torch.tensor([AMBIGUOUS]))
    for takes in ([], [Take(track, ambiguous)]):
        with pytest.raises(ValueError, match="one or more segments"):
            train_pyramid(takes, CLASSES, SMALL, TRAINING)


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    take = make_takes(1)[0]
    take.track.feature_CT[0, 0] = torch.nan
    with pytest.raises(UserError, match="is not finite in epoch 0, step 0"):
        train_pyramid([take], CLASSES, SMALL, TRAINING)


class Stopped(Interruption):
    """Asks for an end after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def end_together(self, place: ProcessPlace) -> None:
        self.left -= 1
        if self.left == 0:
            self.requested = signal.SIGTERM
        super().end_together(place)


@settings(max_examples=6)
@given(st.integers(1, 8), st.integers(1, 8))
def test_training_goes_on_from_any_step_to_the_same_bits(stop: int, stop_again: int) -> None:
    """Two batches an epoch, for four epochs."""
    takes, config = make_takes(3), replace(TRAINING, epochs=4, batch_size=2)
    whole = train_pyramid(takes, CLASSES, SMALL, config)
    with tempfile.TemporaryDirectory() as folder:
        for interruption in (Stopped(stop), Stopped(stop_again), Interruption()):
            pyramid = new_pyramid(takes, CLASSES, SMALL, config.seed)
            training = DetectorTraining(
                SegmentDetector(pyramid), Takes(takes), config, ALONE, CheckpointFolder(Path(folder)), interruption
            )
            with contextlib.suppress(Interrupted):
                losses = training.run()
    assert len(losses) == 4
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, pyramid.state_dict()[name])


def print_losses(config: HeadTrainingConfig) -> None:
    """What a process prints that is one of several."""
    takes = make_takes(5)
    with distributed_session() as place:
        detector = SegmentDetector(new_pyramid(takes, CLASSES, SMALL, config.seed))
        print(DetectorTraining(detector, Takes(takes), config, place).run())


def test_any_number_of_processes_learns_the_same(tmp_path: Path) -> None:
    """Three processes have two videos a step, or the one that is left over."""
    config = replace(TRAINING, epochs=3, batch_size=2)
    losses: list[float] = []
    train_pyramid(make_takes(5), CLASSES, SMALL, config, after_epoch=lambda _, loss: losses.append(loss))
    for printed in run_in_ranks(tmp_path, 3, print_losses, config):
        assert json.loads(printed) == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": 0}, {"seed": -1}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        HeadTrainingConfig(**options)


def test_a_schedule_that_waits_for_evaluations_is_refused() -> None:
    with pytest.raises(ValueError, match="schedule must be one of constant, cosine, step"):
        HeadTrainingConfig(optimization=OptimizationConfig(schedule="plateau"))

"""The detector of segments learns what is to be learned, and nothing where there is nothing."""

import pytest
import torch

from scenebias.detection.instances import AMBIGUOUS, Segments
from scenebias.localize.pyramid import Pyramid, PyramidConfig
from scenebias.localize.tracks import FeatureTrack, Take
from scenebias.localize.training import HeadTrainingConfig, rate_factor, train_pyramid
from tests.scenebias.localize.takes import CLASSES, make_takes, map_at_half

SMALL = PyramidConfig(levels=3, width=32, stem_layers=1, head_layers=1)
TRAINING = HeadTrainingConfig(epochs=40, learning_rate=4e-3, warmup_epochs=2)


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
    config = HeadTrainingConfig(epochs=10, learning_rate=4e-3, warmup_epochs=0)
    train_pyramid(make_takes(4), CLASSES, SMALL, config, after_epoch=lambda _, loss: losses.append(loss))
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
    with pytest.raises(FloatingPointError, match="no finite number"):
        train_pyramid([take], CLASSES, SMALL, TRAINING)


def test_the_learning_rate_rises_then_falls() -> None:
    config = HeadTrainingConfig(epochs=10, warmup_epochs=2)
    factors = [rate_factor(epoch, config) for epoch in range(10)]
    assert factors[:3] == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1]
    assert factors[2:] == sorted(factors[2:], reverse=True)
    assert 0 < factors[-1] < 0.1


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"weight_decay": -1}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        HeadTrainingConfig(**options)

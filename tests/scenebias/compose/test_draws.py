"""What composing draws: by the distributions that it says, and for each clip by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scenebias.compose.draws import Draws

MANY = np.arange(20_000)


def everything(draws: Draws) -> list[np.ndarray]:
    return [
        draws.choice((0.2, 0.3)),
        draws.weight(),
        draws.beta(0.2),
        draws.frame(16),
        *draws.pixel(112, 112),
    ]


@given(st.integers(0, 2**32), st.integers(0, 100), st.lists(st.integers(0, 2**40), min_size=1, max_size=5, unique=True))
def test_a_clip_draws_the_same_in_any_batch(seed: int, epoch: int, samples: list[int]) -> None:
    whole = everything(Draws(seed, epoch, np.array(samples)))
    for place, sample in enumerate(samples):
        for drawn_P, alone in zip(whole, everything(Draws(seed, epoch, np.array([sample]))), strict=True):
            assert drawn_P[place] == alone[0]


def test_seeds_and_epochs_draw_anew_and_no_draw_tells_of_another() -> None:
    one = everything(Draws(0, 0, MANY))
    for other in (Draws(1, 0, MANY), Draws(0, 1, MANY)):
        for drawn_P, others_P in zip(one, everything(other), strict=True):
            assert abs(np.corrcoef(drawn_P, others_P)[0, 1]) < 0.04
    choice_P, weight_P, _, frame_P, row_P, column_P = one  # the Beta is the weight's quantile
    assert np.abs(np.corrcoef([choice_P, weight_P, frame_P, row_P, column_P]) - np.eye(5)).max() < 0.04


@pytest.mark.parametrize("probabilities", [(0.2, 0.3), (0.5,), (0.0, 1.0), (0.25, 0.0, 0.25, 0.5), ()])
def test_a_way_is_chosen_as_often_as_it_says(probabilities: tuple[float, ...]) -> None:
    choice_P = Draws(3, 1, MANY).choice(probabilities)
    for place, probability in enumerate(probabilities):
        spread = 5 * np.sqrt(probability * (1 - probability) / len(MANY))
        assert abs((choice_P == place).mean() - probability) <= spread
    assert set(choice_P) <= {-1, *range(len(probabilities))}


@pytest.mark.parametrize("alpha", [0.2, 1.0, 200.0])
def test_weights_are_of_the_symmetric_beta_distribution(alpha: float) -> None:
    assert stats.kstest(Draws(5, 2, MANY).beta(alpha), stats.beta(alpha, alpha).cdf).pvalue > 1e-4


def test_frames_pixels_and_weights_are_uniform() -> None:
    draws = Draws(7, 0, MANY)
    assert stats.kstest(draws.weight(0.3), stats.uniform(0, 0.3).cdf).pvalue > 1e-4
    row_P, column_P = draws.pixel(8, 16)
    for drawn_P, count in ((draws.frame(16), 16), (row_P, 8), (column_P, 16)):
        assert stats.chisquare(np.bincount(drawn_P, minlength=count)).pvalue > 1e-4
        assert drawn_P.max() == count - 1

"""Measures of benchmarks of the field, from predictions: SCUBA and SCUFO, HAT, conflicting clips, calibration.

Shape suffixes: N clips of a data set, M of them that a view can be made of.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from scenebias.bias.groups import conflicting_accuracy, worst_group
from scenebias.bias.measures import background_error, contrasted_accuracy
from scenebias.bias.model_bias import CLEAN, HAT_SWAPPED, HUMAN_ONLY, SCUBA, SCUFO
from scenebias.clips.still_pictures import Backdrop, scuba, scufo
from scenebias.clips.views import ClipChange, hidden_name
from scenebias.evaluation.accuracy import Evaluation
from scenebias.evaluation.calibration import expected_calibration_error

BACKGROUND_ONLY = hidden_name("pixels", "background")
"""The view that is HAT's "background only" clip."""


def scuba_views(backdrop: Backdrop, seed: int) -> dict[str, ClipChange]:
    """The views of SCUBA and SCUFO, by their names."""
    return {SCUBA: partial(scuba, backdrop=backdrop), SCUFO: partial(scufo, backdrop=backdrop, seed=seed)}


def clean_measures(clean: Evaluation, scene_action_N: np.ndarray, scene_N: np.ndarray) -> dict[str, float]:
    """What the predictions of the N clips as they are tell.

    ``scene_action_N`` is the action that usually goes with each clip's scene category ``scene_N`` (both int64).
    """
    conflicting, worst = conflicting_accuracy(clean, scene_action_N), worst_group(clean, scene_N)
    return {
        "conflicting_top1": conflicting.top1,
        "conflicting_clips": conflicting.clips,
        "worst_group_top1": worst.top1,
        "worst_group_clips": worst.clips,
        "ece": expected_calibration_error(clean),
    }


def scuba_measures(evaluations: Mapping[str, Evaluation]) -> dict[str, float]:
    """Contrasted accuracy as published, from the evaluations of `scuba_views`."""
    return {"scuba_contrasted_accuracy": contrasted_accuracy(evaluations[SCUBA], evaluations[SCUFO])}


def hat_ratios(evaluations: Mapping[str, Evaluation], sample_M: np.ndarray) -> dict[str, float]:
    """BOR and HOR: accuracy on the background alone, and on the human alone, over that on the clips as they are.

    All three are means over the same clips ``sample_M`` (int64), those with an effective mask. NaN where no such clip
    is recognised as it is.
    """
    clean = evaluations[CLEAN]
    original = Evaluation(clean.probability_NA[sample_M], clean.label_N[sample_M]).top1

    def ratio(view: str) -> float:
        return evaluations[view].top1 / original if original else float("nan")

    return {"hat_bor": ratio(BACKGROUND_ONLY), "hat_hor": ratio(HUMAN_ONLY)}


def hat_swap_measures(evaluations: Mapping[str, Evaluation], background_label_M: np.ndarray) -> dict[str, float]:
    """SHAcc and SBErr of HAT's action swaps, M pairs: how many predictions are the human's action, or the background's.

    ``background_label_M`` is the action of the clip that lends the background. SBErr is of the pairs of two actions;
    NaN where there are none.
    """
    swapped = evaluations[HAT_SWAPPED]
    differs_M = background_label_M != swapped.label_N
    error = float("nan")
    if differs_M.any():
        of_two_actions = Evaluation(swapped.probability_NA[differs_M], swapped.label_N[differs_M])
        error = background_error(of_two_actions, background_label_M[differs_M])
    return {"hat_shacc": swapped.top1, "hat_sberr": error}

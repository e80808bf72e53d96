"""What is measured of a model: every measure by its name, and the values of one model.

Shape suffixes: N clips of a data set.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from scenebias.clips.views import COVERS, HIDDEN_FILLS, hidden_name
from scenebias.evaluation.accuracy import Evaluation

CLEAN, HUMAN_ONLY, SWAPPED, STILL = "clean", "human_only", "swapped", "still"
SCUBA, SCUFO, CONFLFG, HAT_SWAPPED = "scuba", "scufo", "conflfg", "hat_swapped"


@dataclass(frozen=True)
class Measure:
    """What a value of `ModelBias` says."""

    title: str
    better: Literal["up", "down"] | None
    """Where a model goes that leans less on the scene."""
    unit: Literal["share", "nats", "clips", "ratio"] = "share"

    @property
    def arrow(self) -> str:
        """Where ``better`` points."""
        return {"up": "↑", "down": "↓", None: ""}[self.better]

    def cell(self, value: float) -> str:
        """The value for a table: shares as percentages, a dash where it is unknown."""
        if np.isnan(value):
            return "–"
        texts = {"share": f"{100 * value:.1f} %", "nats": f"{value:.2f} nats", "ratio": f"{value:.2f}"}
        return (texts | {"clips": f"{value:.0f}"})[self.unit]


def _measures() -> dict[str, Measure]:
    measures = {
        "clean_top1": Measure("clips as they are: accuracy", "up"),
        "clean_entropy": Measure("clips as they are: entropy", None, "nats"),
        "conflicting_top1": Measure("clips in a scene of another action: accuracy", "up"),
        "worst_group_top1": Measure("worst group of one action in one scene: accuracy", "up"),
        "ece": Measure("expected calibration error (ECE), 15 bins", None),
        "human_only_top1": Measure("human only, on grey: accuracy", "up"),
        "swapped_top1": Measure("background swapped: accuracy", "up"),
        "swap_to_scene_rate": Measure("background swapped: says its scene's action", "down"),
        "background_error": Measure("background swapped: says its clip's action", "down"),
        "still_top1": Measure("background swapped, one frame repeated: accuracy", "down"),
        "contrasted_accuracy": Measure("right if swapped and wrong if still", "up"),
        "scuba_top1": Measure("SCUBA: before a still picture: accuracy", "up"),
        "scufo_top1": Measure("SCUFO: one frame of SCUBA repeated: accuracy", "down"),
        "scuba_contrasted_accuracy": Measure("SCUBA right and SCUFO wrong", "up"),
        "conflfg_top1": Measure("ConflFG: SCUBA with a still person of another action: accuracy", "up"),
        "conflfg_error": Measure("ConflFG: says the still person's action", "down"),
        "hat_bor": Measure("HAT's BOR: background only / as it is", "down", "ratio"),
        "hat_hor": Measure("HAT's HOR: human only / as it is", "up", "ratio"),
        "hat_shacc": Measure("HAT's SHAcc: swap, says the human's action", "up"),
        "hat_sberr": Measure("HAT's SBErr: swap, says the background's action", "down"),
    }
    for cover, where in COVERS.items():
        for fill, how in HIDDEN_FILLS.items():
            name, title = hidden_name(cover, fill), f"human hidden ({where}, {how})"
            measures[f"{name}_top1"] = Measure(f"{title}: accuracy", "down")
            measures[f"{name}_entropy"] = Measure(f"{title}: entropy", "up", "nats")
    return measures | {
        "outline_top1": Measure("control: the mask's outline alone, no model: accuracy", None),
        "outline_boxes_top1": Measure("control: the boxes around it alone, no model: accuracy", None),
        "scene_probe": Measure("scene read from features, actions balanced: linear", "down"),
        "scene_probe_mlp": Measure("scene read from features, actions balanced: one hidden layer", "down"),
        "scene_probe_chance": Measure("scene read from features: chance", None),
        "clips": Measure("clips", None, "clips"),
        "conflicting_clips": Measure("clips in a scene of another action", None, "clips"),
        "worst_group_clips": Measure("clips of the worst group", None, "clips"),
        "masked_clips": Measure("clips with an effective mask", None, "clips"),
        "swapped_clips": Measure("clips with a background to go to", None, "clips"),
        "hat_pairs": Measure("pairs of HAT's swap", None, "clips"),
    }


MEASURES: dict[str, Measure] = _measures()
"""Every value of `ModelBias`, in the order in which they are read."""


@dataclass(frozen=True)
class ModelBias:
    """What was measured of one model on N validation clips."""

    values: dict[str, float]
    """The measures of `MEASURES`: shares 0 to 1, entropies in nats, ratios, counts; NaN where one is unknown."""
    reasons: dict[str, str]
    """Why it cannot, in a sentence, by the same names."""
    evaluations: dict[str, Evaluation]
    """The predictions by view: "clean" for all clips, "swapped", "still" and "conflfg" for the clips of
    `BiasTest.swaps`, "hat_swapped" for those of `BiasTest.hat_swaps`, all others for those with an effective mask."""

"""The jobs that transfer what a model has learned of short clips to the two tasks in long takes, and measure it.

Localising trains a head on features of the frozen network; detecting trains the network too. Both are trained once, on
the same biased takes for all arms, and tested on takes of usual and of swapped scenes.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scenebias.detect.box_file import BOXES_NAME, load_boxes
from scenebias.detect.detector import DetectorConfig
from scenebias.detect.evaluating import DetectorTestConfig
from scenebias.detect.run import DetectRunConfig, run_detection
from scenebias.detect.training import DetectorTrainingConfig
from scenebias.localize.found_segments import SEGMENTS_NAME, FoundSegments, summary_of
from scenebias.localize.head.training import HeadTrainingConfig
from scenebias.localize.run import LocalizeRunConfig, run_localization
from scenebias.study.data.long_takes import TAKES_TESTS, LongTakes, TakesTest
from scenebias.study.measured import DETECTED, LOCALIZED, SWAPPED, USUAL, Measured, MeasuringJob

LOCALIZE_TRAINING = HeadTrainingConfig(epochs=20)
DETECTOR, DETECT_TRAINING = DetectorConfig(width=64), DetectorTrainingConfig(epochs=4, key_frame_group=32)
DETECT_TEST = DetectorTestConfig(key_frame_every=12)
"""About one frame a second."""
SCENES_OF: dict[TakesTest, str] = {"test": USUAL, "swapped": SWAPPED}


@dataclass(frozen=True, kw_only=True)
class TransferToTakes(MeasuringJob):
    """The job to localise and detect in long takes, from the weights of one model."""

    takes: LongTakes
    arm: str
    """How the model was pretrained."""
    seed: int
    """Of the model, and of what is trained here."""
    weights: Path

    @property
    def world(self) -> str:
        """What results call the data."""
        return self.takes.name

    def run(self) -> None:
        values = {}
        for test in TAKES_TESTS:
            values[f"{LOCALIZED}_{SCENES_OF[test]}"] = self._localized(test)
            values[f"{DETECTED}_{SCENES_OF[test]}"] = self._detected(test)
        Measured(values, {}, {}).write(self.measures)

    def _options(self, task: str, test: TakesTest) -> dict[str, Any]:
        """What both tasks share; the second test set takes over what was trained for the first."""
        first, *_ = TAKES_TESTS
        return {
            "train": str(self.takes.shards("train")),
            "val": str(self.takes.shards(test)),
            "weights": self.weights,
            "out": self.folder / task / test,
            "trained_in": None if test == first else self.folder / task / first,
        }

    def _localized(self, test: TakesTest) -> float:
        training = replace(LOCALIZE_TRAINING, seed=self.seed)
        config = LocalizeRunConfig(
            **self._options("localize", test), features=self.folder / "features", training=training
        )
        run_localization(config)
        return summary_of(FoundSegments.load(config.out / SEGMENTS_NAME).matches("voc"))["map@0.5"]

    def _detected(self, test: TakesTest) -> float:
        config = DetectRunConfig(
            **self._options("detect", test),
            detector=DETECTOR,
            training=replace(DETECT_TRAINING, seed=self.seed),
            test=DETECT_TEST,
        )
        run_detection(config)
        return load_boxes(config.out / BOXES_NAME).summary()["frame_map_50"]

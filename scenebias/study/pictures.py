"""The pictures of the report: what two models, the baseline and a debiased one, learned and what they look at."""

from dataclasses import dataclass

import numpy as np

from scenebias.class_activation import activation_examples
from scenebias.datasets import require_scenes
from scenebias.demo.scenes import SCENES
from scenebias.distributed import ProcessPlace, distributed_session
from scenebias.figures import confusion_matrix, embedding
from scenebias.report import Section, charts, loss_curves, paragraph
from scenebias.study.measuring import Subject
from scenebias.study.plan import DemoRun
from shards.dataset import ShardDataset

CLIPS_SHOWN = 3
SCENE_NAMES = {scene.places365: name for name, scene in SCENES.items()}


@dataclass(frozen=True)
class Pictured:
    """The runs that are shown, of one world and one seed, by arm; and their models."""

    runs: dict[str, DemoRun]
    subjects: dict[str, Subject]
    swapped: ShardDataset

    @classmethod
    def load(cls, runs: list[DemoRun], place: ProcessPlace) -> "Pictured":
        return cls(
            {run.arm: run for run in runs},
            {run.arm: Subject.load(run.training.weights, place) for run in runs},
            ShardDataset.open(runs[0].world.shards("swapped")),
        )

    def sections(self) -> list[Section]:
        return [
            Section("Training", self._curves()),
            Section("What is taken for what", self._confusions()),
            Section("What the features hold", self._features()),
            Section("Where the models look", self._activations()),
        ]

    def _curves(self) -> str:
        curves = loss_curves({arm: run.training.run_folder for arm, run in self.runs.items()})
        return paragraph("Losses by step, and accuracy on usual scenes by epoch; one seed.") + charts(curves)

    def _confusions(self) -> str:
        classes = self.swapped.manifest.classes
        matrices = {
            arm: confusion_matrix(model.evaluate(self.swapped).confusion_AA, classes)
            for arm, model in self.subjects.items()
        }
        return paragraph("On swapped scenes, in per cent of each action's clips; one seed.") + charts(matrices)

    def _features(self) -> str:
        """Of clips whose action and scene conflict, so that a picture sorted by both is of none."""
        category_S, scene_N = np.unique(require_scenes(self.swapped).argmax(axis=1), return_inverse=True)
        groupings = {
            "action": (np.asarray(self.swapped.labels), self.swapped.manifest.classes),
            "scene": (scene_N, [SCENE_NAMES[category] for category in category_S]),
        }
        features = {arm: model.features(self.swapped) for arm, model in self.subjects.items()}
        return paragraph(
            "Features of the clips on swapped scenes, in the two directions in which they vary most; one seed."
        ) + charts(embedding(features, groupings))

    def _activations(self) -> str:
        subject = next(iter(self.subjects.values()))
        models = {arm: subject.model for arm, subject in self.subjects.items()}
        return paragraph(
            "Class-activation maps (Zhou et al., CVPR 2016) of each clip's own action, on swapped scenes: the redder,"
            " the more a place speaks for it. Right: the same with the person masked out."
        ) + activation_examples(
            models, next(iter(subject.loader(self.swapped, CLIPS_SHOWN))), self.swapped.manifest.classes
        )


def picture_sections(runs: list[DemoRun]) -> list[Section]:
    """The sections with pictures, of ``runs`` of one world and one seed: the baseline and a debiased one."""
    with distributed_session() as place:
        return Pictured.load(runs, place).sections()

"""The pictures of the report: what two models, the baseline and a debiased one, learned and what they look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Self

import numpy as np
import torch
from torch import Tensor

from dali_pipelines import ClipBatch
from scenebias.clips.masked_clip import Fill
from scenebias.clips.views import hide_humans
from scenebias.data.datasets import require_scenes
from scenebias.demo.scenes import SCENES
from scenebias.demo.world import TYPICAL_SCENES
from scenebias.distributed.process_place import ProcessPlace, distributed_session
from scenebias.evaluation.accuracy import Evaluation, evaluating
from scenebias.evaluation.class_activation import class_activation, has_activation_map
from scenebias.models.action_model import ActionModel
from scenebias.reports.curves import loss_curves
from scenebias.reports.figures import activation_strip, confusion_matrix, embedding
from scenebias.reports.html import Section, charts, frame_rows, grid, paragraph, picture, some_frames
from scenebias.study.measuring_jobs import Subject
from scenebias.study.plan import Run
from scenebias.study.training_jobs import PretrainJob
from shards.dataset import ShardDataset

CLIPS_SHOWN = 3
SCENE_NAMES = {scene.places365: name for name, scene in SCENES.items()}


@dataclass(frozen=True)
class Pictured:
    """The models that are shown, of one demo world and one seed."""

    runs: dict[str, PretrainJob]
    """How each was trained, by arm."""
    subjects: dict[str, Subject]
    """The models, by arm."""
    swapped: ShardDataset
    """Clips in swapped scenes."""

    @classmethod
    def load(cls, runs: Sequence[Run], place: ProcessPlace) -> Self:
        jobs = {run.arm: run.pretraining for run in runs if run.pretraining is not None}
        world = runs[0].demo_world
        assert world is not None, "there are clips in swapped scenes in a demo world alone"
        subjects = {arm: Subject.load(job.weights, place) for arm, job in jobs.items()}
        return cls(jobs, subjects, ShardDataset.open(world.shards("swapped")))

    def sections(self) -> list[Section]:
        return [
            Section("Training", self._curves()),
            Section("What is taken for what", self._confusions()),
            Section("What the features hold", self._features()),
            Section("Where the models look", self._activations()),
        ]

    def _curves(self) -> str:
        curves = loss_curves({arm: job.run_folder for arm, job in self.runs.items()})
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
        if not all(map(has_activation_map, models.values())):
            return paragraph("The network's features are no mean of a map, so that there are no class-activation maps.")
        return paragraph(
            "Class-activation maps (Zhou et al., CVPR 2016) of each clip's own action, on swapped scenes: the redder,"
            " the more a place speaks for it. Right: the same with the person masked out."
        ) + activation_examples(
            models, next(iter(subject.loader(self.swapped, CLIPS_SHOWN))), self.swapped.manifest.classes
        )


def picture_sections(runs: Sequence[Run]) -> list[Section]:
    """The sections with pictures, of ``runs`` of one demo world and one seed: the baseline and a debiased one."""
    with distributed_session() as place:
        return Pictured.load(runs, place).sections()


def activation_examples(
    models: Mapping[str, ActionModel], batch: ClipBatch, classes: Sequence[str], fill: Fill = "frame_mean"
) -> str:
    """HTML: every clip of a batch with masks beside itself with its humans hidden, then both under each model's map.

    The maps are of the clip's own action, on the hidden clip too; the captions say how probable a model finds it.
    """
    views = {"the clip": batch.clip_BTHWC, "its humans hidden": hide_humans(batch, fill=fill)}
    pictures = []
    for index, label in enumerate(batch.label_B.tolist()):
        pictures += [
            picture(activation_strip(clip_BTHWC[index].cpu().numpy()), f"{classes[label]}: {view}")
            for view, clip_BTHWC in views.items()
        ]
        pictures += [
            _explained_clip(name, model, clip_BTHWC[index], label, classes[label])
            for name, model in models.items()
            for clip_BTHWC in views.values()
        ]
    return grid(pictures, least_width_rem=22)


def _explained_clip(name: str, model: ActionModel, clip_THWC: Tensor, label: int, class_name: str) -> str:
    clip_1THWC, action_1 = clip_THWC[None], torch.tensor([label], device=clip_THWC.device)
    with evaluating(model), torch.inference_mode():
        probability = float(model(clip_1THWC).softmax(dim=1)[0, label])
    map_THW = class_activation(model, clip_1THWC, action_1)[0].cpu().numpy()
    strip_HW3 = activation_strip(clip_THWC.cpu().numpy(), map_THW)
    return picture(strip_HW3, f"{name}: {class_name} {100 * probability:.0f} %")


def said_of_swapped_clips(runs: Sequence[Run], clips: int = 3, frames: int = 4) -> str:
    """HTML: clips in swapped scenes of as many actions, and beside each what every model says it shows.

    They are the first clips in the order of the test set of which the models do not all say the same, as far as there
    are such.
    """
    with distributed_session() as place:
        pictured = Pictured.load(runs, place)
        found = {arm: subject.evaluate(pictured.swapped) for arm, subject in pictured.subjects.items()}
        said_NM = np.stack([evaluation.prediction_N for evaluation in found.values()], axis=1)
        shown = _first_of_each_action(pictured.swapped.labels, (said_NM != said_NM[:, :1]).any(axis=1), clips)
        subject = next(iter(pictured.subjects.values()))
        strips = {
            int(sample): frame_rows([clip_THWC[some_frames(len(clip_THWC), frames)].cpu().numpy()], scale=3)
            for batch in subject.loader(pictured.swapped)
            for sample, clip_THWC in zip(batch.sample_B, batch.clip_BTHWC, strict=True)
            if int(sample) in shown
        }
    cards = [_clip_with_answers(pictured.swapped, sample, strips[sample], found) for sample in shown]
    return "".join(cards) + paragraph(
        "In training every action mostly happens in a scene of its own; here it happens in that of another. The clips"
        " are the first of as many actions in the order of the test set, those that not all models name alike before"
        " others."
    )


def _clip_with_answers(
    swapped: ShardDataset, sample: int, strip_HW3: np.ndarray, found: Mapping[str, Evaluation]
) -> str:
    """HTML: a clip under the name of its action, and the answer of every model, right or wrong."""
    actions = [action.replace("_", " ") for action in swapped.manifest.classes]
    action, scene = swapped.labels[sample], _scene_name(swapped, sample)
    usual = next(swapped.manifest.classes.index(usual) for usual, place in TYPICAL_SCENES.items() if place == scene)
    answers = []
    for arm, evaluation in found.items():
        named = int(evaluation.prediction_N[sample])
        kind, mark = ("right", "✓") if named == action else ("wrong", "✗")
        note = f"{100 * evaluation.probability_NA[sample, named]:.0f} % sure"
        if named == usual:
            note = f"usual here, {note}"
        cells = f"<b>{escape(arm)}</b><span>{mark} {escape(actions[named])}</span><small>{note}</small>"
        answers.append(f'<li class="answer {kind}">{cells}</li>')
    place = scene.split("/")[0].replace("_", " ")
    caption = f"{actions[action]}, where “{actions[usual]}” is usual: {place}"
    return f'<div class="clip">{picture(strip_HW3, caption)}<ul>{"".join(answers)}</ul></div>'


def _first_of_each_action(label_N: np.ndarray, preferred_N: np.ndarray, count: int) -> list[int]:
    """The first clips of ``count`` actions, preferred ones before others."""
    order = np.argsort(~preferred_N, kind="stable")
    chosen: dict[int, int] = {}
    for sample in order.tolist():
        chosen.setdefault(int(label_N[sample]), sample)
    return list(chosen.values())[:count]


def _scene_name(dataset: ShardDataset, sample: int) -> str:
    return SCENE_NAMES[int(require_scenes(dataset)[sample].argmax())]

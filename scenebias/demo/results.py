"""``python -m scenebias.demo.results``: measure what the demo trained, print one table, write one report."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from dali_pipelines import EvalLoader
from scenebias.bias.data_bias import scene_bias
from scenebias.bias.measures import SceneProbe, scene_probe, swap_to_scene_rate
from scenebias.clips.views import hide_humans
from scenebias.commands import Command, write_output
from scenebias.data.datasets import require_same_classes, require_scenes
from scenebias.demo.world import SPLITS
from scenebias.distributed.process_place import ProcessPlace, distributed_session
from scenebias.evaluation.accuracy import Evaluation, evaluate_model, evaluation_loader_for, extract_features
from scenebias.evaluation.softmax_regression import fit_softmax_regression
from scenebias.models.action_model import ActionModel
from scenebias.models.weights import clip_config_of, load_weights, read_metadata
from scenebias.reports.curves import loss_curves, read_log
from scenebias.reports.html import Section, charts, frame_rows, page, paragraph, picture, some_frames, table
from scenebias.reports.progress import ProgressDisplay
from scenebias.run_folder.folder import RunFolder
from scenebias.transfer.report import RESULTS_NAME as TRANSFER_RESULTS_NAME
from shards.dataset import ShardDataset
from shards.errors import UserError

ARMS = ("baseline", "debias")
STARTS = {"from scratch": "scratch", "baseline": "baseline", "debias": "debias"}
"""The rows of the transfer's results, and what they are called here."""
BATCH_SIZE, LOADER_THREADS = 64, 2


@dataclass(frozen=True)
class ResultsConfig:
    """Where the demo's runs are."""

    out: Path
    """Folder of the demo: shards/<split>, pretrain-<arm> and transfer."""


@dataclass(frozen=True)
class Measure:
    """A row of the table: a name, which way is better, and a value per arm (shares as percentages)."""

    name: str
    better: Literal["↑", "↓"]
    unit: str
    values: dict[str, float]

    def cell(self, arm: str) -> str:
        value = self.values.get(arm)
        if value is None:
            return "–"
        return f"{value:.2f}" if self.unit == "nats" else f"{value:.1f} {self.unit}"


class DemoData:
    """The demo's packed splits, and which action goes with each clip's scene."""

    def __init__(self, shards: Path) -> None:
        self.splits = {name: ShardDataset.open(shards / name) for name in SPLITS}
        train, test = self.splits["train"], self.splits["test"]
        self.classes = train.manifest.classes
        self.actions = len(self.classes)
        classifier = fit_softmax_regression(require_scenes(train), train.labels, self.actions)
        self.bias = scene_bias(classifier, require_scenes(test), test.labels, self.actions)
        self.scene_action_of_swapped_N = classifier.predict(require_scenes(self.splits["swapped"]))


def measure_arm(run: Path, data: DemoData, place: ProcessPlace) -> dict[str, float]:
    """Every measure of one pretrained model: shares in 0 to 1, entropies in nats."""
    model, metadata = load_weights(RunFolder(run).weights)
    require_same_classes(metadata.classes, data.classes, f"{run} has other classes than the data", "train it again")
    model.to(place.device).to(memory_format=torch.channels_last_3d)

    def loader(split: str) -> EvalLoader:
        dataset = data.splits[split]
        return evaluation_loader_for(
            dataset, clip_config_of(metadata), place, batch_size=BATCH_SIZE, threads=LOADER_THREADS
        )

    def evaluate(split: str) -> Evaluation:
        return evaluate_model(model, loader(split), data.actions, place)

    swapped = evaluate("swapped")
    probe = probe_arm(model, loader("target-train"), loader("target-test"), place)
    hidden = evaluate_model(model, loader("test"), data.actions, place, change=hide_humans)
    return {
        "test": evaluate("test").top1,
        "swapped": swapped.top1,
        "swap_to_scene": swap_to_scene_rate(swapped, data.scene_action_of_swapped_N),
        "scene_only": evaluate("scene-only").top1,
        "human_only": evaluate("human-only").top1,
        "hidden": hidden.top1,
        "hidden_entropy": hidden.entropy,
        "scene_probe": probe.accuracy,
        "scene_probe_chance": probe.chance,
    }


def probe_arm(model: ActionModel, train: EvalLoader, test: EvalLoader, place: ProcessPlace) -> SceneProbe:
    """The scene probe on clips whose scenes are independent of their actions."""
    features = [extract_features(model, loader, place) for loader in (train, test)]
    return scene_probe(features[0], require_scenes(train.dataset), features[1], require_scenes(test.dataset))


def training_s(run: Path) -> float:
    """Seconds that a run spent in training steps."""
    return sum(entry["step_s"] for entry in read_log(run, "step"))


def collect_measures(out: Path, arms: dict[str, dict[str, float]]) -> list[Measure]:
    """The table's rows, in the order in which they are read."""

    def percent(key: str) -> dict[str, float]:
        return {arm: 100 * numbers[key] for arm, numbers in arms.items()}

    chance = arms["baseline"]["scene_probe_chance"]
    table = json.loads((out / "transfer" / TRANSFER_RESULTS_NAME).read_text(encoding="utf-8"))["table"]
    transfer = {STARTS[row["row"]]: 100 * row["top1"]["mean"] for row in table}
    return [
        Measure("usual scenes: accuracy", "↑", "%", percent("test")),
        Measure("swapped scenes: accuracy", "↑", "%", percent("swapped")),
        Measure("swapped: says scene's action", "↓", "%", percent("swap_to_scene")),
        Measure("scene alone: its usual action", "↓", "%", percent("scene_only")),
        Measure("human alone: accuracy", "↑", "%", percent("human_only")),
        Measure("human hidden: accuracy", "↓", "%", percent("hidden")),
        Measure("human hidden: entropy", "↑", "nats", {arm: n["hidden_entropy"] for arm, n in arms.items()}),
        Measure(f"scene probe (chance {100 * chance:.0f} %)", "↓", "%", percent("scene_probe")),
        Measure("new actions, after transfer", "↑", "%", transfer),
        Measure("pretraining time", "↓", "s", {arm: training_s(out / f"pretrain-{arm}") for arm in ARMS}),
    ]


def example_strip(dataset: ShardDataset, place: ProcessPlace, run: Path, clips: int = 3, frames: int = 6) -> np.ndarray:
    """Frames of a few clips, each with its mask and its masked version below, as the model is shown them."""
    clip = clip_config_of(read_metadata(RunFolder(run).weights))
    loader = evaluation_loader_for(dataset, clip, place, batch_size=clips, threads=LOADER_THREADS)
    batch = next(iter(loader))
    assert batch.mask_BTHW is not None, "the demo's world has masks"
    masked_BTHWC = hide_humans(batch)
    at = some_frames(batch.clip_BTHWC.shape[1], frames)
    rows = []
    for index in range(len(batch.clip_BTHWC)):
        mask_THW3 = batch.mask_BTHW[index, at, :, :, None].expand(-1, -1, -1, 3).to(torch.uint8) * 255
        rows += [batch.clip_BTHWC[index, at], mask_THW3, masked_BTHWC[index, at]]
    return frame_rows([row.cpu().numpy() for row in rows], scale=2)


def main(config: ResultsConfig) -> None:
    """Measure the demo's models, print the table and write report.html."""
    data = DemoData(config.out / "shards")
    finished = [RunFolder(config.out / f"pretrain-{arm}").result for arm in ARMS]
    for result in [*finished, config.out / "transfer" / TRANSFER_RESULTS_NAME]:
        if not result.exists():
            raise UserError(f"{result.parent} is not finished: run tools/demo.sh {config.out}")
    with distributed_session() as place:
        arms = {}
        with ProgressDisplay("measuring", len(ARMS), "models") as progress:
            for arm in ARMS:
                arms[arm] = measure_arm(config.out / f"pretrain-{arm}", data, place)
                progress.advance()
        strip = example_strip(data.splits["train"], place, config.out / "pretrain-debias")
    measures = collect_measures(config.out, arms)
    header = ("measure", "", "scratch", "baseline", "debiased")
    rows = [(m.name, m.better, m.cell("scratch"), m.cell("baseline"), m.cell("debias")) for m in measures]
    printed = Table(*header, title=f"Demo world, {data.actions} actions, B_scene {data.bias.bias:.2f}")
    for row in rows:
        printed.add_row(*row)
    Console().print(printed)
    write_output(
        config.out / "results.json",
        {"b_scene": data.bias.bias, "measures": [{"name": m.name, "unit": m.unit, **m.values} for m in measures]},
    )
    curves = loss_curves({arm: config.out / f"pretrain-{arm}" for arm in ARMS})
    report = page(
        "scenebias: the demo world",
        [
            Section(
                "What was asked",
                paragraph(
                    f"{data.actions} actions, each on its usual scene most of the time: from the scene alone a linear"
                    f" classifier tells {100 * data.bias.accuracy:.0f} % of the actions (chance"
                    f" {100 * data.bias.chance:.0f} %), so B_scene = {data.bias.bias:.2f}. Does a model learn the"
                    " action or the scene?"
                ),
            ),
            Section("Results", table(header, rows)),
            Section("Training", charts(curves)),
            Section(
                "What the debiased model is shown",
                picture(strip, "Clips, their human masks, and the clips with the humans masked out."),
            ),
        ],
    )
    write_output(config.out / "report.html", report)
    print(f"report: {config.out / 'report.html'}")


COMMAND = Command(
    main=main,
    options=ResultsConfig,
    example="python -m scenebias.demo.results --out runs/demo",
)

if __name__ == "__main__":
    COMMAND.run()

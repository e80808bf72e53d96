"""``python -m scenebias.demo.render_takes``: render long takes of the demo world as ordinary video files.

<out>/<split>/videos/<take>.mp4
<out>/<split>/masks/<take>.npz         ``masks``: uint8 (N, H, W), 1 where the person is
<out>/<split>/scene_probs.npz          ``clips``: n strings; ``probs``: float16 (n, 365)
<out>/<split>/truth.json               of every take its scene, instance and length, and when which action is done
<out>/world.json                       the configuration; there only when all takes are
"""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenebias.commands import Command
from scenebias.demo.filming import WorldLook
from scenebias.demo.render import WORLD_NAME, in_processes, is_rendered, write_video
from scenebias.demo.takes import TAKE_SPLITS, TakePlan, plan_take, render_take
from scenebias.reports.progress import ProgressDisplay
from shards.checks import require_at_least
from shards.packing.output_folder import new_folder
from shards.system.atomic import write_json


@dataclass(frozen=True, kw_only=True)
class TakesConfig(WorldLook):
    """How many takes, and where to put them."""

    out: Path
    """Folder to create; finished takes of the same configuration in it are kept as they are."""
    takes_train: int = 160
    """Takes to train on."""
    takes_test: int = 40
    """Takes in each of test and swapped."""
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Processes that render; the files do not depend on their number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(0, takes_train=self.takes_train, takes_test=self.takes_test)
        require_at_least(1, workers=self.workers)

    @property
    def world(self) -> dict[str, int | float]:
        """What determines the files."""
        return {name: value for name, value in asdict(self).items() if name not in ("out", "workers")}

    def take_count(self, split: str) -> int:
        """Number of takes in ``split``."""
        return self.takes_train if split == "train" else self.takes_test


def _write_take(config: TakesConfig, folder: Path, plan: TakePlan) -> NDArray[np.float16]:
    """Render one take into ``folder`` and return its scene label."""
    take = render_take(config, plan)
    split = folder / plan.split
    write_video(split / "videos" / f"{plan.name}.mp4", take.frames, config.fps)
    np.savez_compressed(split / "masks" / f"{plan.name}.npz", masks=take.masks.astype(np.uint8))
    return take.scene_label


def _truth_of(plan: TakePlan) -> dict[str, Any]:
    return {
        "scene": plan.scene,
        "instance": plan.instance,
        "duration_s": plan.duration_s,
        "doings": [
            {"kind": doing.kind, "action": doing.action, "start_s": doing.start_s, "end_s": doing.end_s}
            for doing in plan.doings
        ],
    }


def _write_truths(folder: Path, plans: Sequence[TakePlan], scene_labels: Sequence[NDArray[np.float16]]) -> None:
    names = np.array([plan.name for plan in plans])
    np.savez_compressed(folder / "scene_probs.npz", clips=names, probs=np.stack(scene_labels))
    write_json(folder / "truth.json", {plan.name: _truth_of(plan) for plan in plans})


def render_takes(config: TakesConfig) -> None:
    """Render long takes, in which people of the demo world act several times, to localise and detect actions in."""
    if is_rendered(config.out, config.world):
        print(f"{config.out} is already rendered")
        return
    plans = {split: [plan_take(config, split, i) for i in range(config.take_count(split))] for split in TAKE_SPLITS}
    every_plan = [plan for takes in plans.values() for plan in takes]
    begun_s = time.monotonic()
    with new_folder(config.out) as folder, ProgressDisplay("rendering", len(every_plan), "takes") as progress:
        for split in TAKE_SPLITS:
            (folder / split / "videos").mkdir(parents=True)
            (folder / split / "masks").mkdir(parents=True)
        labels = []
        for label in in_processes(partial(_write_take, config, folder), every_plan, config.workers):
            labels.append(label)
            progress.advance()
        for split, takes in plans.items():
            if takes:
                _write_truths(folder / split, takes, labels[: len(takes)])
            del labels[: len(takes)]
        write_json(folder / WORLD_NAME, config.world)
    print(f"{config.out}: {len(every_plan)} takes in {time.monotonic() - begun_s:.0f} s")


COMMAND = Command(
    main=render_takes,
    options=TakesConfig,
    example="python -m scenebias.demo.render_takes --seed 1 --out runs/demo/takes",
)

if __name__ == "__main__":
    COMMAND.run()

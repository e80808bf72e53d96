"""``python -m scenebias.demo.render_takes``: render long takes of the demo world as ordinary video files.

They lie as `scenebias.demo.writing` says; the truth of a take is its scene, instance and length, and when which action
is done. `segments.csv` and `boxes.csv` tell the actions alone, as ``tools/make_shards.py folder`` reads them.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenebias.commands import Command
from scenebias.demo.actions import ACTIONS
from scenebias.demo.filming import WorldLook
from scenebias.demo.takes import TAKE_SPLITS, TakePlan, plan_take, render_take
from scenebias.demo.writing import Tables, WorldFolder, write_world
from shards.checks import require_at_least
from shards.format.truth import SIDES


@dataclass(frozen=True, kw_only=True)
class TakesSize:
    """How many takes each split holds."""

    takes_train: int = 160
    """Takes to train on."""
    takes_test: int = 40
    """Takes in each of test and swapped."""

    def __post_init__(self) -> None:
        require_at_least(0, takes_train=self.takes_train, takes_test=self.takes_test)

    def take_count(self, split: str) -> int:
        """Number of takes in ``split``."""
        return self.takes_train if split == "train" else self.takes_test


@dataclass(frozen=True, kw_only=True)
class TakesConfig(WorldLook, TakesSize, WorldFolder):
    """The takes of a world, and where to put them."""

    def __post_init__(self) -> None:
        WorldLook.__post_init__(self)
        TakesSize.__post_init__(self)
        WorldFolder.__post_init__(self)


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


def _tables_of(plan: TakePlan, person_N4: NDArray[np.int64], fps: float) -> Tables:
    """Its actions in time, and its person in the frames in which one is done; each action is a tube."""
    segments, boxes = [], []
    for tube, doing in enumerate(plan.actions):
        segments.append({"video": plan.name, "start_s": doing.start_s, "end_s": doing.end_s, "label": doing.action})
        for frame in range(math.ceil(doing.start_s * fps), math.ceil(doing.end_s * fps)):
            corners = dict(zip(SIDES, person_N4[frame].tolist(), strict=True))
            boxes.append({"video": plan.name, "frame": frame, "tube": tube, "label": doing.action} | corners)
    return {"segments.csv": segments, "boxes.csv": boxes}


def render_takes(config: TakesConfig) -> None:
    """Render long takes, in which people of the demo world act several times, to localise and detect actions in."""
    plans = {split: [plan_take(config, split, i) for i in range(config.take_count(split))] for split in TAKE_SPLITS}
    tables_of = partial(_tables_of, fps=config.fps)
    render = partial(render_take, config)
    write_world(config, plans, render, _truth_of, tables_of, fps=config.fps, unit="takes", classes=sorted(ACTIONS))


COMMAND = Command(
    main=render_takes,
    options=TakesConfig,
    example="python -m scenebias.demo.render_takes --seed 1 --out runs/demo/takes",
)

if __name__ == "__main__":
    COMMAND.run()

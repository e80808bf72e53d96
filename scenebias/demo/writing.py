"""Plans of videos rendered into a folder, by several processes: what clips and long takes have in common.

<out>/<split>/videos/<name>.mp4
<out>/<split>/masks/<name>.npz     ``masks``: uint8 (N, H, W), 1 where the person is
<out>/<split>/scene_probs.npz      ``clips``: n names; ``probs``: float16 (n, 365)
<out>/<split>/truth.json           what is so of every video, by its name
<out>/<split>/segments.csv         of long takes: their actions in time
<out>/<split>/boxes.csv            of long takes: the person, in the frames in which an action is done
<out>/classes.txt                  of long takes: all actions, as some split may not have them all
<out>/world.json                   the configuration; there only when all is
"""

import csv
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from scenebias.data.video_writer import write_video
from scenebias.demo.world import RenderedClip
from scenebias.reports.progress import ProgressDisplay
from shards.checks import require_at_least
from shards.errors import UserError
from shards.format.truth import mask_extents
from shards.packing.output_folder import new_folder
from shards.system.atomic import write_json

_WORLD_NAME = "world.json"


class _Plan(Protocol):
    """What happens in one video."""

    @property
    def split(self) -> str: ...

    @property
    def name(self) -> str: ...


Plan = TypeVar("Plan", bound=_Plan)
Tables = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows of CSV files, by the names of these; a row by the columns."""


class _Drawn(NamedTuple):
    """What is kept of a video in memory."""

    scene_label: NDArray[np.float16]
    """As of `RenderedClip`."""
    person_N4: NDArray[np.int64]
    """Where the person is in every frame, x1 y1 x2 y2; 0 where nobody is."""


@dataclass(frozen=True, kw_only=True)
class WorldFolder:
    """Where to put what is rendered; what else a subclass says is what determines the files."""

    out: Path
    """Folder to create; what is finished in it, of the same configuration, is kept as it is."""
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Processes that render; the files do not depend on their number."""

    def __post_init__(self) -> None:
        require_at_least(1, workers=self.workers)

    @property
    def world(self) -> dict[str, int | float]:
        """What determines the files."""
        return {name: value for name, value in asdict(self).items() if name not in ("out", "workers")}


def write_world(
    config: WorldFolder,
    plans: Mapping[str, Sequence[Plan]],
    render: Callable[[Plan], RenderedClip],
    truth_of: Callable[[Plan], dict[str, Any]],
    tables_of: Callable[[Plan, NDArray[np.int64]], Tables] | None = None,
    *,
    fps: float,
    unit: str,
    at_a_time: int = 1,
    classes: Sequence[str] = (),
) -> None:
    """Render the videos of every split into ``config.out``; of a split without any there is no folder.

    Args:
        config: Where to; the world that it asks for is kept where it is there.
        plans: The videos of each split.
        render: Draws one; called in other processes.
        truth_of: What `truth.json` says of one.
        tables_of: What CSV files say of one, given where its person is, x1 y1 x2 y2 of every frame.
        fps: Frames per second of all.
        unit: What one of them is called, in the plural.
        at_a_time: How many are handed to a process together.
        classes: Lines of `classes.txt`; without any there is none.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    if _is_rendered(config):
        print(f"{config.out} is already rendered")
        return
    every_plan = [plan for of_split in plans.values() for plan in of_split]
    begun_s = time.monotonic()
    with new_folder(config.out) as folder, ProgressDisplay("rendering", len(every_plan), unit) as progress:
        for parent in {path.parent for plan in every_plan for path in _files_of(folder, plan)}:
            parent.mkdir(parents=True)
        drawn = []
        for one in _in_processes(partial(_write, render, fps, folder), every_plan, config.workers, at_a_time):
            drawn.append(one)
            progress.advance()
        in_order = iter(drawn)
        for split, of_split in plans.items():
            if of_split:
                drawn = list(islice(in_order, len(of_split)))
                _write_truths(folder / split, of_split, [one.scene_label for one in drawn], truth_of)
                if tables_of:
                    tables = (tables_of(plan, one.person_N4) for plan, one in zip(of_split, drawn, strict=True))
                    _write_tables(folder / split, tables)
        if classes:
            (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
        write_json(folder / _WORLD_NAME, config.world)
    print(f"{config.out}: {len(every_plan)} {unit} in {time.monotonic() - begun_s:.0f} s")


def _files_of(folder: Path, plan: _Plan) -> tuple[Path, Path]:
    """Its video and its masks."""
    split = folder / plan.split
    return split / "videos" / f"{plan.name}.mp4", split / "masks" / f"{plan.name}.npz"


def _write(render: Callable[[Plan], RenderedClip], fps: float, folder: Path, plan: Plan) -> _Drawn:
    """Render one video into ``folder``."""
    clip = render(plan)
    video, masks = _files_of(folder, plan)
    write_video(video, clip.frames, fps)
    np.savez_compressed(masks, masks=clip.masks.astype(np.uint8))
    return _Drawn(clip.scene_label, mask_extents(clip.masks))


def _write_truths(
    folder: Path,
    plans: Sequence[Plan],
    scene_labels: Sequence[NDArray[np.float16]],
    truth_of: Callable[[Plan], dict[str, Any]],
) -> None:
    names = np.array([plan.name for plan in plans])
    np.savez_compressed(folder / "scene_probs.npz", clips=names, probs=np.stack(scene_labels))
    write_json(folder / "truth.json", {plan.name: truth_of(plan) for plan in plans})


def _write_tables(folder: Path, tables: Iterable[Tables]) -> None:
    """Write the CSV files of all videos of a split; those of one video have all of the files, and the same columns."""
    rows_of: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for of_video in tables:
        for name, rows in of_video.items():
            rows_of[name] += rows
    for name, rows in rows_of.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _in_processes(
    write: Callable[[Plan], _Drawn], plans: Sequence[Plan], workers: int, at_a_time: int
) -> Iterator[_Drawn]:
    """Write every video; what comes back is in the order of ``plans``."""
    if workers == 1:
        yield from map(write, plans)
        return
    with ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        # Ctrl-C reaches every process of the terminal; the parent alone deals with it.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        try:
            yield from pool.map(write, plans, chunksize=at_a_time)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _is_rendered(config: WorldFolder) -> bool:
    path = config.out / _WORLD_NAME
    if not path.is_file():
        return False
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"--out {config.out}: {_WORLD_NAME} is no JSON ({error}); remove the folder") from error
    if found != config.world:
        options = sorted(key for key in found.keys() | config.world.keys() if found.get(key) != config.world.get(key))
        raise UserError(
            f"--out {config.out}: holds a world with other options ({', '.join(options)}); "
            "choose another folder, or remove this one"
        )
    return True

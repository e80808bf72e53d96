"""``python -m scenebias.demo.render``: render the demo world as ordinary video files.

<out>/<split>/videos/<action>/<clip>.mp4
<out>/<split>/masks/<action>/<clip>.npz    ``masks``: uint8 (N, H, W), 1 where the person is
<out>/<split>/scene_probs.npz              ``clips``: n strings <action>/<clip>; ``probs``: float16 (n, 365)
<out>/<split>/truth.json                   action, scene and instance of every clip
<out>/world.json                           the configuration; there only when the world is complete
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from numpy.typing import NDArray

from scenebias.commands import Command
from scenebias.demo.world import SPLITS, ClipPlan, WorldConfig, plan_clip, render_clip
from scenebias.reports.progress import ProgressDisplay
from shards.checks import require_at_least
from shards.errors import UserError
from shards.packing.output_folder import new_folder
from shards.system.atomic import write_json

WORLD_NAME = "world.json"
"""It says how a world was asked for, and that it is complete."""
_CLIPS_PER_TASK = 16
Plan = TypeVar("Plan")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class RenderConfig(WorldConfig):
    """The world, and where to put it."""

    out: Path
    """Folder to create; a finished world of the same configuration in it is kept as it is."""
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Processes that render; the files do not depend on their number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, workers=self.workers)

    @property
    def world(self) -> dict[str, int | float]:
        """What determines the files."""
        return {name: value for name, value in asdict(self).items() if name not in ("out", "workers")}


def write_video(path: Path, frames: NDArray[np.uint8], fps: float) -> None:
    """Encode uint8 (T, H, W, 3) as H.264, nearly without loss, the same bytes every time."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # x264's macroblock tree gives other bytes from run to run, even on one thread.
        stream.options = {"crf": "10", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _write_clip(config: RenderConfig, folder: Path, plan: ClipPlan) -> NDArray[np.float16]:
    """Render one clip into ``folder`` and return its scene label."""
    clip = render_clip(config, plan)
    split = folder / plan.split
    write_video(split / "videos" / f"{plan.name}.mp4", clip.frames, config.fps)
    np.savez_compressed(split / "masks" / f"{plan.name}.npz", masks=clip.masks.astype(np.uint8))
    return clip.scene_label


def _write_split_truths(folder: Path, plans: list[ClipPlan], scene_labels: list[NDArray[np.float16]]) -> None:
    np.savez_compressed(
        folder / "scene_probs.npz", clips=np.array([plan.name for plan in plans]), probs=np.stack(scene_labels)
    )
    write_json(
        folder / "truth.json",
        {plan.name: {"action": plan.action, "scene": plan.scene, "instance": plan.instance} for plan in plans},
    )


def in_processes(
    work: Callable[[Plan], Result], plans: Sequence[Plan], workers: int, at_a_time: int = 1
) -> Iterator[Result]:
    """What ``work`` gives for each plan, in their order; ``at_a_time`` are handed to a process together."""
    if workers == 1:
        yield from map(work, plans)
        return
    with ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        # Ctrl-C reaches every process of the terminal; the parent alone deals with it.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        try:
            yield from pool.map(work, plans, chunksize=at_a_time)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def is_rendered(out: Path, asked: dict[str, int | float]) -> bool:
    """Whether a world of what is ``asked`` is there, complete; one of other options is a UserError."""
    path = out / WORLD_NAME
    if not path.is_file():
        return False
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"--out {out}: {WORLD_NAME} is no JSON ({error}); remove the folder") from error
    if found != asked:
        options = sorted(key for key in found.keys() | asked.keys() if found.get(key) != asked.get(key))
        raise UserError(
            f"--out {out}: holds a world with other options ({', '.join(options)}); "
            "choose another folder, or remove this one"
        )
    return True


def render_world(config: RenderConfig) -> None:
    """Render a procedural world of people who act in places, to try scene-debiased pretraining in."""
    if is_rendered(config.out, config.world):
        print(f"{config.out} is already rendered")
        return
    plans = {split: [plan_clip(config, split, i) for i in range(config.clip_count(split))] for split in SPLITS}
    plans = {split: clips for split, clips in plans.items() if clips}
    every_plan = [plan for clips in plans.values() for plan in clips]
    begun_s = time.monotonic()
    with (
        new_folder(config.out) as folder,
        ProgressDisplay("rendering", len(every_plan), "clips") as progress,
    ):
        for split, clips in plans.items():
            for action in {plan.action for plan in clips}:
                (folder / split / "videos" / action).mkdir(parents=True)
                (folder / split / "masks" / action).mkdir(parents=True)
        labels = []
        write = partial(_write_clip, config, folder)
        for label in in_processes(write, every_plan, config.workers, _CLIPS_PER_TASK):
            labels.append(label)
            progress.advance()
        for split, clips in plans.items():
            _write_split_truths(folder / split, clips, labels[: len(clips)])
            del labels[: len(clips)]
        write_json(folder / WORLD_NAME, config.world)
    print(f"{config.out}: {len(every_plan)} clips in {time.monotonic() - begun_s:.0f} s")


COMMAND = Command(
    main=render_world,
    options=RenderConfig,
    example="python -m scenebias.demo.render --seed 1 --out runs/demo/world",
)

if __name__ == "__main__":
    COMMAND.run()

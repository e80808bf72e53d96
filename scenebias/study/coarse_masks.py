"""How good must human masks be? Pretraining in a demo world whose true masks are spoilt on purpose.

The world is rendered and packed once, as the study does; then its training clips are packed again with each kind of
spoilt masks, a network is pretrained on each with the same seed, and all are tested on the same clips: in their usual
scenes, in swapped ones, and on scenes alone.

Shape suffixes: N frames of a clip, H rows, W columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy import ndimage

from scenebias.commands import Command, write_output
from scenebias.data.make_shards import MakeShards
from scenebias.data.make_shards import main as make_shards
from scenebias.demo.actions import TARGET_ACTIONS
from scenebias.demo.world import WorldConfig
from scenebias.distributed.process_place import ProcessPlace, distributed_session
from scenebias.reports.terminal import number_table
from scenebias.study.arms import Weights, arm_named
from scenebias.study.data.demo_world import MakeWorld, World
from scenebias.study.measuring_jobs import Subject
from scenebias.study.training_jobs import PretrainJob
from shards.checks import require_at_least
from shards.dataset import ShardDataset
from shards.packing.clip_preparation import PackConfig
from shards.sources import FolderSource
from shards.system.locks import locked_folder

MaskKind = Literal["true", "dilated", "eroded", "boxes", "gaps"]
Mask = NDArray[np.bool_]
WIDER_PX, NARROWER_PX = 3, 1
"""Of frames of 64 rows."""
GAPS = 0.3
"""The share of frames whose mask is lost."""
TRANSFERRED = len(TARGET_ACTIONS)
"""Clips of other actions, which nobody looks at here: one of each."""
TESTED = ("test", "swapped", "scene-only")


@dataclass(frozen=True, kw_only=True)
class CoarseMasks:
    """Which masks to train with, and where."""

    out: Path
    """Folder of the world, its shards and the runs; what is done in it already is kept."""
    kinds: tuple[MaskKind, ...] = get_args(MaskKind)
    """true: as rendered; dilated: 3 pixels wider; eroded: 1 pixel narrower; boxes: the box around each frame's; gaps:
    lost in 30 % of the frames."""
    arm: str = "swap-mask"
    """Arm of the study that trains, at the weights that its tuning chose."""
    rho: float = 0.95
    """How often an action is shown in its usual scene."""
    clips_train: int = 1600
    """Training clips."""
    clips_test: int = 240
    """Clips of each test."""
    epochs: int = 40
    """Passes over the training clips."""
    seed: int = 0
    """Of the world and of the training."""
    workers: int = 1
    """Processes that render and pack."""
    json: Path | None = None
    """Also write the numbers to this file."""

    def __post_init__(self) -> None:
        require_at_least(1, epochs=self.epochs, workers=self.workers)
        if not self.kinds or not set(self.kinds) <= set(get_args(MaskKind)):
            raise ValueError(f"kinds must be some of {', '.join(get_args(MaskKind))}, got {self.kinds}")

    @property
    def world(self) -> World:
        """The world that all train in."""
        config = WorldConfig(
            rho=self.rho,
            seed=self.seed,
            clips_train=self.clips_train,
            clips_test=self.clips_test,
            clips_target_train=TRANSFERRED,
            clips_target_test=TRANSFERRED,
        )
        return World("demo", self.out / "world", config)


def boxed(mask_NHW: Mask) -> Mask:
    """The box around the mask of each frame."""
    rows_NH1, columns_N1W = (np.logical_or.reduce(mask_NHW, axis, keepdims=True) for axis in (2, 1))

    def filled(hit: Mask, axis: int) -> Mask:
        after, before = np.maximum.accumulate(hit, axis), np.flip(np.maximum.accumulate(np.flip(hit, axis), axis), axis)
        return after & before

    return filled(rows_NH1, 1) & filled(columns_N1W, 2)


def with_gaps(mask_NHW: Mask, random: np.random.Generator) -> Mask:
    """The masks with those of some frames lost."""
    return mask_NHW & (random.random(len(mask_NHW)) >= GAPS)[:, None, None]


def grown(mask_NHW: Mask, pixels: int) -> Mask:
    """The masks so many pixels wider, or narrower where negative, frame by frame."""
    change = ndimage.binary_dilation if pixels > 0 else ndimage.binary_erosion
    return change(mask_NHW, ndimage.generate_binary_structure(2, 1)[None], iterations=abs(pixels))


SPOIL: Mapping[MaskKind, Callable[[Mask, np.random.Generator], Mask]] = {
    "dilated": lambda mask_NHW, _: grown(mask_NHW, WIDER_PX),
    "eroded": lambda mask_NHW, _: grown(mask_NHW, -NARROWER_PX),
    "boxes": lambda mask_NHW, _: boxed(mask_NHW),
    "gaps": with_gaps,
}


def pack_with(kind: MaskKind, config: CoarseMasks) -> tuple[Path, float]:
    """The training clips with those masks, packed; and the mean IoU of these with the true ones, over clips."""
    if kind == "true":
        return config.world.shards("train"), 1.0
    rendered, folder = config.world.rendered / "train", config.out / kind
    random, ious = np.random.default_rng(config.seed), []
    for path in sorted((rendered / "masks").rglob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            true_NHW = file["masks"] > 0
        spoilt_NHW = SPOIL[kind](true_NHW, random)
        ious.append((true_NHW & spoilt_NHW).sum() / max(1, (true_NHW | spoilt_NHW).sum()))
        copy = folder / "masks" / path.relative_to(rendered / "masks")
        copy.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(copy, masks=spoilt_NHW)
    make_shards(
        MakeShards(
            source=FolderSource(root=rendered / "videos", dataset="demo", subset="train"),
            out=folder / "train",
            masks=str(folder / "masks"),
            scenes=str(rendered / "scene_probs.npz"),
            pack=PackConfig(height=config.world.config.height, mask_scale=1.0, workers=config.workers),
        )
    )
    return folder / "train", float(np.mean(ious))


def measure(kind: MaskKind, config: CoarseMasks, place: ProcessPlace) -> dict[str, float]:
    """What a network comes to that was trained with those masks."""
    train, iou = pack_with(kind, config)
    job = PretrainJob(
        folder=config.out / "runs" / kind,
        train=train,
        val=config.world.shards("test"),
        epochs=config.epochs,
        seed=config.seed,
        method=arm_named(config.arm).method(Weights()),
    )
    if not job.is_done:
        job.run()
    subject = Subject.load(job.weights, place)
    shown = {split: subject.evaluate(ShardDataset.open(config.world.shards(split))).top1 for split in TESTED}
    return {"mask_iou": iou, **shown}


def main(config: CoarseMasks) -> None:
    """Pretrain with true and with spoilt human masks, and measure on usual and on swapped scenes what that costs."""
    with locked_folder(config.out, f"--out {config.out}", "working in"):
        (config.out / "runs").mkdir(exist_ok=True)
        making = MakeWorld(config.world, workers=config.workers)
        if not making.is_done:
            making.run()
        with distributed_session() as place:
            found = {kind: measure(kind, config, place) for kind in config.kinds}
    rows = [
        (kind, f"{values['mask_iou']:.2f}", *(f"{100 * values[s]:.1f}" for s in TESTED))
        for kind, values in found.items()
    ]
    Console().print(number_table(f"{config.arm}, ρ {config.rho}: per cent", ("masks", "IoU", *TESTED), rows))
    if config.json is not None:
        write_output(config.json, found)


COMMAND = Command(
    main=main,
    options=CoarseMasks,
    writes=("json",),
    example="python -m scenebias.study.coarse_masks --out runs/coarse-masks --workers 2",
)

if __name__ == "__main__":
    COMMAND.run()

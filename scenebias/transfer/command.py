"""``python -m scenebias.transfer`` (or ``torchrun … -m``): tune pretrained weights on other data sets."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from scenebias.commands import Command
from scenebias.distributed.launch import is_main_process
from scenebias.reports.terminal import tell
from scenebias.run_folder.folder import RunFolder
from scenebias.run_folder.record import RECORD_NAME
from scenebias.training.recipes import TRANSFER_RECIPES
from scenebias.transfer.plan import Pair, Start, check_unseen, find_pairs, find_starts
from scenebias.transfer.report import report_results
from scenebias.transfer.results import FinishedRun, TransferResults
from scenebias.transfer.run import TransferOptions, TransferRunConfig, run_transfer
from shards.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TransferPlaces:
    """What to transfer to what, and where."""

    weights: tuple[Path, ...] = ()
    """Pretrained weights. Those that differ in the seed of their pretraining alone are one row of the results, and the
    second of them takes the seed after --seed, and so on. Without any the network starts at random."""
    scratch: bool = False
    """Also start at random, as many times as the row with the most weights: how much is pretraining worth?"""
    train: tuple[str, ...]
    """Packed data sets to train on: folders, or their URLs. Several splits of one data set count as their mean."""
    val: tuple[str, ...]
    """Packed data sets to evaluate on after every epoch, one for each of --train in the same order."""
    out: Path
    """Folder of the run, or of a folder for each where there are several; the same command continues what was
    interrupted, and adds the runs of more weights and data to those that are there."""


@dataclass(frozen=True, kw_only=True)
class TransferConfig(TransferOptions, TransferPlaces):
    """Every start, pretrained or random, on every pair of a training and a test set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_only and (self.scratch or not self.weights):
            raise ValueError("head_only needs weights: a frozen backbone of random weights learns nothing")


def main(config: TransferConfig) -> None:
    """Tune pretrained weights on other data sets, and measure how well they serve them.

    Leaves results.json and results.html in --out, beside the folders of the runs.
    """
    with RunFolder(config.out).held("training into"):
        _transfer(config)


def _transfer(config: TransferConfig) -> None:
    starts = find_starts(config.weights, scratch=config.scratch)
    pairs = find_pairs(config.train, config.val, config.remote)
    check_unseen(starts, pairs, force=config.force)
    planned = [(start, pair) for pair in pairs for start in starts]
    if len(planned) == 1:
        folders = [config.out]
    else:
        _check_holds_no_run(config.out)
        folders = [config.out / pair.name / start.name for start, pair in planned]
    finished: list[FinishedRun] = []
    for (start, pair), folder in zip(planned, folders, strict=True):
        if len(planned) > 1:
            tell(f"run {len(finished) + 1} of {len(planned)}: {start.name} on {pair.name}")
        run_transfer(_run_config(config, start, pair, folder))
        finished.append(FinishedRun(start.row, start.number, pair.target, pair.split, folder))
    if is_main_process():
        report_results(config.out, TransferResults(finished))


def _run_config(config: TransferConfig, start: Start, pair: Pair, out: Path) -> TransferRunConfig:
    options = {option.name: getattr(config, option.name) for option in fields(TransferOptions)}
    options["schedule"] = replace(config.schedule, seed=config.schedule.seed + start.number)
    options["backbone"] = config.backbone or start.backbone
    return TransferRunConfig(train=pair.train, val=pair.val, out=out, weights=start.weights, **options)


def _check_holds_no_run(out: Path) -> None:
    if (out / RECORD_NAME).exists():
        raise UserError(f"--out {out} holds a single run: choose another folder for several")


COMMAND = Command(
    main=main,
    options=TransferConfig,
    recipes=TRANSFER_RECIPES,
    parallel=True,
    example="python -m scenebias.transfer --weights runs/jhmdb-baseline/weights.safetensors "
    "runs/jhmdb-debias/weights.safetensors --scratch --train data/ucf101-few/train "
    "--val data/ucf101-few/test --epochs 30 --batch-size 9 --learning-rate 0.02 --out runs/ucf101-few",
)

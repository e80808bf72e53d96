"""``python -m scenebias.transfer`` (or ``torchrun … -m``): tune pretrained weights on other data sets."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from scenebias.commands import Command, given_value
from scenebias.distributed.launch import is_main_process
from scenebias.models.published.pretrained import PretrainedName, weight_files
from scenebias.models.weights import read_metadata
from scenebias.run_folder.folder import RunFolder
from scenebias.training.recipes import TRANSFER_RECIPES, defaults_of_network
from scenebias.transfer.plan import PlannedRun, StartPlaces, one_by_one, planned_runs
from scenebias.transfer.report import report_results
from scenebias.transfer.results import FinishedRun, TransferResults
from scenebias.transfer.run import TransferOptions, TransferRunConfig, run_transfer
from shards.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TransferConfig(TransferOptions, StartPlaces):
    """Every start, pretrained or random, on every pair of a training and a test set."""

    pretrained: PretrainedName | None = None
    """Also start from the weights that torchvision publishes of --backbone, trained on Kinetics-400: downloaded, or
    from its files among --weights, which do not end in .safetensors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_only and (self.scratch or not (self.weights or self.pretrained)):
            raise ValueError("head_only needs weights: a frozen backbone of random weights learns nothing")


def of_the_network(arguments: Sequence[str]) -> Mapping[str, Any]:
    """The defaults that go with the network which ``arguments`` name, or that of the first weights; see
    `Command.implied`."""
    backbone, weights = given_value(arguments, "backbone"), given_value(arguments, "weights")
    if backbone is None and weights is not None:
        with suppress(UserError):  # it is told where the weights are read
            backbone = read_metadata(Path(weights)).backbone
    return {} if backbone is None else defaults_of_network(backbone, given_value(arguments, "pretrained"))


def main(config: TransferConfig) -> None:
    """Tune pretrained weights on other data sets, and measure how well they serve them.

    Leaves results.json and results.html in --out, beside the folders of the runs.
    """
    with RunFolder(config.out).held("training into"):
        weights = weight_files(config.weights, config.pretrained, config.backbone, "--weights")
        _transfer(replace(config, weights=weights, pretrained=None))


def _transfer(config: TransferConfig) -> None:
    planned = planned_runs(config, config.remote, force=config.force, backbone=config.backbone)
    finished: list[FinishedRun] = []
    for run in one_by_one(planned):
        run_transfer(_run_config(config, run))
        finished.append(FinishedRun(run.start.row, run.start.number, run.pair.target, run.pair.split, run.folder))
    if is_main_process():
        report_results(config.out, TransferResults(finished))


def _run_config(config: TransferConfig, run: PlannedRun) -> TransferRunConfig:
    start, pair = run.start, run.pair
    options = {option.name: getattr(config, option.name) for option in fields(TransferOptions)}
    options["schedule"] = replace(config.schedule, seed=config.schedule.seed + start.number)
    options["backbone"] = config.backbone or start.backbone
    return TransferRunConfig(train=pair.train, val=pair.val, out=run.folder, weights=start.weights, **options)


COMMAND = Command(
    main=main,
    options=TransferConfig,
    recipes=TRANSFER_RECIPES,
    implied=of_the_network,
    parallel=True,
    example="python -m scenebias.transfer --weights runs/jhmdb-baseline/weights.safetensors "
    "runs/jhmdb-debias/weights.safetensors --scratch --train data/ucf101-few/train "
    "--val data/ucf101-few/test --epochs 30 --batch-size 9 --learning-rate 0.02 --out runs/ucf101-few",
)

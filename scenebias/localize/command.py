"""``python -m scenebias.localize`` (or ``torchrun … -m``): find when actions happen in long videos."""

from dataclasses import dataclass, field
from pathlib import Path

from dali_pipelines.windows import ClipConfig
from scenebias.commands import Command
from scenebias.detection.matching import Protocol
from scenebias.detection.results import DetectionResults
from scenebias.distributed.launch import is_main_process
from scenebias.localize.report import cut_control, finished_run, reporting
from scenebias.localize.run import LocalizeOptions, LocalizeRunConfig, run_localization
from scenebias.run_folder.folder import RunFolder
from scenebias.transfer.detector_report import report_results
from scenebias.transfer.detector_run import clip_of_random_starts, run_options
from scenebias.transfer.plan import StartPlaces, one_by_one, planned_runs

FEATURES_NAME = "features"


@dataclass(frozen=True, kw_only=True)
class LocalizeConfig(LocalizeOptions, StartPlaces):
    """Every start, pretrained or random, on every pair of a training and a test set."""

    average_precision: Protocol = "voc"
    """Which AP is reported: voc, all-point as ActivityNet's; thumos, as the evaluation kit of THUMOS 2014."""
    cuts: tuple[Path, ...] = ()
    """Times of the cuts of the test videos, one file for each of --val: what the cuts alone are worth, with classes by
    chance, is then a row of the results. For videos that scenebias splice has made."""
    clip: ClipConfig = field(default_factory=ClipConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cuts and len(self.cuts) != len(self.val):
            raise ValueError(f"cuts must name one file for each of val, {len(self.val)}, got {len(self.cuts)}")


def main(config: LocalizeConfig) -> None:
    """Train detectors of segments on pretrained backbones, and measure how well they find actions in long videos.

    Leaves results.json and results.html in --out, beside the folders of the runs.
    """
    with RunFolder(config.out).held("training into"):
        _localize(config)


def _localize(config: LocalizeConfig) -> None:
    planned = planned_runs(config, config.remote, force=config.force, backbone=config.backbone)
    clip = clip_of_random_starts(config.clip, planned)
    finished = []
    for run in one_by_one(planned):
        options = run_options(config, LocalizeOptions, run) | {
            "features": config.features or config.out / FEATURES_NAME
        }
        run_localization(LocalizeRunConfig(**options, clip=clip))
        if is_main_process():
            finished.append(finished_run(run, config.average_precision))
    if is_main_process():
        pairs = {run.pair.val: run for run in planned}
        finished += [
            cut_control(config.out, pairs[val], cuts, config.average_precision)
            for val, cuts in zip(config.val, config.cuts, strict=False)
        ]
        report_results(config.out, DetectionResults(finished), reporting(config.average_precision))


COMMAND = Command(
    main=main,
    options=LocalizeConfig,
    parallel=True,
    example="python -m scenebias.localize --weights runs/baseline/weights.safetensors "
    "runs/debias/weights.safetensors --train data/takes/train --val data/takes/test --out runs/takes",
)

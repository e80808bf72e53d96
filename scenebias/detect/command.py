"""``python -m scenebias.detect`` (or ``torchrun … -m``): find actors in frames, and what they do."""

from dataclasses import dataclass, field

from dali_pipelines.windows import ClipConfig
from scenebias.commands import Command
from scenebias.detect.report import finished_run, reporting
from scenebias.detect.run import DetectOptions, DetectRunConfig, run_detection
from scenebias.detection.linking import LinkingConfig
from scenebias.detection.results import DetectionResults
from scenebias.distributed.launch import is_main_process
from scenebias.run_folder.folder import RunFolder
from scenebias.transfer.detector_report import report_results
from scenebias.transfer.detector_run import clip_of_random_starts, run_options
from scenebias.transfer.plan import StartPlaces, one_by_one, planned_runs


@dataclass(frozen=True, kw_only=True)
class DetectConfig(DetectOptions, StartPlaces):
    """Every start, pretrained or random, on every pair of a training and a test set."""

    linking: LinkingConfig = field(default_factory=LinkingConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)


def main(config: DetectConfig) -> None:
    """Train detectors of boxes on pretrained backbones, and measure how well they find actors and their actions.

    Leaves results.json and results.html in --out, beside the folders of the runs.
    """
    with RunFolder(config.out).held("training into"):
        _detect(config)


def _detect(config: DetectConfig) -> None:
    planned = planned_runs(config, config.remote, force=config.force, backbone=config.backbone)
    clip = clip_of_random_starts(config.clip, planned)
    finished = []
    for run in one_by_one(planned):
        run_detection(DetectRunConfig(**run_options(config, DetectOptions, run), clip=clip))
        if is_main_process():
            finished.append(finished_run(run, config.linking))
    if is_main_process():
        report_results(config.out, DetectionResults(finished), reporting([run.pair for run in planned]))


COMMAND = Command(
    main=main,
    options=DetectConfig,
    parallel=True,
    example="python -m scenebias.detect --weights runs/baseline/weights.safetensors "
    "runs/debias/weights.safetensors --train data/jhmdb-boxes/train --val data/jhmdb-boxes/test --out runs/jhmdb-boxes",
)

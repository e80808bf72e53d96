"""One run of detection: a backbone, pretrained or random, and a detector of boxes on its maps."""

from dataclasses import dataclass, field

from scenebias.detect.box_file import BOXES_NAME, save_boxes
from scenebias.detect.detector import ActionDetector, DetectorConfig
from scenebias.detect.evaluating import DetectorTestConfig, evaluate_detector
from scenebias.detect.key_frames import InputConfig, KeyFrames
from scenebias.detect.training import DetectorTraining, DetectorTrainingConfig, new_detector
from scenebias.detect.windows_ahead import ReadingConfig, TrainingWindows
from scenebias.distributed.interruption import Interruption, noted_signals
from scenebias.models.weights import Part
from scenebias.run_folder.checkpoint import CheckpointFolder
from scenebias.run_folder.record import plain
from scenebias.transfer.detector_run import BackboneOptions, DetectorRun, DetectorRunConfig, begun_run
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.system.atomic import write_json

WITHOUT_EFFECT = ("reading", "checkpoints", "test_batch_size")
"""Options that decide nothing of a result, beside those of every detector."""

PART: Part = "box_detector"


@dataclass(frozen=True, kw_only=True)
class DetectOptions(BackboneOptions):
    """How to detect."""

    detector: DetectorConfig = field(default_factory=DetectorConfig)
    input: InputConfig = field(default_factory=InputConfig)
    training: DetectorTrainingConfig = field(default_factory=DetectorTrainingConfig)
    test: DetectorTestConfig = field(default_factory=DetectorTestConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)


@dataclass(frozen=True, kw_only=True)
class DetectRunConfig(DetectOptions, DetectorRunConfig):
    """A run."""


def run_detection(config: DetectRunConfig) -> None:
    """Train into ``config.out`` and look at the test videos, or go on, or leave it where it is complete.

    Leaves ``run.json``, ``checkpoints/``, ``weights.safetensors``, ``boxes.npz`` and ``result.json``. Key frames are
    shared out among the processes that ``torchrun`` started, each looked at once.
    """
    with begun_run(config, require_boxes, seed=config.training.seed, may_change=WITHOUT_EFFECT) as run:
        if run is not None:
            _run(config, run)


def require_boxes(dataset: ShardDataset, said: str) -> None:
    """UserError where no boxes were packed with a data set."""
    if not dataset.has_boxes:
        raise UserError(
            f"{said} has no boxes: pack it again with them (scenebias pack --help tells which sources have them)"
        )


def _run(config: DetectRunConfig, run: DetectorRun) -> None:
    place = run.place
    detector = new_detector(run.model, len(run.train.manifest.classes), config.detector, config.training.seed)
    with noted_signals() as interruption:
        if run.trained_in is None:
            losses = _train(config, run, detector, interruption)
        else:
            losses = run.take_over(PART, detector.own_layers)
        found = evaluate_detector(
            detector,
            KeyFrames.of(run.val, config.test.key_frame_every),
            run.clip,
            place,
            input_config=config.input,
            batch_size=config.test.test_batch_size,
            reading=config.reading,
            interruption=interruption,
        )
    if place.is_main:
        described = {name: plain(getattr(config, name)) for name in ("detector", "input")}
        run.save(PART, detector.own_layers, described)
        save_boxes(run.folder.path / BOXES_NAME, found)
        write_json(run.folder.result, {"losses": losses})  # last: it says that the run is complete


def _train(
    config: DetectRunConfig, run: DetectorRun, detector: ActionDetector, interruption: Interruption
) -> list[float]:
    """Train ``detector``; the losses of the epochs."""
    training = config.training
    windows = TrainingWindows(
        KeyFrames.of(run.train, training.key_frame_group),
        run.clip,
        config.input,
        training.batch_size,
        training.seed,
        config.reading,
    )
    checkpoints = CheckpointFolder(run.folder.checkpoints, training.checkpoints.keep_checkpoints)
    return DetectorTraining(detector, windows, training, run.place, checkpoints, interruption).run_shown()

"""One run of localisation: a backbone, or none, and a detector of segments that is trained on its features."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scenebias.distributed.interruption import noted_signals
from scenebias.distributed.process_place import ProcessPlace
from scenebias.localize.features.dense_features import DenseConfig, dense_track
from scenebias.localize.features.feature_cache import Encoder, FeatureCache
from scenebias.localize.features.tracks import FeatureTrack, Take, true_segments
from scenebias.localize.found_segments import SEGMENTS_NAME, FoundSegments, Video
from scenebias.localize.head.decoding import DecodingConfig, find_segments
from scenebias.localize.head.pyramid import Pyramid, PyramidConfig
from scenebias.localize.head.training import (
    DetectorTraining,
    HeadTrainingConfig,
    Material,
    SegmentDetector,
    Takes,
    new_pyramid,
)
from scenebias.localize.head.tuning import VideoParts, WindowEncoder
from scenebias.models.action_model import ActionModel
from scenebias.models.weights import Part
from scenebias.reports.progress import ProgressDisplay
from scenebias.run_folder.checkpoint import CheckpointFolder
from scenebias.run_folder.record import plain
from scenebias.transfer.detector_run import BackboneOptions, DetectorRun, DetectorRunConfig, begun_run
from shards.checks import require_at_least
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.system.atomic import write_json

WITHOUT_EFFECT = ("features", "feature_batch_size")
"""Options that decide nothing of a result, beside those of every detector."""
KEPT_CHECKPOINTS = 2
PART: Part = "segment_detector"


@dataclass(frozen=True, kw_only=True)
class LocalizeOptions(BackboneOptions):
    """How to localise."""

    tune_backbone: bool = False
    """Train the backbone too, on parts of the videos, and not the detector alone on features that are kept."""
    part_windows: int = 48
    """With --tune-backbone: windows of a video that are seen in a step, one after another."""
    features: Path | None = None
    """Folder where features are kept, for other runs too; by default one in --out."""
    dense: DenseConfig = field(default_factory=DenseConfig)
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    training: HeadTrainingConfig = field(default_factory=HeadTrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, part_windows=self.part_windows)


@dataclass(frozen=True, kw_only=True)
class LocalizeRunConfig(LocalizeOptions, DetectorRunConfig):
    """A run."""

    features: Path
    """Folder where features are kept."""


def run_localization(config: LocalizeRunConfig) -> None:
    """Train into ``config.out`` and find the segments of the test videos, or go on, or leave it where it is complete.

    Leaves ``run.json``, ``checkpoints/``, ``weights.safetensors``, ``segments.json`` and ``result.json``. Videos are
    shared out among the processes that ``torchrun`` started: their features are made once, and each is tested once.
    """
    with begun_run(config, require_segments, seed=config.training.seed, may_change=WITHOUT_EFFECT) as run:
        if run is not None:
            _run(config, run)


def require_segments(dataset: ShardDataset, said: str) -> None:
    """UserError where no segments were packed with a data set."""
    if not dataset.has_segments:
        raise UserError(
            f"{said} has no segments: pack it again with them (scenebias pack --help tells which sources have them)"
        )


def _run(config: LocalizeRunConfig, run: DetectorRun) -> None:
    val, place = run.val, run.place
    encoder = Encoder(run.model, run.clip, _digest(run.model))
    if run.trained_in is None:
        pyramid, losses = _train(config, run, encoder)
    else:
        pyramid = Pyramid(run.model.feature_count, len(run.train.manifest.classes), config.pyramid).to(place.device)
        losses = run.take_over(PART, pyramid)
    kept = FeatureCache(config.features, encoder, val, config.dense)

    def test_track(video: int) -> FeatureTrack:
        if config.tune_backbone:  # the features of weights that nobody else has
            return dense_track(encoder.model, val, video, encoder.clip, config.dense)
        return kept[video]

    found = _find(pyramid, config.decoding, val, test_track, place)
    if place.is_main:
        described = {name: plain(getattr(config, name)) for name in ("dense", "pyramid", "decoding")}
        run.save(PART, pyramid, described)
        found.save(run.folder.path / SEGMENTS_NAME)
        write_json(run.folder.result, {"losses": losses})  # last: it says that the run is complete


def _train(config: LocalizeRunConfig, run: DetectorRun, encoder: Encoder) -> tuple[Pyramid, list[float]]:
    """The detector that was learned, and the losses of the epochs."""
    train, place = run.train, run.place
    tracks = _kept_tracks(config, encoder, train, place, "features of --train")
    takes = [Take(track, true_segments(train, video)) for video, track in enumerate(tracks)]
    if not any(len(take.label_N) for take in takes):
        raise UserError(f"--train {train.location} has no segment of any class: nothing can be learned from it")
    pyramid = new_pyramid(takes, len(train.manifest.classes), config.pyramid, config.training.seed)
    checkpoints = CheckpointFolder(run.folder.checkpoints, KEPT_CHECKPOINTS)
    with noted_signals() as interruption:
        detector, material = _learned(config, encoder, pyramid, takes, train)
        training = DetectorTraining(detector, material, config.training, place, checkpoints, interruption)
        return pyramid, training.run_shown()


def _learned(
    config: LocalizeRunConfig, encoder: Encoder, pyramid: Pyramid, takes: Sequence[Take], train: ShardDataset
) -> tuple[SegmentDetector, Material]:
    """What learns, and from what."""
    if not config.tune_backbone:
        return SegmentDetector(pyramid), Takes(takes)
    stride, clip = config.dense.feature_stride // encoder.clip.stride, encoder.clip
    window_encoder = WindowEncoder(encoder.model, clip.frames, stride, config.dense.feature_batch_size)
    parts = VideoParts(train, clip, config.dense, config.part_windows, config.training.seed)
    return SegmentDetector(pyramid, window_encoder), parts


def _digest(model: ActionModel) -> str:
    """A checksum of all that features depend on."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _kept_tracks(
    config: LocalizeRunConfig, encoder: Encoder, dataset: ShardDataset, place: ProcessPlace, title: str
) -> list[FeatureTrack]:
    """The features of all videos; each process makes those of its share that are not there yet."""
    cache = FeatureCache(config.features, encoder, dataset, config.dense)
    mine = range(place.rank, len(dataset), place.world_size)
    with ProgressDisplay(title, len(mine), "videos", visible=place.is_main) as progress:
        for video in mine:
            cache[video]
            progress.advance()
    place.wait_for_all()
    return [cache[video] for video in range(len(dataset))]


def _find(
    pyramid: Pyramid,
    config: DecodingConfig,
    val: ShardDataset,
    tracks: Callable[[int], FeatureTrack],
    place: ProcessPlace,
) -> FoundSegments:
    """What is found in all test videos, each looked at by one process."""
    mine: list[tuple[int, Video]] = []
    videos = range(place.rank, len(val), place.world_size)
    with ProgressDisplay("test videos", len(videos), "videos", visible=place.is_main) as progress:
        for number in videos:
            track = tracks(number)
            found = find_segments(pyramid, track, config)
            mine.append((number, Video(val.info(number).name, track.duration_s, true_segments(val, number), found)))
            progress.advance()
    place.wait_for_all()
    in_order = sorted(place.concatenate(mine), key=lambda pair: pair[0])
    return FoundSegments(val.manifest.classes, [video for _, video in in_order])

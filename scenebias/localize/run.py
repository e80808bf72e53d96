"""One run of localisation: a backbone, or none, and a detector of segments that is trained on its features."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from dali_pipelines.windows import ClipConfig
from scenebias.data.datasets import RemoteConfig, open_pair, shared_clips_note
from scenebias.distributed.interruption import noted_signals
from scenebias.distributed.process_place import DistributedConfig, ProcessPlace, distributed_session, process_count
from scenebias.localize.decoding import DecodingConfig, find_segments
from scenebias.localize.dense_features import DenseConfig, dense_track
from scenebias.localize.feature_cache import Encoder, FeatureCache
from scenebias.localize.found_segments import SEGMENTS_NAME, FoundSegments, Video
from scenebias.localize.pyramid import Pyramid, PyramidConfig
from scenebias.localize.tracks import FeatureTrack, Take, true_segments
from scenebias.localize.training import (
    DetectorTraining,
    HeadTrainingConfig,
    Material,
    SegmentDetector,
    Takes,
    new_pyramid,
)
from scenebias.localize.tuning import VideoParts, WindowEncoder
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BackboneName
from scenebias.models.seen_clips import SeenClips, identity_of
from scenebias.models.weights import WeightsMetadata, clip_config_of, ensure_unseen, load_weights, save_weights
from scenebias.reports.progress import ProgressDisplay
from scenebias.reports.terminal import tell
from scenebias.run_folder.checkpoint import CheckpointFolder
from scenebias.run_folder.folder import RunFolder
from scenebias.run_folder.record import RunRecord, plain
from shards.checks import require_at_least
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.system.atomic import write_json

WITHOUT_EFFECT = ("out", "train", "val", "weights", "features", "feature_batch_size", "remote", "distributed", "force")
"""Options that decide nothing of a result; data and weights count by their content, not their place."""
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True, kw_only=True)
class LocalizeOptions:
    """How to localise."""

    backbone: BackboneName | None = None
    """The video network of a random start: by default that of --weights, and r3d_18 without."""
    tune_backbone: bool = False
    """Train the backbone too, on parts of the videos, and not the detector alone on features that are kept."""
    part_windows: int = 48
    """With --tune-backbone: windows of a video that are seen in a step, one after another."""
    features: Path | None = None
    """Folder where features are kept, for other runs too; by default one in --out."""
    force: bool = False
    """Go on even where the initial weights have seen videos of --val."""
    dense: DenseConfig = field(default_factory=DenseConfig)
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    training: HeadTrainingConfig = field(default_factory=HeadTrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)

    def __post_init__(self) -> None:
        if self.backbone is not None:
            ModelConfig(backbone=self.backbone)
        require_at_least(1, part_windows=self.part_windows)


@dataclass(frozen=True, kw_only=True)
class LocalizeRunConfig(LocalizeOptions):
    """A run."""

    train: str
    val: str
    out: Path
    weights: Path | None = None
    """Pretrained weights; without them the network is a random one."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """How the windows of a random network are cut; weights say it themselves."""
    features: Path
    """Folder where features are kept."""


@dataclass(frozen=True, eq=False)
class _Start:
    encoder: Encoder
    metadata: WeightsMetadata
    """Of the weights; of a random network what is known before it has learned anything."""


def run_localization(config: LocalizeRunConfig) -> None:
    """Train into ``config.out`` and find the segments of the test videos, or go on, or leave it where it is complete.

    Leaves ``run.json``, ``checkpoints/``, ``weights.safetensors``, ``segments.json`` and ``result.json``. Videos are
    shared out among the processes that ``torchrun`` started: their features are made once, and each is tested once.
    """
    folder = RunFolder(config.out)
    with folder.held("training into"):
        train, val = open_pair(config.train, config.val, config.remote)
        for dataset, option in ((train, "--train"), (val, "--val")):
            require_segments(dataset, option)
        start = _start(config, train.manifest.classes)
        notes = [shared_clips_note(train, val)]
        if config.weights is not None:
            notes.append(ensure_unseen(config.weights, start.metadata, val, force=config.force))
        record = RunRecord.of(
            config,
            {"train": identity_of(train), "val": identity_of(val), "encoder": start.encoder.digest},
            {"processes": process_count()},
        )
        if folder.has_begun():
            for change in record.changes_since(folder.path, WITHOUT_EFFECT):
                tell(f"the run goes on, although {change}")
        if folder.is_complete:
            tell(f"{folder.path} is complete already")
            return
        for note in notes:
            tell(note)
        if config.weights is not None and start.metadata.focus != train.manifest.focus:
            tell(
                f"{config.weights} were trained on {start.metadata.focus}; {train.location} shows"
                f" {train.manifest.focus}"
            )
        with distributed_session(config.distributed, long_waits=True) as place:
            if place.is_main:
                folder.remove_leftovers()
                record.write(folder.path)
            place.wait_for_all()
            _run(config, start, train, val, place, record)
            place.wait_for_all()


def require_segments(dataset: ShardDataset, option: str) -> None:
    """UserError where no segments were packed with a data set."""
    if not dataset.has_segments:
        raise UserError(
            f"{option} {dataset.location} has no segments: pack it again with them (scenebias pack --help tells which"
            " sources have them)"
        )


def _start(config: LocalizeRunConfig, classes: Sequence[str]) -> _Start:
    if config.weights is not None:
        model, metadata = load_weights(config.weights)
        clip = clip_config_of(metadata)
    else:
        torch.manual_seed(config.training.seed)
        model = ActionModel(ModelConfig(backbone=config.backbone or "r3d_18"), len(classes))
        clip = config.clip
        metadata = WeightsMetadata(backbone=model.config.backbone, classes=tuple(classes), trained_on=())
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    model = model.eval().to(memory_format=torch.channels_last_3d)
    return _Start(Encoder(model, clip, digest.hexdigest()), metadata)


def _run(
    config: LocalizeRunConfig,
    start: _Start,
    train: ShardDataset,
    val: ShardDataset,
    place: ProcessPlace,
    record: RunRecord,
) -> None:
    folder, encoder = RunFolder(config.out), start.encoder
    encoder.model.to(place.device)
    tracks = _kept_tracks(config, encoder, train, place, "features of --train")
    takes = [Take(track, true_segments(train, video)) for video, track in enumerate(tracks)]
    if not any(len(take.label_N) for take in takes):
        raise UserError(f"--train {train.location} has no segment of any class: nothing can be learned from it")
    pyramid = new_pyramid(takes, len(train.manifest.classes), config.pyramid, config.training.seed)
    checkpoints = CheckpointFolder(folder.checkpoints, KEPT_CHECKPOINTS)
    if config.tune_backbone:
        stride = config.dense.feature_stride // encoder.clip.stride
        window_encoder = WindowEncoder(encoder.model, encoder.clip.frames, stride, config.dense.feature_batch_size)
        detector = SegmentDetector(pyramid, window_encoder)
        material: Material = VideoParts(train, encoder.clip, config.dense, config.part_windows, config.training.seed)
    else:
        detector = SegmentDetector(pyramid)
        material = Takes(takes)
    with (
        noted_signals() as interruption,
        ProgressDisplay("training", config.training.epochs, "epochs", visible=place.is_main) as progress,
    ):
        training = DetectorTraining(detector, material, config.training, place, checkpoints, interruption)
        progress.begin(training.epochs_done, config.training.epochs)
        losses = training.run(lambda done, loss: progress.update(done, {"loss": loss}))
    kept = FeatureCache(config.features, encoder, val, config.dense)

    def test_track(video: int) -> FeatureTrack:
        if config.tune_backbone:  # the features of weights that nobody else has
            return dense_track(encoder.model, val, video, encoder.clip, config.dense)
        return kept[video]

    found = _find(pyramid, config.decoding, val, test_track, place)
    if place.is_main:
        _save_weights(folder, config, start, pyramid, train, record)
        found.save(folder.path / SEGMENTS_NAME)
        write_json(folder.result, {"losses": losses})  # last: it says that the run is complete


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


def _save_weights(
    folder: RunFolder,
    config: LocalizeRunConfig,
    start: _Start,
    pyramid: Pyramid,
    train: ShardDataset,
    record: RunRecord,
) -> None:
    """The backbone as it is now, with its old action head, and the detector."""
    before = start.metadata
    metadata = WeightsMetadata(
        backbone=before.backbone,
        classes=before.classes,
        trained_on=(*before.trained_on, identity_of(train)),
        seen_clips=SeenClips.after(before.seen_clips, train),
        configuration={**record.configuration, "clip": plain(start.encoder.clip)},
        focus=before.focus,
        parts={
            "segment_detector": {
                "classes": list(train.manifest.classes),
                "dense": plain(config.dense),
                "pyramid": plain(config.pyramid),
                "decoding": plain(config.decoding),
            }
        },
    )
    save_weights(folder.weights, start.encoder.model, metadata, {"segment_detector": pyramid})

"""What every run begins and ends with that trains a detector on a backbone, pretrained or random."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dali_pipelines.windows import ClipConfig
from scenebias.data.datasets import RemoteConfig, open_pair, shared_clips_note
from scenebias.distributed.process_place import DistributedConfig, ProcessPlace, distributed_session, process_count
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import AnyBackbone
from scenebias.models.seen_clips import SeenClips, identity_of
from scenebias.models.weights import (
    Part,
    WeightsMetadata,
    clip_config_of,
    ensure_unseen,
    load_part,
    load_weights,
    save_weights,
    weights_at,
)
from scenebias.reports.terminal import tell
from scenebias.run_folder.folder import RunFolder
from scenebias.run_folder.record import RunRecord, plain
from scenebias.transfer.plan import PlannedRun
from scenebias.transfer.run import DEFAULT_BACKBONE
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.system.checksums import sha256_of

WITHOUT_EFFECT = ("out", "train", "val", "weights", "trained_in", "remote", "distributed", "force")
"""Options that decide nothing of a result; data and weights count by their content, not their place."""


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """What every detector is trained on."""

    backbone: AnyBackbone | None = None
    """The video network of a random start: by default that of --weights, and r3d_18 without; where that of --weights is
    of your own code, it is to be named."""
    force: bool = False
    """Go on even where the initial weights have seen videos of --val."""
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)

    def __post_init__(self) -> None:
        if self.backbone is not None:
            ModelConfig(backbone=self.backbone)


@dataclass(frozen=True, kw_only=True)
class DetectorRunConfig(BackboneOptions):
    """One run."""

    train: str
    val: str
    out: Path
    weights: Path | None = None
    """Pretrained weights; without them the network is a random one."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """How the windows of a random network are cut; weights say it themselves."""
    trained_in: Path | None = None
    """The folder of a finished run that differs in ``val`` alone: its training is taken over."""


@dataclass(frozen=True, eq=False)
class DetectorRun:
    """A run whose inputs are checked and whose folder is ready."""

    folder: RunFolder
    model: ActionModel
    clip: ClipConfig
    """How its windows are cut."""
    train: ShardDataset
    val: ShardDataset
    place: ProcessPlace
    record: RunRecord
    before: WeightsMetadata
    """What the weights say of themselves; of a random network what is known before it has learned anything."""
    trained_in: RunFolder | None = None
    """The run whose training is taken over."""

    def take_over(self, part: Part, detector: nn.Module) -> list[float]:
        """Load the backbone and its ``detector`` as `trained_in` has left them; the losses of its epochs."""
        assert self.trained_in is not None, "asked for where there is one"
        backbone, _ = load_weights(self.trained_in.weights, self.before.backbone)
        self.model.load_state_dict(backbone.state_dict())
        load_part(self.trained_in.weights, part, detector)
        detector.eval()
        losses: list[float] = json.loads(self.trained_in.result.read_text(encoding="utf-8"))["losses"]
        return losses

    def save(self, part: Part, detector: nn.Module, described: Mapping[str, Any]) -> None:
        """Write the backbone as it is now, with its old action head, and its detector, ``described`` as JSON values."""
        metadata = WeightsMetadata(
            backbone=self.before.backbone,
            classes=self.before.classes,
            trained_on=(*self.before.trained_on, identity_of(self.train)),
            seen_clips=SeenClips.after(self.before.seen_clips, self.train),
            configuration={**self.record.configuration, "clip": plain(self.clip)},
            focus=self.before.focus,
            parts={part: {"classes": list(self.train.manifest.classes), **described}},
        )
        save_weights(self.folder.weights, self.model, metadata, {part: detector})


@contextmanager
def begun_run(
    config: DetectorRunConfig,
    require: Callable[[ShardDataset, str], None],
    *,
    seed: int,
    may_change: tuple[str, ...] = (),
) -> Iterator[DetectorRun | None]:
    """Check, hold the run's folder and join the processes of the run; None: it is complete already.

    ``require`` raises UserError where a data set, given by an option, lacks what the detector needs; ``seed`` is of a
    random network; ``may_change`` names options beside `WITHOUT_EFFECT` that decide nothing of the result.

    Raises:
        UserError: data or weights cannot be used, or the folder holds another run.
    """
    folder = RunFolder(config.out)
    with folder.held("training into"):
        train, val = open_pair(config.train, config.val, config.remote)
        require(train, f"--train {train.location}")
        require(val, f"--val {val.location}")
        model, metadata, clip = _start(config, train, seed)
        notes = [shared_clips_note(train, val)]
        if config.weights is not None:
            notes.append(ensure_unseen(config.weights, metadata, val, force=config.force))
            if metadata.focus != train.manifest.focus:
                notes.append(
                    f"{config.weights} were trained on {metadata.focus}; {train.location} shows {train.manifest.focus}"
                )
        data = {
            "train": identity_of(train),
            "val": identity_of(val),
            "initial_weights_sha256": config.weights and sha256_of(weights_at(config.weights)),
        }
        record = RunRecord.of(config, data, {"processes": process_count()})
        if folder.has_begun():
            for change in record.changes_since(folder.path, (*WITHOUT_EFFECT, *may_change)):
                tell(f"the run goes on, although {change}")
        if folder.is_complete:
            tell(f"{folder.path} is complete already")
            yield None
            return
        for note in notes:
            tell(note)
        with distributed_session(config.distributed, long_waits=True) as place:
            if place.is_main:
                folder.remove_leftovers()
                record.write(folder.path)
            place.wait_for_all()  # before any looks for a checkpoint
            model.to(place.device).to(memory_format=torch.channels_last_3d)
            trained_in = None if config.trained_in is None else RunFolder(config.trained_in)
            yield DetectorRun(folder, model, clip, train, val, place, record, metadata, trained_in)
            place.wait_for_all()


def _start(
    config: DetectorRunConfig, train: ShardDataset, seed: int
) -> tuple[ActionModel, WeightsMetadata, ClipConfig]:
    if config.weights is not None:
        model, metadata = load_weights(config.weights, config.backbone)
        return model.eval(), metadata, clip_config_of(metadata)
    classes = train.manifest.classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model_config = ModelConfig(backbone=config.backbone or DEFAULT_BACKBONE)
        model = ActionModel(model_config, len(classes), clip=config.clip)
    return model.eval(), WeightsMetadata(backbone=model.config.backbone, classes=classes, trained_on=()), config.clip


def run_options(config: BackboneOptions, options: type, run: PlannedRun) -> dict[str, Any]:
    """What a `DetectorRunConfig` has of a command's ``config``, whose fields of ``options`` it shares, and of a run.

    The runs of a row train with one seed after another.
    """
    shared = {option.name: getattr(config, option.name) for option in fields(options)}
    training = shared["training"]
    return shared | {
        "training": replace(training, seed=training.seed + run.start.number),
        "backbone": config.backbone or run.start.backbone,
        "train": run.pair.train,
        "val": run.pair.val,
        "out": run.folder,
        "weights": run.start.weights,
        "trained_in": run.trained_in,
    }


def clip_of_random_starts(asked: ClipConfig, planned: list[PlannedRun]) -> ClipConfig:
    """How the windows of random networks are cut: as those of the first weights, if there are any.

    Raises UserError where ``asked``, which the command line says, is something else.
    """
    found = next((run.start.metadata for run in planned if run.start.metadata is not None), None)
    if found is None:
        return asked
    clip = clip_config_of(found)
    if asked not in (ClipConfig(), clip):
        raise UserError(
            f"--weights say how windows are cut ({clip.frames} frames, stride {clip.stride}, {clip.size} pixels): leave"
            " out --frames, --stride, --size, --scales and --flip-probability, which are for random networks alone"
        )
    return clip

"""Weight files: safetensors that say which network they belong to and which videos they have seen.

Beside the action model, with the normalisation of its pixels, they may hold the scene head that it was pretrained with,
for the next stage of pretraining; whoever wants the action model alone is not bothered with it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dali_pipelines.windows import ClipConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BackboneName
from scenebias.models.heads import AdversaryHead
from scenebias.run_folder.record import with_current_names
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.focus import WHOLE_FRAMES, Focus
from shards.system.atomic import atomic_write

FORMAT_VERSION = 2
_KEY = "scenebias"
_HEAD_PREFIX = "head."
_SCENE_HEAD_PREFIX = "scene_head."
WHOLE = "all"
"""The subset that holds all others of its split."""


@dataclass(frozen=True)
class TrainedOn:
    """A data set that weights have seen: the fields of its manifest that tell it from others."""

    dataset: str
    split: str
    subset: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class WeightsMetadata:
    """What a weight file says of itself."""

    backbone: BackboneName
    """Which network they are of."""
    classes: tuple[str, ...]
    """The actions, in the order of the action head's outputs."""
    trained_on: tuple[TrainedOn, ...]
    """Every data set seen so far, through pretraining and each transfer, oldest first."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """The resolved configuration of the run, JSON values only."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What the run measured of itself."""
    focus: Focus = WHOLE_FRAMES
    """What of each frame the data showed that they were trained on last."""
    format_version: int = FORMAT_VERSION
    """Version of this description."""


def save_weights(
    path: Path, model: ActionModel, metadata: WeightsMetadata, scene_head: AdversaryHead | None = None
) -> None:
    """Write the model's weights and their description; ``path`` appears only when it is complete."""
    assert metadata.backbone == model.config.backbone, "the description is of another backbone"
    assert len(metadata.classes) == model.action_count, "the description is of other classes"
    state = model.state_dict()
    if scene_head is not None:
        state |= {f"{_SCENE_HEAD_PREFIX}{name}": tensor for name, tensor in scene_head.state_dict().items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    description = json.dumps(asdict(metadata), sort_keys=True, ensure_ascii=False)
    with atomic_write(path) as file:
        file.write(save(tensors, metadata={_KEY: description}))


def read_metadata(path: Path) -> WeightsMetadata:
    """The description alone, without the weights. Raises `UserError` for a file that `save_weights` did not write."""
    return _read(path, with_tensors=False)[0]


def load_weights(path: Path) -> tuple[ActionModel, WeightsMetadata]:
    """The model of a weight file, on the CPU in training mode, and its description.

    Raises `UserError` for a missing or damaged file.
    """
    metadata, tensors, _ = _read(path)
    model = ActionModel(ModelConfig(backbone=metadata.backbone), len(metadata.classes))
    _load(path, model, tensors, metadata.backbone)
    return model, metadata


def load_into(path: Path, model: ActionModel, *, head: bool) -> WeightsMetadata:
    """Give ``model`` the backbone of a weight file, and its action head too with ``head``; return the description.

    The normalisation of the pixels comes with the backbone. Raises `UserError` for a missing or damaged file, or one of
    another backbone than the model's.
    """
    metadata, tensors, _ = _read(path)
    if metadata.backbone != model.config.backbone:
        raise UserError(
            f"{path}: holds weights of {metadata.backbone}, but the run is set to {model.config.backbone}; pass"
            f" --backbone {metadata.backbone} or give weights of {model.config.backbone}"
        )
    if not head:
        own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(_HEAD_PREFIX)}
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(_HEAD_PREFIX)} | own
    _load(path, model, tensors, metadata.backbone)
    return metadata


def load_scene_head(path: Path, scene_head: AdversaryHead) -> bool:
    """Give ``scene_head`` the weights of the file's. False where the file holds none: then it stays as it is.

    Raises `UserError` for a missing or damaged file, or one whose scene head has another number of hidden layers.
    """
    _, _, tensors = _read(path)
    if not tensors:
        return False
    found, expected = _layer_count(tensors), _layer_count(scene_head.state_dict())
    if found != expected:
        raise UserError(
            f"{path}: its scene head has {found - 1} hidden layers, but the run is set to {expected - 1}; pass"
            f" --scene-hidden-layers {found - 1}"
        )
    _load(path, scene_head, tensors, "the scene head")
    return True


def _layer_count(tensors: Mapping[str, Tensor]) -> int:
    """How many linear layers these weights of a head are of."""
    return sum(tensor.ndim == 2 for tensor in tensors.values())


def seen_reason(trained_on: Sequence[TrainedOn], data: TrainedOn) -> str | None:
    """Why ``data`` cannot fairly test weights that were ``trained_on`` others, as a clause; None if it can.

    It cannot if the weights were trained on the very same shards or subset, or on any subset of another split of the
    same data set: such splits (UCF101, HMDB51) deal the same videos anew into training and test.
    """
    for seen in trained_on:
        if seen.digest == data.digest:
            return f"the weights were trained on these very shards ({_name(seen)})"
        if seen.dataset != data.dataset:
            continue
        if seen.split != data.split:
            return f"the weights were trained on {_name(seen)}, which shares videos with {_name(data)}"
        if seen.subset == data.subset or WHOLE in (seen.subset, data.subset):
            return f"the weights were trained on {_name(seen)}"
    return None


def ensure_unseen(trained_on: Sequence[TrainedOn], data: TrainedOn, *, force: bool = False) -> None:
    """Refuse, with a `UserError`, to evaluate weights on videos that they were trained on, unless forced."""
    reason = seen_reason(trained_on, data)
    if reason is not None and not force:
        raise UserError(
            f"cannot evaluate on {_name(data)}: {reason}; choose weights that have not seen it, tell data sets apart by"
            " name when packing them (--dataset, --subset), or pass --force to measure it all the same"
        )


def ensure_same_focus(weights: Path, focus: Focus, dataset: ShardDataset, *, force: bool = False) -> None:
    """Refuse, with a `UserError`, to show ``weights`` another part of the frames than they know, unless forced."""
    if dataset.manifest.focus != focus and not force:
        raise UserError(
            f"{dataset.location} shows {dataset.manifest.focus}, but {weights} were trained on {focus}: pack the data"
            " alike, or pass --force to measure it all the same"
        )


def _name(data: TrainedOn) -> str:
    return " ".join(part for part in (data.dataset, data.split, data.subset) if part)


def _read(path: Path, with_tensors: bool = True) -> tuple[WeightsMetadata, dict[str, Tensor], dict[str, Tensor]]:
    """The description, the state of the action model and that of the scene head."""
    if not path.is_file():
        raise UserError(f"{path}: no such weight file; give the .safetensors file that a training run has written")
    try:
        with safe_open(path, framework="pt") as file:
            description = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path}: not a complete safetensors file ({error}); copy it again, or give another") from error
    if description is None:
        raise UserError(f"{path}: was not written by scenebias; give the .safetensors file of a training run")
    of_scenes = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_SCENE_HEAD_PREFIX)}
    scene_head = {name.removeprefix(_SCENE_HEAD_PREFIX): tensor for name, tensor in of_scenes.items()}
    return _parse(path, description), tensors, scene_head


def _parse(path: Path, description: str) -> WeightsMetadata:
    try:
        fields = json.loads(description)
        version = fields["format_version"]
        if version == FORMAT_VERSION:
            fields["classes"] = tuple(fields["classes"])
            fields["configuration"] = with_current_names(fields.get("configuration", {}))
            if "focus" in fields:
                fields["focus"] = Focus(**fields["focus"])
            fields["trained_on"] = tuple(TrainedOn(**seen) for seen in fields["trained_on"])
            metadata = WeightsMetadata(**fields)
            ModelConfig(backbone=metadata.backbone)
            return metadata
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: its description cannot be read ({error}); copy it again, or give another") from error
    raise UserError(
        f"{path}: has format version {version}, this program reads {FORMAT_VERSION}; use the version that wrote it"
    )


def _load(path: Path, module: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Load all of the state of ``module``, called ``what``; it must fit in name and shape."""
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise UserError(
            f"{path}: {len(wrong)} tensors do not fit {what} (first: {wrong[0]}); give weights "
            "written by this version of the program"
        )
    infinite = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if infinite:
        raise UserError(
            f"{path}: {len(infinite)} tensors of {what} hold what is no finite number (first: {infinite[0]}): its"
            " training diverged; give other weights, or train again with a lower --learning-rate"
        )
    module.load_state_dict(tensors)


def identity_of(dataset: ShardDataset) -> TrainedOn:
    """What tells ``dataset`` from others in a weight file."""
    manifest = dataset.manifest
    return TrainedOn(manifest.dataset, manifest.split, manifest.subset, manifest.digest)


def clip_config_of(metadata: WeightsMetadata) -> ClipConfig:
    """How the clips were cut that the weights were trained on; UserError where the weights do not say."""
    try:
        values = dict(metadata.configuration["clip"])
        return ClipConfig(**{**values, "scales": tuple(values["scales"])})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the weights do not say how clips are cut ({error}): give weights of a training run"
        ) from error

"""Weight files: safetensors that say which network they belong to and which videos they have seen.

Beside the action model, with the normalisation of its pixels, they may hold what was trained with it or on it: the
scene head, for the next stage of pretraining, or a detector; whoever wants the action model alone is not bothered with
these.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dali_pipelines.windows import ClipConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import AnyBackbone
from scenebias.models.heads import AdversaryHead
from scenebias.models.own_network import is_own
from scenebias.models.seen_clips import SeenClips, TrainedOn, identity_of, judge
from scenebias.run_folder.record import OF_THE_MACHINE, with_current_names
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.focus import WHOLE_FRAMES, Focus
from shards.system.atomic import atomic_write

FORMAT_VERSION = 2
HUB_WEIGHTS_NAME = "model.safetensors"
"""The weight file in a folder that is laid out as the Hugging Face Hub has it."""
_KEY = "scenebias"
_HEAD_PREFIX = "head."
_SEEN_PREFIX = "seen_clips."
Part = Literal["scene_head", "segment_detector", "box_detector"]
"""What a weight file may hold beside the action model."""


@dataclass(frozen=True, kw_only=True)
class WeightsMetadata:
    """What a weight file says of itself."""

    backbone: AnyBackbone
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
    parts: Mapping[Part, Mapping[str, Any]] = field(default_factory=dict)
    """What each `Part` that needs it says of itself, JSON values only."""
    seen_clips: SeenClips | None = field(default=None, compare=False)
    """The clips of ``trained_on``; None: weights of an earlier version, which know its names alone."""
    format_version: int = FORMAT_VERSION
    """Version of this description."""


def save_weights(
    path: Path, model: ActionModel, metadata: WeightsMetadata, parts: Mapping[Part, nn.Module | None] | None = None
) -> None:
    """Write the weights of the model and of those ``parts`` that are there, and their description.

    ``path`` appears only when it is complete.
    """
    assert metadata.backbone == model.config.backbone, "the description is of another backbone"
    assert len(metadata.classes) == model.action_count, "the description is of other classes"
    state = model.state_dict()
    for part, module in (parts or {}).items():
        if module is not None:
            state |= {f"{part}.{name}": tensor for name, tensor in module.state_dict().items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    described = asdict(replace(metadata, seen_clips=None))
    if not metadata.parts:
        del described["parts"]  # versions before there were any refuse what they do not know
    if (seen := metadata.seen_clips) is not None:
        described["seen_clips"] = seen.data
        tensors |= {f"{_SEEN_PREFIX}{name}": tensor.contiguous() for name, tensor in seen.tensors().items()}
    description = json.dumps(described, sort_keys=True, ensure_ascii=False)
    with atomic_write(path) as file:
        file.write(save(tensors, metadata={_KEY: description}))


def read_metadata(path: Path) -> WeightsMetadata:
    """The description alone, without the weights. Raises `UserError` for a file that `save_weights` did not write."""
    return _read(path, with_tensors=False)[0]


def named_backbone(path: Path, metadata: WeightsMetadata, asked: AnyBackbone | None) -> AnyBackbone:
    """The network of a weight file, where it may be made.

    One of a user's own is code, which runs only where the user has ``asked`` for it by the same name; else UserError.
    """
    found = metadata.backbone
    if is_own(found) and asked != found:
        raise UserError(
            f"{path}: its network is made by {found}, and no file alone may run code: where you trust that code, pass"
            f" --backbone {found}"
        )
    return found


def load_weights(path: Path, backbone: AnyBackbone | None = None) -> tuple[ActionModel, WeightsMetadata]:
    """The model of a weight file, on the CPU in training mode, and its description.

    Of a network of a user's own ``backbone`` must be the name, see `named_backbone`. Raises `UserError` for a missing
    or damaged file.
    """
    metadata, tensors, _ = _read(path)
    config = ModelConfig(backbone=named_backbone(path, metadata, backbone))
    clip = clip_config_of(metadata) if is_own(config.backbone) else None
    model = ActionModel(config, len(metadata.classes), clip=clip)
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
    tensors = _read(path)[2].get("scene_head")
    if tensors is None:
        return False
    found, expected = _layer_count(tensors), _layer_count(scene_head.state_dict())
    if found != expected:
        raise UserError(
            f"{path}: its scene head has {found - 1} hidden layers, but the run is set to {expected - 1}; pass"
            f" --scene-hidden-layers {found - 1}"
        )
    _load(path, scene_head, tensors, "the scene head")
    return True


def load_part(path: Path, part: Part, module: nn.Module) -> None:
    """Give ``module`` the weights of this part of the file.

    Raises `UserError` for a missing or damaged file, or one that holds no such part, or one of another shape.
    """
    tensors = _read(path)[2].get(part)
    what = f"the {part.replace('_', ' ')}"
    if tensors is None:
        raise UserError(f"{path}: does not hold {what}; give weights that hold one")
    _load(path, module, tensors, what)


def _layer_count(tensors: Mapping[str, Tensor]) -> int:
    """How many linear layers these weights of a head are of."""
    return sum(tensor.ndim == 2 for tensor in tensors.values())


def ensure_unseen(
    weights: Path, metadata: WeightsMetadata, dataset: ShardDataset, *, force: bool = False
) -> str | None:
    """Refuse, with a `UserError`, to evaluate ``weights`` on clips that they were trained on, unless forced.

    Returns what should be told of it, as a sentence: that it was forced, or rests on names alone; None: nothing.
    """
    verdict = judge(metadata.trained_on, metadata.seen_clips, dataset)
    if verdict.reason is None:
        return verdict.doubt and f"{weights}: {verdict.doubt}"
    doubt = "" if verdict.doubt is None else f" ({verdict.doubt})"
    if force:
        return f"{weights} are measured on {dataset.location} all the same (--force): {verdict.reason}{doubt}"
    raise UserError(
        f"cannot evaluate on {identity_of(dataset)}: {verdict.reason}{doubt}; {verdict.remedy}, or pass --force to"
        " measure it all the same"
    )


def ensure_same_focus(weights: Path, focus: Focus, dataset: ShardDataset, *, force: bool = False) -> None:
    """Refuse, with a `UserError`, to show ``weights`` another part of the frames than they know, unless forced."""
    if dataset.manifest.focus != focus and not force:
        raise UserError(
            f"{dataset.location} shows {dataset.manifest.focus}, but {weights} were trained on {focus}: pack the data"
            " alike, or pass --force to measure it all the same"
        )


def weights_at(path: Path) -> Path:
    """The file itself, or the one in a folder of the Hub's layout."""
    return path / HUB_WEIGHTS_NAME if path.is_dir() else path


def copy_for_others(path: Path, copy: Path) -> None:
    """Write all that a weight file holds to ``copy``, but for where on this machine its data and outputs lay.

    Raises `UserError` for a missing or damaged file.
    """
    read_metadata(path)
    with safe_open(weights_at(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        described = json.loads(file.metadata()[_KEY])
    configuration = described.get("configuration", {})
    described["configuration"] = {name: configuration[name] for name in configuration if name not in OF_THE_MACHINE}
    description = json.dumps(described, sort_keys=True, ensure_ascii=False)
    with atomic_write(copy) as out:
        out.write(save(tensors, metadata={_KEY: description}))


def _read(
    path: Path, with_tensors: bool = True
) -> tuple[WeightsMetadata, dict[str, Tensor], dict[Part, dict[str, Tensor]]]:
    """The description, the state of the action model, and that of every part that is there."""
    path = weights_at(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weight file; give the .safetensors file that a training run has written")
    try:
        with safe_open(path, framework="pt") as file:
            description = (file.metadata() or {}).get(_KEY)
            tensors = {
                name: file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118
                if with_tensors or name.startswith(_SEEN_PREFIX)
            }
    except SafetensorError as error:
        raise UserError(f"{path}: not a complete safetensors file ({error}); copy it again, or give another") from error
    if description is None:
        raise UserError(f"{path}: was not written by scenebias; give the .safetensors file of a training run")
    seen_clips = _take(tensors, _SEEN_PREFIX)
    parts: dict[Part, dict[str, Tensor]] = {part: _take(tensors, f"{part}.") for part in get_args(Part)}
    return _parse(path, description, seen_clips), tensors, {part: state for part, state in parts.items() if state}


def _take(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Remove the tensors whose names begin so, and return them without that beginning."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}


def _parse(path: Path, description: str, seen_clips: Mapping[str, Tensor]) -> WeightsMetadata:
    try:
        fields = json.loads(description)
        version = fields["format_version"]
        if version == FORMAT_VERSION:
            fields["classes"] = tuple(fields["classes"])
            fields["configuration"] = with_current_names(fields.get("configuration", {}))
            if "focus" in fields:
                fields["focus"] = Focus(**fields["focus"])
            fields["trained_on"] = tuple(TrainedOn(**seen) for seen in fields["trained_on"])
            if fields.get("seen_clips") is not None:
                fields["seen_clips"] = SeenClips.of_tensors(fields["seen_clips"], seen_clips)
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


def clip_config_of(metadata: WeightsMetadata) -> ClipConfig:
    """How the clips were cut that the weights were trained on; UserError where the weights do not say."""
    try:
        values = dict(metadata.configuration["clip"])
        from_lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return ClipConfig(**{**values, "scales": tuple(values["scales"]), **from_lists})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the weights do not say how clips are cut ({error}): give weights of a training run"
        ) from error

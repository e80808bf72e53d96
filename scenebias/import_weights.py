"""``python -m scenebias.import_weights``: weights that others have published become a weight file of ours.

They are torchvision's, trained on Kinetics-400, or of the paper's code base: 3D-ResNets-PyTorch (Hara et al.), which
the code of Choi et al. (NeurIPS 2019) is built upon. Its networks of depth 18 come in with their action head, and with
the scene head of adversarial training where there is one.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro
from torch import Tensor

from dali_pipelines import ClipConfig
from scenebias.commands import Command
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.heads import AdversaryHead
from scenebias.models.network_inputs import Pixels
from scenebias.models.published.foreign_weights import load_all, read_file, state_dict_in
from scenebias.models.published.torchvision_weights import TRAINED_ON, TorchvisionNetwork, load_published
from scenebias.models.seen_clips import TrainedOn
from scenebias.models.weights import WeightsMetadata, save_weights
from scenebias.run_folder.record import plain
from shards.errors import UserError
from shards.format.sample import SCENE_COUNT
from shards.sources.label_files import read_classes

PixelsName = Literal["activitynet", "kinetics"]


# That code's mean.py. Before 2019 it took 0 to 255 minus the mean of ActivityNet and divided by nothing.
PIXELS: dict[PixelsName, Pixels] = {
    "activitynet": Pixels((114.7748 / 255, 107.7354 / 255, 99.4750 / 255), (1 / 255, 1 / 255, 1 / 255)),
    "kinetics": Pixels((0.4345, 0.4051, 0.3775), (0.2768, 0.2713, 0.2737)),
}

_NEW_NAMES = (
    (r"conv1\.", "backbone.trunk.stem.0."),
    (r"bn1\.", "backbone.trunk.stem.1."),
    (r"(layer\d\.\d+)\.conv(\d)\.", r"backbone.trunk.\1.conv\2.0."),
    (r"(layer\d\.\d+)\.bn(\d)\.", r"backbone.trunk.\1.conv\2.1."),
    (r"(layer\d\.\d+)\.downsample\.", r"backbone.trunk.\1.downsample."),
    (r"fc\.", "head.1."),
)
_SCENE_PREFIX = "place_mlp."
# The head behind the second reversal, for masked clips: every stage begins it anew.
_LEFT_OUT_PREFIX = "hm_mlp."


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """What to import."""

    checkpoint: Annotated[Path | None, tyro.conf.Positional] = None
    """A .pth file of 3D-ResNets-PyTorch or of the code of the paper: resnet, depth 18, shortcut A or B; or, with
    --network, torchvision's of that network, which is downloaded where none is given."""
    network: TorchvisionNetwork | None = None
    """The network of torchvision that it is of, trained on Kinetics-400."""
    classes: Path | None = None
    """Text file with the names of its actions, one a line, in the order of its outputs. torchvision's are known."""
    out: Path
    """The .safetensors file to write."""
    pixels: PixelsName = "activitynet"
    """How its pixels were normalised; activitynet: 0 to 255 minus that data set's mean, as the paper's code and all
    checkpoints before 2019; kinetics: 0 to 1, by Kinetics' mean and standard deviation, as those of 2020."""
    dataset: str | None = None
    """Data set that it was trained on, named as in tools/make_shards.py: its clips are then refused as test clips."""
    split: str = "1"
    """Split of that data set."""
    subset: str = "train"
    """Subset of that split."""
    clip: ClipConfig = field(default_factory=ClipConfig)

    def __post_init__(self) -> None:
        if self.network is None and (self.checkpoint is None or self.classes is None):
            raise ValueError("checkpoint and classes must be given, or network, whose published weights are downloaded")
        networks = get_args(TorchvisionNetwork)
        if self.network is not None:
            if self.network not in networks:
                raise ValueError(f"network must be one of {', '.join(networks)}, got {self.network!r}")
            for name in ("classes", "dataset", "pixels", "split", "subset"):
                if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                    raise ValueError(f"{name} must be left out with network: it is known of torchvision's weights")
        if self.pixels not in PIXELS:
            raise ValueError(f"pixels must be one of {', '.join(get_args(PixelsName))}, got {self.pixels!r}")
        if self.out.suffix != ".safetensors":
            raise ValueError(f"out must end in .safetensors, got {self.out}")


def import_model(
    tensors: dict[str, Tensor], action_count: int, pixels: Pixels, origin: str
) -> tuple[ActionModel, AdversaryHead | None]:
    """The action model, and the scene head if there is one, of a state dict in that code's names without ``module.``.

    Raises:
        UserError: the state dict is of another network or of another number of actions.
    """
    remedy = "give a checkpoint of resnet, depth 18, of 3D-ResNets-PyTorch or the paper's code"
    output_AD = tensors.get("fc.weight")
    if output_AD is not None and len(output_AD) != action_count:
        raise UserError(
            f"{origin}: tells {len(output_AD)} actions apart, but --classes names {action_count}; give the list of"
            " classes that it was trained with"
        )
    of_scenes = {name: tensor for name, tensor in tensors.items() if name.startswith(_SCENE_PREFIX)}
    of_actions = {
        _new_name(name): tensor
        for name, tensor in tensors.items()
        if not name.startswith((_SCENE_PREFIX, _LEFT_OUT_PREFIX))
    }
    learned_shortcut = "layer2.0.downsample.0.weight" in tensors
    config = ModelConfig(backbone="resnet3d_18_b" if learned_shortcut else "resnet3d_18_a")
    model = ActionModel(config, action_count, mean_C=pixels.mean_C, std_C=pixels.std_C)
    of_pixels = {name: buffer.clone() for name, buffer in model.named_buffers(recurse=False)}
    load_all(of_actions | of_pixels, model, name=config.backbone, origin=origin, remedy=remedy)
    if not of_scenes:
        return model, None
    scene_tensors = _scene_tensors(of_scenes)
    hidden_layers = sum(tensor.ndim == 2 for tensor in scene_tensors.values()) - 1
    scene_head = AdversaryHead(model.feature_count, SCENE_COUNT, hidden_layers)
    load_all(scene_tensors, scene_head, name="the scene head", origin=origin, remedy=remedy)
    return model, scene_head


def _new_name(name: str) -> str:
    for old, new in _NEW_NAMES:
        if re.match(old, name):
            return re.sub(old, new, name, count=1)
    return name


def _scene_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of ``place_mlp`` by our names.

    Its hidden layers add a bias before BatchNorm, which ours leave out, as it is the same as a lower running mean.
    """
    hidden_layers = sum(name.endswith(".bn.running_mean") for name in tensors)
    renamed = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"place_mlp\.p_last_fc\.(\w+)", name):
            renamed[f"{3 * hidden_layers}.{match[1]}"] = tensor
        elif match := re.fullmatch(r"place_mlp\.(\d+)\.fc\.weight", name):
            renamed[f"{3 * int(match[1])}.weight"] = tensor
        elif match := re.fullmatch(r"place_mlp\.(\d+)\.bn\.(\w+)", name):
            bias = tensors.get(f"place_mlp.{match[1]}.fc.bias", 0)
            renamed[f"{3 * int(match[1]) + 1}.{match[2]}"] = tensor - bias if match[2] == "running_mean" else tensor
        elif not re.fullmatch(r"place_mlp\.\d+\.fc\.bias", name):
            renamed[name] = tensor
    return renamed


def main(config: ImportConfig) -> None:
    """Turn weights of torchvision, of 3D-ResNets-PyTorch or of the code released with the paper into a weight file."""
    scene_head: AdversaryHead | None = None
    seen: tuple[TrainedOn, ...] = ()
    if config.network is not None:
        published = load_published(config.network, config.checkpoint, "CHECKPOINT")
        model, classes, seen = published.model, published.classes, (TRAINED_ON,)
        if config.clip == ClipConfig():
            config = replace(config, clip=published.clip)
    else:
        model, scene_head, classes = _import_checkpoint(config)
        if config.dataset is not None:
            seen = (TrainedOn(config.dataset, config.split, config.subset, digest=""),)
    metadata = WeightsMetadata(
        backbone=model.config.backbone, classes=classes, trained_on=seen, configuration=plain(config)
    )
    try:
        save_weights(config.out, model, metadata, {"scene_head": scene_head})
    except OSError as error:
        raise UserError(f"--out {config.out} cannot be written ({error.strerror}): choose another place") from error
    with_scenes = "" if scene_head is None else " and a scene head"
    unknown = "" if seen else "; without --dataset no test clips can be refused"
    print(f"{config.out}: {model.config.backbone}, {len(classes)} actions{with_scenes}{unknown}")


def _import_checkpoint(config: ImportConfig) -> tuple[ActionModel, AdversaryHead | None, tuple[str, ...]]:
    """The model of a checkpoint of the paper's code base, its scene head, and its classes."""
    assert config.checkpoint is not None, "checked with the options"
    assert config.classes is not None, "checked with the options"
    classes = read_classes(config.classes)
    origin = str(config.checkpoint)
    remedy = "give a .pth file of 3D-ResNets-PyTorch or of the paper's code"
    content = read_file(config.checkpoint, origin=origin, remedy=remedy)
    tensors = state_dict_in(content, origin=origin, remedy=remedy)
    return *import_model(tensors, len(classes), PIXELS[config.pixels], origin), classes


COMMAND = Command(
    main=main,
    options=ImportConfig,
    writes=("out",),
    example="python -m scenebias.import_weights resnet-18-kinetics.pth --classes kinetics_classes.txt "
    "--dataset kinetics400 --out runs/kinetics.safetensors",
)

if __name__ == "__main__":
    COMMAND.run()

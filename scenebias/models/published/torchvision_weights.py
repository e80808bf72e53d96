"""The video networks of torchvision as it publishes them: trained on Kinetics-400, with its 400 actions.

Clips and pixels are as its documentation says. The frame rates there, 15 a second and 7.5 for MViT, are every other
frame of most videos, and every fourth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from dali_pipelines.windows import ClipConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import parts_of
from scenebias.models.network_inputs import input_of
from scenebias.models.published.published_weights import PublishedWeights
from scenebias.models.seen_clips import TrainedOn
from scenebias.models.weights import WeightsMetadata
from scenebias.run_folder.record import plain

TorchvisionNetwork = Literal[
    "r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b"
]
TRAINED_ON = TrainedOn("kinetics400", "1", "train", digest="")


@dataclass(frozen=True, eq=False)
class PublishedModel:
    """A network with its action head."""

    model: ActionModel
    classes: tuple[str, ...]
    clip: ClipConfig
    """How its clips are cut."""


def load_published(name: TorchvisionNetwork, path: Path | None, option: str) -> PublishedModel:
    """The network in a file that has torchvision's names.

    None: the file is downloaded to the cache of ``torch.hub``, and checked. ``option`` names the option that gives it.

    Raises:
        UserError: the file is missing, damaged or of another network, or cannot be downloaded.
    """
    from torchvision.models import get_model  # see `backbones`

    published = _enum(name)
    network: Any = get_model(name)
    PublishedWeights(network=f"torchvision's {name}", url=published.url, option=option).load_into(network, path)
    as_published = published.transforms()
    classes = tuple(published.meta["categories"])
    config = ModelConfig(backbone=name)
    model = ActionModel(config, len(classes), mean_C=as_published.mean, std_C=as_published.std)
    backbone, classifier = parts_of(network)
    model.backbone.load_state_dict(backbone.state_dict())
    linear = next(layer for layer in model.head if isinstance(layer, nn.Linear))
    linear.load_state_dict({"weight": classifier.weight.detach().flatten(start_dim=1), "bias": classifier.bias})
    return PublishedModel(model, classes, published_clip(name))


def published_metadata(published: PublishedModel, configuration: Mapping[str, Any]) -> WeightsMetadata:
    """What a weight file says of a published network; JSON values in ``configuration`` beside how clips are cut."""
    return WeightsMetadata(
        backbone=published.model.config.backbone,
        classes=published.classes,
        trained_on=(TRAINED_ON,),
        configuration={"clip": plain(published.clip), **configuration},
    )


def published_url(name: TorchvisionNetwork) -> str:
    """Where torchvision publishes the weights of a network."""
    url: str = _enum(name).url
    return url


def _enum(name: TorchvisionNetwork) -> Any:
    from torchvision.models import get_model_weights

    return get_model_weights(name)["KINETICS400_V1"]


def published_clip(name: TorchvisionNetwork) -> ClipConfig:
    """How the clips are cut on which torchvision measures its weights."""
    clip = video_rate(input_of(name).clip)
    return replace(clip, frames=128) if name == "s3d" else clip


def video_rate(clip: ClipConfig) -> ClipConfig:
    """The same clip at 15 frames a second, of videos of 30, where it is faster."""
    return replace(clip, stride=max(clip.stride, 2))

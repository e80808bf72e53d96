"""The video networks of torchvision as it publishes them: trained on Kinetics-400, with its 400 actions.

Clips and pixels are as its documentation says. The frame rates there, 15 a second, are every other frame of most
videos.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dali_pipelines.windows import ClipConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.published_weights import PublishedWeights
from scenebias.models.seen_clips import TrainedOn

TorchvisionNetwork = Literal["r3d_18", "mc3_18", "r2plus1d_18", "swin3d_t", "swin3d_s", "swin3d_b"]
_FRAMES: Mapping[TorchvisionNetwork, int] = {"swin3d_t": 32, "swin3d_s": 32, "swin3d_b": 32}
"""Of a clip; all others have 16."""
TRAINED_ON = TrainedOn("kinetics400", "1", "train", digest="")
_HEAD = "head.1."


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
    from torchvision.models import get_model, get_model_weights  # see `backbones`

    published: Any = get_model_weights(name)["KINETICS400_V1"]
    network = get_model(name)
    PublishedWeights(network=f"torchvision's {name}", url=published.url, option=option).load_into(network, path)
    as_published = published.transforms()
    classes = tuple(published.meta["categories"])
    config = ModelConfig(backbone=name)
    model = ActionModel(config, len(classes), mean_C=as_published.mean, std_C=as_published.std)
    own = dict(model.named_buffers(recurse=False))
    model.load_state_dict(own | {_our_name(theirs): tensor for theirs, tensor in network.state_dict().items()})
    clip = ClipConfig(frames=_FRAMES.get(name, 16), stride=2, size=as_published.crop_size[0])
    return PublishedModel(model, classes, clip)


def _our_name(theirs: str) -> str:
    for classifier in ("fc.", "head."):
        if theirs.startswith(classifier):
            return _HEAD + theirs.removeprefix(classifier)
    return f"backbone.trunk.{theirs}"

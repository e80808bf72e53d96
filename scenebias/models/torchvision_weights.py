"""The video networks of torchvision as it publishes them: trained on Kinetics-400, with its 400 actions.

As its documentation says, clips are 16 frames at 15 frames a second (of videos of 30, every other one), of 112 × 112
pixels; pixels are normalised as `action_model` does by default.
"""

from pathlib import Path
from typing import Any, Literal

from dali_pipelines.windows import ClipConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.published_weights import PublishedWeights
from scenebias.models.seen_clips import TrainedOn

TorchvisionNetwork = Literal["r3d_18", "mc3_18", "r2plus1d_18"]
CLIP = ClipConfig(frames=16, stride=2, size=112)
TRAINED_ON = TrainedOn("kinetics400", "1", "train", digest="")
_CLASSIFIER, _HEAD = "fc.", "head.1."


def load_published(name: TorchvisionNetwork, path: Path | None, option: str) -> tuple[ActionModel, tuple[str, ...]]:
    """The network with its action head, and the names of its actions, from a file in torchvision's names.

    None: the file is downloaded to the cache of ``torch.hub``, and checked. ``option`` names the option that gives it.

    Raises:
        UserError: the file is missing, damaged or of another network, or cannot be downloaded.
    """
    from torchvision.models import get_model, get_model_weights  # see `backbones`

    published: Any = get_model_weights(name)["KINETICS400_V1"]
    network = get_model(name)
    PublishedWeights(network=f"torchvision's {name}", url=published.url, option=option).load_into(network, path)
    classes = tuple(published.meta["categories"])
    model = ActionModel(ModelConfig(backbone=name), len(classes))
    own = dict(model.named_buffers(recurse=False))
    model.load_state_dict(own | {_our_name(theirs): tensor for theirs, tensor in network.state_dict().items()})
    return model, classes


def _our_name(theirs: str) -> str:
    if theirs.startswith(_CLASSIFIER):
        return _HEAD + theirs.removeprefix(_CLASSIFIER)
    return f"backbone.trunk.{theirs}"

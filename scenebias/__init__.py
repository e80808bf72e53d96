"""Pretrain video models that recognise the action, not the scene.

The programs are those of the command ``scenebias``. For other programs there are the functions here: `load` gives them
what a training run has made, `create_model` a network that knows nothing yet. See README.md.
"""

import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from scenebias.models.action_model import ActionModel
    from scenebias.models.backbones import BackboneName
    from scenebias.models.loading import LoadedModel

__all__ = ["create_model", "list_models", "load"]


def _end_with_a_word(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C is no fault that a traceback would explain."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if sys.argv[:1] == ["-m"]:  # so it is while ``python -m scenebias...`` imports what the program needs, for seconds
    sys.excepthook = _end_with_a_word

# PyTorch is imported where it is used: not every command of the package needs it.


def load(weights: Path | str, device: "torch.device | str" = "cpu", backbone: str | None = None) -> "LoadedModel":
    """The model of a weight file in evaluation mode on ``device``.

    ``load(weights).predict(frames_NHWC)`` are the probabilities of the actions in a clip. It unpacks as ``model,
    classes, transform``: ``model(transform(frames_NHWC).to(device))`` are the logits of its windows. Where its network
    is of your own code, ``backbone`` says so, as package.module:function: the code runs.

    Raises:
        shards.errors.UserError: the file is missing, damaged, or does not say how its clips were cut; or its network is
            of somebody's own code that ``backbone`` does not name.
    """
    from scenebias.models.loading import load_model

    return load_model(Path(weights), device, backbone)


def list_models() -> "list[BackboneName]":
    """The names of the video networks, as `create_model` and ``--backbone`` take them."""
    from scenebias.models.backbones import BACKBONES

    return list(BACKBONES)


def create_model(name: "BackboneName", classes: int, *, dropout: float = 0.0) -> "ActionModel":
    """A network with random weights, in training mode on the CPU, that tells ``classes`` actions apart.

    It maps clips, uint8 (B, T, H, W, 3) in RGB, to logits (B, ``classes``), and normalises the pixels itself. Its
    ``features`` maps them to what the last layer sees, (B, ``feature_count``). ``dropout`` is the share of these that
    is dropped in training.

    Raises:
        ValueError: there is no such network, or another value is out of its range.
    """
    from scenebias.models.action_model import ActionModel, ModelConfig
    from shards.checks import require_at_least

    require_at_least(1, classes=classes)
    return ActionModel(ModelConfig(backbone=name, dropout=dropout), classes)

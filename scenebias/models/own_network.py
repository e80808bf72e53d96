"""Networks of users' own code: ``package.module:function`` makes one.

Its code runs because a user names it, never because a file does.

Shape suffixes: B clips, T frames, H height, W width, C channels, D features, t, h, w of a feature map.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dali_pipelines.windows import ClipConfig
from scenebias.models.backbones import Backbone
from shards.errors import UserError


def is_own(backbone: str) -> bool:
    """Whether a backbone of this name is of a user's own code."""
    return ":" in backbone


def make_network(place: str, said: str) -> nn.Module:
    """The network that ``package.module:function`` makes, which messages of errors call ``said``.

    The module is looked for in the current folder too. Its code runs, as users ask for it by name.

    Raises:
        UserError: there is no such function, it fails, or it makes no module.
    """
    module_name, _, function_name = place.partition(":")
    if not module_name or not function_name:
        raise UserError(f"{said}: must be package.module:function, a function that makes the network")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        make: Any = getattr(importlib.import_module(module_name), function_name)
        network = make()
    except Exception as error:  # of the user's code
        raise UserError(
            f"{said}: {type(error).__name__}: {error}; mend it, or run where {module_name} is found"
        ) from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{said} makes a {type(network).__name__}, and must make a torch.nn.Module")
    return network


class OwnBackbone(Backbone):
    """A network from a normalised clip (B, C, T, H, W) to features (B, D), or to a map (B, D, t, h, w) of such."""

    def __init__(self, network: nn.Module, clip: ClipConfig, said: str) -> None:
        """``clip`` says on what it is tried out.

        Raises:
            UserError: it does not take such clips, or gives something else; the message calls it ``said``.
        """
        super().__init__(network, 0, is_convolutional=False)
        self.feature_count = self._tried_out(clip, said)

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """Normalised float clip to features (B, D)."""
        given: Tensor = self.trunk(clip_BCTHW)
        return given.mean(dim=(2, 3, 4)) if given.ndim == 5 else given

    def _tried_out(self, clip: ClipConfig, said: str) -> int:
        """D, from what it makes of two clips of one colour."""
        clip_BCTHW = torch.zeros(2, 3, clip.frames, clip.size, clip.size)
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode(), torch.random.fork_rng(devices=[]):
                given: Any = self.trunk(clip_BCTHW)
        except Exception as error:  # of the user's code
            raise UserError(
                f"{said} cannot take float32 clips {tuple(clip_BCTHW.shape)} ({type(error).__name__}: {error}); set"
                " --frames and --size as it takes them"
            ) from error
        finally:
            self.train(was_training)
        if not isinstance(given, Tensor) or given.ndim not in (2, 5) or len(given) != 2:
            what = f"a tensor {tuple(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
            raise UserError(
                f"{said} must give features (2, D) for two clips, or a map (2, D, t, h, w), and gives {what}; wrap it"
                " in a module that does"
            )
        return given.shape[1]


def own_backbone(place: str, clip: ClipConfig) -> OwnBackbone:
    """The backbone that ``package.module:function`` makes, tried on clips that are cut as ``clip`` says.

    Raises:
        UserError: as of `make_network` and `OwnBackbone`.
    """
    said = f"--backbone {place}"
    return OwnBackbone(make_network(place, said), clip, said)

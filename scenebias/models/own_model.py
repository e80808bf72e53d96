"""Trained networks that this project does not know, from a user's own code, up to their logits.

Shape suffixes: B clips, T frames, H height, W width, C channels, D features, A actions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dali_pipelines.windows import ClipConfig
from scenebias.models.action_model import VideoClassifier
from scenebias.models.own_network import make_network
from shards.errors import UserError


class OwnModel(VideoClassifier):
    """A network from normalised clips (B, C, T, H, W) to action logits (B, A).

    What enters the last linear layer that runs are its features, averaged over all but the clips and the channels.
    """

    def __init__(self, network: nn.Module, action_count: int, mean_C: Sequence[float], std_C: Sequence[float]) -> None:
        super().__init__(action_count, mean_C, std_C)
        self.network = network
        self._feature_count = 0

    @property
    def feature_count(self) -> int:
        return self._feature_count

    def try_out(self, clip: ClipConfig, said: str) -> None:
        """Look at a grey clip; UserError, which calls the network ``said``, where that gives no logits or features."""
        clip_BTHWC = torch.full((1, clip.frames, clip.size, clip.size, 3), 127, dtype=torch.uint8)
        self.eval()
        with torch.inference_mode():
            try:
                logits_BA, entered = self._watched(clip_BTHWC)
            except Exception as error:  # of the user's code
                raise UserError(
                    f"{said} cannot take float32 clips {tuple(self.normalise(clip_BTHWC).shape)} ({error}); set"
                    " --frames and --size as it takes them"
                ) from error
            if not isinstance(logits_BA, Tensor) or logits_BA.shape != (1, self.action_count):
                given = tuple(logits_BA.shape) if isinstance(logits_BA, Tensor) else type(logits_BA).__name__
                raise UserError(
                    f"{said} must give logits {(1, self.action_count)} for a clip, one a class, and gives {given};"
                    " wrap it in a module that does"
                )
        if entered is None:
            raise UserError(f"{said} runs no torch.nn.Linear, whose input would be its features; end it in one")
        self._feature_count = entered.shape[-1]

    def features(self, clip_BTHWC: Tensor) -> Tensor:
        _, entered = self._watched(clip_BTHWC)
        assert entered is not None, "it was tried out"
        return entered.reshape(len(entered), -1, entered.shape[-1]).mean(dim=1)

    def _watched(self, clip_BTHWC: Tensor) -> tuple[Any, Tensor | None]:
        """What the network gives, and what enters the linear layer that runs last, (B, …, D); None where none runs."""
        seen: list[Tensor] = []
        hooks = [
            layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
            for layer in self.network.modules()
            if isinstance(layer, nn.Linear)
        ]
        try:
            given = self(clip_BTHWC)
        finally:
            for hook in hooks:
                hook.remove()
        return given, seen[-1] if seen else None

    def forward(self, clip_BTHWC: Tensor) -> Tensor:
        return self.network(self.normalise(clip_BTHWC))


def load_own_model(
    place: str, action_count: int, clip: ClipConfig, mean_C: Sequence[float], std_C: Sequence[float]
) -> OwnModel:
    """The network that ``package.module:function`` makes, in evaluation mode, tried on a clip cut as ``clip`` says.

    The module is looked for in the current folder too. Its code runs, as users ask for it by name.

    Raises:
        UserError: there is no such function, or what it makes does not take such clips or give so many logits.
    """
    said = f"--model {place}"
    model = OwnModel(make_network(place, said), action_count, mean_C, std_C)
    model.try_out(clip, said)
    return model

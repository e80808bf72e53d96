"""The exponential moving average of the weights over the steps: what is evaluated and kept in their place.

Training goes on with the weights themselves. The average is a function of those after every step, which are the same
in all processes, so each process keeps one of its own and none talks about it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of the parameters of ``model``, with the buffers that go with it.

    After n steps it moves by 1 - d of the way to the weights, where d is ``decay``, or (1 + n) / (10 + n) where that is
    less: so it forgets the initial weights in runs of any length (as ``num_updates`` of TensorFlow's
    ``ExponentialMovingAverage``). A step counts whether its update could be made or not. The host waits for nothing.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self.state = _copies(model)
        """The state of ``model`` with averaged parameters, for checkpoints."""

    @torch.no_grad()
    def follow(self, steps: int) -> None:
        """Take in the weights after so many steps."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        names, parameters = zip(*self._model.named_parameters(), strict=True)
        averages = [self.state[name] for name in names]
        torch._foreach_lerp_(averages, [parameter.detach() for parameter in parameters], 1 - decay)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The model with the average in the block, and what its buffers become there kept with it; then as before."""
        own = _copies(self._model)
        parameters = {name for name, _ in self._model.named_parameters()}
        self._model.load_state_dict({name: (self.state if name in parameters else own)[name] for name in own})
        try:
            yield
        finally:
            self.state = _copies(self._model)
            self._model.load_state_dict(own)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the `state` in a checkpoint that fits the model."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])

    def leave_in_model(self) -> None:
        """Make it the model's weights."""
        self._model.load_state_dict(self.state)


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

"""What the objective is given in its tests.

Shape suffixes as in `scenebias.debiasing.objective`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from shards.format.sample import SCENE_COUNT

ACTIONS = 5


@dataclass
class Batch:
    """Clips with all that any phase of any objective asks for."""

    clip_BTHWC: Tensor
    label_B: Tensor
    scene_BS: Tensor
    masked_BTHWC: Tensor
    effective_B: Tensor
    still_BTHWC: Tensor

    def __getitem__(self, index: slice) -> "Batch":
        return Batch(*(tensor[index] for tensor in vars(self).values()))


def make_batch(seed: int = 0) -> Batch:
    """Six clips of noise, four of them with an effective mask."""
    generator = torch.Generator().manual_seed(seed)
    shape = (6, 4, 16, 16, 3)
    return Batch(
        clip_BTHWC=torch.randint(256, shape, dtype=torch.uint8, generator=generator),
        label_B=torch.randint(ACTIONS, (6,), generator=generator),
        scene_BS=(3 * torch.randn(6, SCENE_COUNT, generator=generator)).softmax(dim=1),
        masked_BTHWC=torch.randint(256, shape, dtype=torch.uint8, generator=generator),
        effective_B=torch.tensor([True, False, True, True, False, True]),
        still_BTHWC=torch.randint(256, (6, 1, *shape[2:]), dtype=torch.uint8, generator=generator).repeat(
            1, 4, 1, 1, 1
        ),
    )

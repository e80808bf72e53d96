"""The windows of a data set in which people can be hidden: those whose human mask is effective.

What is said of hidden or cut-out humans is measured on these alone: any other window would still show the human.

Shape suffixes: B clips of a batch, T frames, H height, W width; W also windows, M clips that have
such a window, D values.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dali_pipelines import ClipBatch, EvalLoader
from scenebias.clips.masked_clip import MIN_PERSON_SHARE, is_effective, person_share
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import mean_over_windows


@dataclass(frozen=True)
class MaskedWindows:
    """The windows whose mask is effective."""

    number_W: np.ndarray
    """int64, ascending."""
    sample_W: np.ndarray
    """int64, the clip that each is of."""
    value_WD: np.ndarray
    """float64, what was asked of each mask."""

    @property
    def sample_M(self) -> np.ndarray:
        """The clips that have such a window, int64, ascending."""
        return np.unique(self.sample_W)

    def clip_means(self) -> np.ndarray:
        """The values of each of these clips, averaged over its windows, (M, D)."""
        sample_M, clip_W, count_M = np.unique(self.sample_W, return_inverse=True, return_counts=True)
        total_MD = np.zeros((len(sample_M), self.value_WD.shape[1]))
        np.add.at(total_MD, clip_W, self.value_WD)
        return total_MD / count_M[:, None]


def _no_values(mask_BTHW: Tensor) -> Tensor:
    return torch.zeros(len(mask_BTHW), 0, device=mask_BTHW.device)


def find_masked_windows(
    loader: EvalLoader, place: ProcessPlace, values_of: Callable[[Tensor], Tensor] = _no_values, width: int = 0
) -> MaskedWindows:
    """Look at the masks of all windows of ``loader``, which serves all of them; the same on every rank.

    Effective is what counts as such in training by default (Choi et al. 2019: a person in 70 % of the frames).
    ``values_of`` gives what to keep of each bool mask_BTHW, float (B, ``width``). All ranks call this together.
    """
    all_windows = loader.windows[0 : len(loader.windows)]
    if not loader.dataset.has_masks:
        nothing = np.zeros(0, dtype=np.int64)
        return MaskedWindows(nothing, nothing, np.zeros((0, width)))

    def numbered() -> Iterator[ClipBatch]:
        """Each window as a clip of its own."""
        for batch in loader:
            first_B = np.searchsorted(all_windows.sample_B, batch.sample_B.cpu().numpy())
            yield replace(batch, sample_B=torch.from_numpy(first_B).to(batch.window_B.device) + batch.window_B)

    def share_and_values(mask_BTHW: Tensor) -> Tensor:
        return torch.cat([person_share(mask_BTHW)[:, None], values_of(mask_BTHW)], dim=1)

    value_WD = mean_over_windows(share_and_values, numbered(), len(all_windows), 1 + width, place, change=_mask_of)
    number_W = np.flatnonzero(is_effective(value_WD[:, 0], MIN_PERSON_SHARE))
    return MaskedWindows(number_W, all_windows.sample_B[number_W], value_WD[number_W, 1:])


def _mask_of(batch: ClipBatch) -> Tensor:
    assert batch.mask_BTHW is not None, "data without masks are not looked at"
    return batch.mask_BTHW

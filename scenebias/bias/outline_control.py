"""A control that sees nothing but the outline of the people: what a hidden human still tells.

Masking a human out leaves its outline, filled. A model that recognises the action in such clips need not have read
the scene: the outline alone may do. How well a simple classifier does with the outline is what a masked clip's
accuracy is to be compared with.

Shape suffixes: B clips of a batch, T frames, H height, W width; W also windows, N clips, D values of a track.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dali_pipelines import ClipBatch, EvalLoader
from scenebias.clips.masked_clip import is_effective, person_share
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import mean_over_windows
from scenebias.evaluation.softmax_regression import fit_softmax_regression
from scenebias.training.objective import ObjectiveConfig

INSTANTS = 8
"""Frames of a window that a track looks at, spread evenly."""
GRID = 4
"""Rows and columns of a track's coarse picture of the mask."""
TRACK_SIZE = INSTANTS * (5 + GRID * GRID)

# So many values of a few hundred clips would be learned by heart with the regression's usual, weaker one.
_PENALTY = 1e-3


def outline_track(mask_BTHW: Tensor) -> Tensor:
    """Where the people are over time, float32 (B, `TRACK_SIZE`), every value 0 to 1.

    At each of `INSTANTS` frames: the share of the pixels that the mask covers; top, bottom, left and right of the box
    around it, in shares of the frame (zeros where nobody is); the covered share of each cell of a `GRID` x `GRID` grid.
    """
    instants = torch.linspace(0, mask_BTHW.shape[1] - 1, INSTANTS, device=mask_BTHW.device).round().long()
    mask_BIHW = mask_BTHW[:, instants]
    sides = [_extent(mask_BIHW.any(dim=dimension)) for dimension in (3, 2)]
    cells_BIX = F.adaptive_avg_pool2d(mask_BIHW.float(), GRID).flatten(start_dim=2)
    area_BI1 = mask_BIHW.float().mean(dim=(2, 3))[..., None]
    return torch.cat([area_BI1, *sides, cells_BIX], dim=2).flatten(start_dim=1)


def _extent(any_BIX: Tensor) -> Tensor:
    """Start and end of what is set, in shares of the length, (B, I, 2); zeros where nothing is."""
    length = any_BIX.shape[2]
    start_BI = any_BIX.float().argmax(dim=2)
    end_BI = length - any_BIX.flip(2).float().argmax(dim=2)
    return torch.stack([start_BI, end_BI], dim=2) / length * any_BIX.any(dim=2)[..., None]


@dataclass(frozen=True)
class MaskedWindows:
    """The windows of a data set whose mask is effective: a person in most of their frames."""

    number_W: np.ndarray
    """int64, ascending."""
    sample_W: np.ndarray
    """int64, the clip that each is of."""
    track_WD: np.ndarray
    """float64, its outline."""

    @property
    def sample_M(self) -> np.ndarray:
        """The clips that have such a window, ascending."""
        return np.unique(self.sample_W)

    def mean_tracks(self) -> np.ndarray:
        """The track of each of these clips, averaged over its windows, (M, D)."""
        sample_M, clip_W, count_M = np.unique(self.sample_W, return_inverse=True, return_counts=True)
        total_MD = np.zeros((len(sample_M), TRACK_SIZE))
        np.add.at(total_MD, clip_W, self.track_WD)
        return total_MD / count_M[:, None]


def find_masked_windows(loader: EvalLoader, place: ProcessPlace) -> MaskedWindows:
    """Look at the masks of all windows of ``loader``, which serves all of them; the same on every rank.

    Effective is what counts as such in training by default (Choi et al. 2019: a person in 70 % of the frames).
    """
    all_windows = loader.windows[0 : len(loader.windows)]
    if not loader.dataset.has_masks:
        nothing = np.zeros(0, dtype=np.int64)
        return MaskedWindows(nothing, nothing, np.zeros((0, TRACK_SIZE)))

    def numbered() -> Iterator[ClipBatch]:
        """Each window as a clip of its own."""
        for batch in loader:
            first_B = np.searchsorted(all_windows.sample_B, batch.sample_B.cpu().numpy())
            yield replace(batch, sample_B=torch.from_numpy(first_B).to(batch.window_B.device) + batch.window_B)

    def share_and_track(mask_BTHW: Tensor) -> Tensor:
        return torch.cat([person_share(mask_BTHW)[:, None], outline_track(mask_BTHW)], dim=1)

    value_WD = mean_over_windows(share_and_track, numbered(), len(all_windows), 1 + TRACK_SIZE, place, change=_mask_of)
    number_W = np.flatnonzero(is_effective(value_WD[:, 0], ObjectiveConfig().min_person_share))
    return MaskedWindows(number_W, all_windows.sample_B[number_W], value_WD[number_W, 1:])


def _mask_of(batch: ClipBatch) -> Tensor:
    assert batch.mask_BTHW is not None, "data without masks are not looked at"
    return batch.mask_BTHW


def outline_accuracy(
    train: MaskedWindows, train_label_N: np.ndarray, test: MaskedWindows, test_label_N: np.ndarray, actions: int
) -> float:
    """Share of the clips of ``test`` whose action a softmax regression reads from the outline alone, 0 to 1.

    It is fitted on the clips of ``train``. NaN where either has none.
    """
    if not len(train.number_W) or not len(test.number_W):
        return float("nan")
    classifier = fit_softmax_regression(train.mean_tracks(), train_label_N[train.sample_M], actions, penalty=_PENALTY)
    return classifier.accuracy(test.mean_tracks(), test_label_N[test.sample_M])

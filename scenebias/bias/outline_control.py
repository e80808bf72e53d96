"""A control that sees nothing but the outline of the people: what a hidden human still tells.

Masking a human out leaves its outline, filled. A model that recognises the action in such clips need not have read
the scene: the outline alone may do. How well a simple classifier does with the outline is what a masked clip's
accuracy is to be compared with.

Shape suffixes: B clips of a batch, T frames, H height, W width; W also windows, N clips, D values of a track.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dali_pipelines import EvalLoader
from scenebias.clips.masked_clip import boxes_around
from scenebias.clips.views import Cover
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.masked_windows import MaskedWindows, find_masked_windows
from scenebias.evaluation.softmax_regression import fit_softmax_regression

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


def _tracks(mask_BTHW: Tensor) -> Tensor:
    """Of the masks, then of the boxes around them, (B, 2 `TRACK_SIZE`)."""
    return torch.cat([outline_track(mask_BTHW), outline_track(boxes_around(mask_BTHW))], dim=1)


def find_outlined_windows(loader: EvalLoader, place: ProcessPlace) -> MaskedWindows:
    """`find_masked_windows` with two `outline_track` of each: of the mask, and of the boxes around it."""
    return find_masked_windows(loader, place, _tracks, 2 * TRACK_SIZE)


def outline_accuracy(
    train: MaskedWindows,
    train_label_N: np.ndarray,
    test: MaskedWindows,
    test_label_N: np.ndarray,
    actions: int,
    cover: Cover = "pixels",
) -> float:
    """Share of the clips of ``test`` whose action a softmax regression reads from the outline alone, 0 to 1.

    Both are as of `find_outlined_windows`; ``cover``: of the mask, or of the boxes around it. It is fitted on the clips
    of ``train``. NaN where either has none.
    """
    if not len(train.number_W) or not len(test.number_W):
        return float("nan")
    columns = slice(0, TRACK_SIZE) if cover == "pixels" else slice(TRACK_SIZE, None)
    train_MD, test_MD = (windows.clip_means()[:, columns] for windows in (train, test))
    classifier = fit_softmax_regression(train_MD, train_label_N[train.sample_M], actions, penalty=_PENALTY)
    return classifier.accuracy(test_MD, test_label_N[test.sample_M])

"""Scene swaps of real clips: the human of one clip on the background of another, composed on the device.

The clips are those of SCUBA, with backgrounds from videos instead of pictures (Li et al., "Mitigating and Evaluating
Static Bias of Action Representations in the Background and the Foreground", ICCV 2023), or the action swaps of HAT
(Chung et al., "Enabling Detailed Action Recognition Evaluation Through Video Dataset Augmentation", NeurIPS 2022):
nothing new is stored.

Shape suffixes: B clips of a batch, T frames, H height, W width, C channels; N clips of the data set, K windows,
M swapped clips, P some of these.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from dali_pipelines import ClipBatch
from scenebias.clips.background import fill_in_background
from scenebias.clips.masked_clip import choose_pixels
from shards.randomness import randint

Placing = Callable[[ClipBatch, ClipBatch], ClipBatch]
"""Moves the humans of a batch, with their masks, to where they shall stand in the clips of another."""

# Keeps these draws apart from others that share seed and sample.
_PAIRING_STREAM = 0x5CE11E


@dataclass(frozen=True)
class SceneSwaps:
    """Which human goes before which background."""

    sample_M: np.ndarray
    """int64, the clips that lend the human, ascending."""
    background_M: np.ndarray
    """int64, the clip that lends each of them a background."""
    sample_K: np.ndarray
    """int64, the clip of ``sample_M`` that each window is of, ascending."""
    human_window_K: np.ndarray
    background_window_K: np.ndarray
    """int64, numbers of the windows (as of `EvaluationWindows`) that are put together."""

    def first_windows(self, place_P: np.ndarray) -> "SceneSwaps":
        """The clips in these places of ``sample_M``, in this order, with the first window of each."""
        sample_P = self.sample_M[place_P]
        first_P = np.searchsorted(self.sample_K, sample_P)
        return SceneSwaps(
            sample_P,
            self.background_M[place_P],
            sample_P,
            self.human_window_K[first_P],
            self.background_window_K[first_P],
        )


def draw_backgrounds(
    label_N: np.ndarray, scene_N: np.ndarray, scene_action_N: np.ndarray, usable_N: np.ndarray, *, seed: int
) -> np.ndarray:
    """For each usable clip another one to lend its background, int64 (N,); -1 where there is none.

    It is usable too, and nothing in it speaks for the clip's action ``label_N``: its scene category ``scene_N`` is
    another, and neither the action that usually goes with its scene (``scene_action_N``) nor its own action is the
    clip's. A function of (seed, sample) and these arrays alone.
    """
    background_N = np.full(len(label_N), -1, dtype=np.int64)
    for sample in np.flatnonzero(usable_N):
        label = label_N[sample]
        fits_N = usable_N & (scene_N != scene_N[sample]) & (scene_action_N != label) & (label_N != label)
        candidates = np.flatnonzero(fits_N)
        if len(candidates):
            background_N[sample] = candidates[randint(len(candidates), seed, int(sample), _PAIRING_STREAM)]
    return background_N


def swap_windows(number_K: np.ndarray, sample_K: np.ndarray, background_N: np.ndarray) -> SceneSwaps:
    """Pair the windows ``number_K``, in order and of the clips ``sample_K``, with windows of the clips' backgrounds.

    The first window of a clip goes with the first of its background and so on; where those run out, they begin again.
    """
    first_N = np.searchsorted(sample_K, np.arange(len(background_N)))
    count_N = np.bincount(sample_K, minlength=len(background_N))
    place_K = np.arange(len(number_K)) - first_N[sample_K]
    paired_K = background_N[sample_K] >= 0
    donor_K = background_N[sample_K][paired_K]
    sample_M = np.unique(sample_K[paired_K])
    return SceneSwaps(
        sample_M=sample_M,
        background_M=background_N[sample_M],
        sample_K=sample_K[paired_K],
        human_window_K=number_K[paired_K],
        background_window_K=number_K[first_N[donor_K] + place_K[paired_K] % count_N[donor_K]],
    )


def swap_background(human: ClipBatch, background: ClipBatch) -> Tensor:
    """The human of each clip before the background of the other, uint8 (B, T, H, W, 3).

    Where its mask is set, a pixel is the clip's own; elsewhere it is the other clip's, whose own human is filled in.
    """
    assert human.mask_BTHW is not None, "swaps are made of clips with masks"
    assert background.mask_BTHW is not None, "swaps are made of clips with masks"
    filled_BTHWC = fill_in_background(background.clip_BTHWC, background.mask_BTHW)
    return choose_pixels(human.mask_BTHW, human.clip_BTHWC, filled_BTHWC)


def swapped_batches(
    humans: Iterable[ClipBatch], backgrounds: Iterable[ClipBatch], *, placing: Placing | None = None
) -> Iterator[ClipBatch]:
    """The batches of ``humans``, each clip before the background of that in the same place of ``backgrounds``.

    ``placing`` moves the humans first; None: they stay where they are.
    """
    for human, background in zip(humans, backgrounds, strict=True):
        placed = human if placing is None else placing(human, background)
        yield replace(placed, clip_BTHWC=swap_background(placed, background))


def still(clip_BTHWC: Tensor) -> Tensor:
    """Each clip's middle frame, repeated: a clip of the same shape in which nothing moves (SCUFO of Li et al. 2023)."""
    middle_B1HWC = clip_BTHWC[:, clip_BTHWC.shape[1] // 2, None]
    return middle_B1HWC.expand_as(clip_BTHWC).contiguous()

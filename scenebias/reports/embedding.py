"""Features in two dimensions, to look at.

Shape suffixes: N clips, D features, K components.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """Points along the directions in which they vary most (Hotelling 1933), those of most variance first."""

    point_NK: np.ndarray
    """float64, of mean 0."""
    explained_K: np.ndarray
    """Share of the variance of all D features along each direction, 0 to 1."""


def principal_components(feature_ND: np.ndarray, count: int = 2) -> PrincipalComponents:
    """Project on the first ``count`` principal components, at most min(N, D) of them.

    Of the two directions of an axis, that is taken along which the feature that matters most for it grows, so that the
    same features always give the same picture.
    """
    centred_ND = feature_ND.astype(np.float64) - feature_ND.mean(axis=0, dtype=np.float64)
    _, strength_M, direction_MD = np.linalg.svd(centred_ND, full_matrices=False)
    direction_KD = direction_MD[:count]
    main_feature_K1 = np.abs(direction_KD).argmax(axis=1)[:, None]
    direction_KD = direction_KD * np.sign(np.take_along_axis(direction_KD, main_feature_K1, axis=1))
    variance_M = strength_M**2
    return PrincipalComponents(centred_ND @ direction_KD.T, variance_M[:count] / max(variance_M.sum(), 1e-300))

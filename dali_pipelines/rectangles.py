"""Rectangles of random area and aspect in frames: what random resized crops show, and what random erasing hides.

Shape suffixes: B frames, N draws for each, 2 (vertical, horizontal).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.randomness import Key, randint, uniform

ATTEMPTS = 10
"""Rectangles that are drawn at most until one fits into its frame; as many as torchvision draws."""


@dataclass(frozen=True)
class Rectangles:
    """A rectangle in each of B frames, in pixels. Arrays of length B."""

    top_B: NDArray[np.int64]
    left_B: NDArray[np.int64]
    height_B: NDArray[np.int64]
    width_B: NDArray[np.int64]
    drawn_B: NDArray[np.bool_]
    """Whether one that was drawn fits; else it is the largest in the centre whose aspect is permitted."""


def require_area(**ranges: tuple[float, float] | None) -> None:
    """Raise ValueError, naming it, for what is no smallest and largest share of a frame's area; None passes."""
    for name, given in ranges.items():
        if given is not None and not 0 < given[0] <= given[1] <= 1:
            raise ValueError(f"{name} must be two numbers in (0, 1], the smaller one first, got {given}")


def require_aspect(**ranges: tuple[float, float]) -> None:
    """Raise ValueError, naming it, for what is no smallest and largest width over height."""
    for name, given in ranges.items():
        if not 0.01 <= given[0] <= given[1] <= 100:
            raise ValueError(f"{name} must be two numbers from 0.01 to 100, the smaller one first, got {given}")


def draw_rectangles(
    area: tuple[float, float], aspect: tuple[float, float], frame_size_B2: NDArray[np.int64], *key_B: Key
) -> Rectangles:
    """Draw a rectangle for each frame, of torchvision's distribution (``transforms.v2.RandomResizedCrop``).

    Its area is uniform in ``area`` (shares of the frame's), its aspect, width over height, log-uniform in ``aspect``.
    The first of `ATTEMPTS` that fits is taken, at a place drawn evenly. ``frame_size_B2``: height and width;
    ``key_B`` names the draws, which depend on it alone.
    """

    def share(draw: int) -> NDArray[np.float64]:
        key_B1 = [np.asarray(key)[..., None] for key in key_B]
        return uniform(*key_B1, draw, np.arange(ATTEMPTS))

    area_BN = (area[0] + (area[1] - area[0]) * share(0)) * frame_size_B2.prod(axis=1)[:, None]
    least, most = np.log(aspect)
    aspect_BN = np.exp(least + (most - least) * share(1))
    size_BN2 = np.rint(np.sqrt(np.stack([area_BN / aspect_BN, area_BN * aspect_BN], axis=-1))).astype(np.int64)
    fits_BN = ((size_BN2 >= 1) & (size_BN2 <= frame_size_B2[:, None])).all(axis=-1)
    drawn_B = fits_BN.any(axis=1)
    first_B = fits_BN.argmax(axis=1)
    size_B2 = np.where(drawn_B[:, None], size_BN2[np.arange(len(first_B)), first_B], _largest(aspect, frame_size_B2))
    room_B2 = frame_size_B2 - size_B2
    place_B2 = np.stack([randint(room + 1, *key_B, 2 + axis) for axis, room in enumerate(room_B2.T)], axis=-1)
    top_left_B2 = np.where(drawn_B[:, None], place_B2, room_B2 // 2)
    return Rectangles(top_left_B2[:, 0], top_left_B2[:, 1], size_B2[:, 0], size_B2[:, 1], drawn_B)


def _largest(aspect: tuple[float, float], frame_size_B2: NDArray[np.int64]) -> NDArray[np.int64]:
    """Height and width of the largest rectangle in each frame whose aspect is permitted."""
    height_B, width_B = frame_size_B2.T
    aspect_B = np.clip(width_B / height_B, *aspect)
    size_B2 = np.stack([np.minimum(height_B, width_B / aspect_B), np.minimum(width_B, height_B * aspect_B)], axis=-1)
    return np.maximum(np.rint(size_B2).astype(np.int64), 1)

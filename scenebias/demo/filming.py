"""How a clip of the demo world is filmed: a hand-held camera before a painted scene, and where the person stands.

Array suffixes: T frames, H rows, W columns, C colours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scenebias.demo.people import Viewpoint
from scenebias.demo.scenes import Scene, grey_backdrop, paint_scene
from shards.checks import require_frame_rate

_MARGIN = 1.24
"""A scene's picture is that much larger than a frame, so that the camera may move."""


@dataclass(frozen=True, kw_only=True)
class WorldLook:
    """What is common to all videos of a world."""

    rho: float = 0.8
    """Probability that an action happens in its typical scene, where scenes are usual."""
    seed: int = 0
    """Another seed is another world."""
    fps: float = 12.5
    """Frames per second."""
    height: int = 64
    """Rows of a frame; a multiple of 16."""
    width: int = 88
    """Columns of a frame; even."""

    def __post_init__(self) -> None:
        if not 0 <= self.rho <= 1:
            raise ValueError(f"rho must be from 0 to 1, got {self.rho}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        require_frame_rate(fps=self.fps)
        if self.height < 32 or self.height % 16:
            raise ValueError(f"height must be a multiple of 16 from 32, got {self.height}")
        if self.width < 32 or self.width % 2:
            raise ValueError(f"width must be even and at least 32, got {self.width}")

    def randomness(self, instance: int, part: str) -> np.random.Generator:
        """The random numbers of one part of a video: its ``person``, ``scene``, ``camera`` or ``label``."""
        return np.random.default_rng([self.seed, instance, *part.encode()])


@dataclass(frozen=True)
class Camera:
    """A hand-held camera."""

    offset: NDArray[np.float32]
    """What it looks at, in pixels from the middle of the scene, (T, 2)."""
    zoom: NDArray[np.float32]
    """(T,)."""


def hand_held(look: WorldLook, frames: int, rng: np.random.Generator, times_longer: float = 1.0) -> Camera:
    """A camera that sways, and pans once from the first frame to the last; a clip is ``times_longer`` than usual."""
    time = np.linspace(0, times_longer, frames)[:, None]
    waves = np.sin(2 * np.pi * (time * rng.uniform(0.3, 1.6, 3) + rng.uniform(0, 1, 3))) * rng.uniform(0.2, 1, 3)
    pan = rng.uniform(-1, 1) * (np.linspace(0, 1, frames) - 0.5)
    offset = np.stack([0.008 * waves[:, 0] + 0.02 * pan, 0.005 * waves[:, 1]], axis=1) * look.height
    zoom = rng.uniform(1.0, 1.06) * (1 + 0.006 * waves[:, 2])
    return Camera(offset.astype(np.float32), zoom.astype(np.float32))


def paint(look: WorldLook, scene: Scene | None, rng: np.random.Generator) -> NDArray[np.float32]:
    """The picture of a scene, or of a grey wall, with a margin around what is filmed of it."""
    size = round(look.width * _MARGIN), round(look.height * _MARGIN)
    return paint_scene(scene, *size, rng) if scene else grey_backdrop(*size, rng)


def film(scene_HWC: NDArray[np.float32], camera: Camera, look: WorldLook) -> NDArray[np.float32]:
    """What the camera sees of a still scene: float32 (T, H, W, 3)."""
    picture = Image.fromarray((scene_HWC * 255).astype(np.uint8))
    frames = []
    for (x, y), zoom in zip(camera.offset.tolist(), camera.zoom.tolist(), strict=True):
        left = picture.width / 2 + x - look.width / 2 / zoom
        top = picture.height / 2 + y - look.height / 2 / zoom
        view = (1 / zoom, 0, left, 0, 1 / zoom, top)
        size = (look.width, look.height)
        frame = picture.transform(size, Image.Transform.AFFINE, view, resample=Image.Resampling.BILINEAR)
        frames.append(np.asarray(frame, np.float32) / 255)
    return np.stack(frames)


def standing_person(look: WorldLook, camera: Camera, rng: np.random.Generator) -> Viewpoint:
    """Where the person stands, drifting slightly, seen half from the front, from the left or the right."""
    start = np.array([rng.uniform(-0.1, 0.1) * look.width, rng.uniform(0.43, 0.46) * look.height])
    drift = np.array([rng.uniform(-0.03, 0.03) * look.width, 0]) * np.linspace(-0.5, 0.5, len(camera.zoom))[:, None]
    middle = np.array([look.width, look.height]) / 2
    feet = middle + (start + drift - camera.offset) * camera.zoom[:, None]
    return Viewpoint(
        height_px=float(rng.uniform(0.7, 0.8) * look.height),
        feet=feet.astype(np.float32),
        yaw=float(np.radians(rng.uniform(25, 60)) * rng.choice([-1, 1])),
        zoom=camera.zoom,
    )

"""The demo world: which clips it holds, and what happens in each.

People act in places. In ``train`` and ``test`` every action mostly happens in its typical scene; the other splits take
that crutch away, or leave nothing but the crutch:

- ``train``, ``test``: in the typical scene with probability ``rho``, else in any other
- ``swapped``: always in the typical scene of another action
- ``scene-only``: the typical scene, and nobody there
- ``human-only``: the action in front of a grey wall
- ``target-train``, ``target-test``: other actions, every scene equally often, to transfer to

Everything about a clip follows from (seed, split, index): no clip depends on another one. Every clip has a person and a
scene instance of its own, so no two splits share one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scenebias.demo.actions import ACTIONS, TARGET_ACTIONS, perform
from scenebias.demo.people import Viewpoint, draw_figure, draw_shadow, random_body
from scenebias.demo.scenes import SCENES, grey_backdrop, paint_scene, soft_label
from shards.checks import require_at_least, require_frame_rate

TYPICAL_SCENES = {
    "bow": "stage/indoor",
    "flap_arms": "snowfield",
    "jumping_jack": "gymnasium/indoor",
    "kick": "soccer_field",
    "march": "forest/broadleaf",
    "raise_arm": "street",
    "squat": "swimming_pool/outdoor",
    "wave": "beach",
}
"""Where each action is usually seen."""

SPLITS = ("train", "test", "swapped", "scene-only", "human-only", "target-train", "target-test")
TARGET_SPLITS = ("target-train", "target-test")
MAX_CLIPS = 1_000_000
_MARGIN = 1.24


@dataclass(frozen=True, kw_only=True)
class WorldSize:
    """How many clips each split holds."""

    clips_train: int = 1600
    """Clips to pretrain on."""
    clips_test: int = 240
    """Clips in each of test, swapped, scene-only and human-only."""
    clips_target_train: int = 480
    """Clips of the other actions to train on: a transfer, and the scene probe."""
    clips_target_test: int = 240
    """Clips of the other actions to test both on."""

    def __post_init__(self) -> None:
        for name in ("clips_train", "clips_test", "clips_target_train", "clips_target_test"):
            if not 0 <= getattr(self, name) <= MAX_CLIPS:
                raise ValueError(f"{name} must be from 0 to {MAX_CLIPS}, got {getattr(self, name)}")

    def clip_count(self, split: str) -> int:
        """Number of clips in ``split``."""
        counts = {
            "train": self.clips_train,
            "target-train": self.clips_target_train,
            "target-test": self.clips_target_test,
        }
        return counts.get(split, self.clips_test)


@dataclass(frozen=True, kw_only=True)
class WorldConfig(WorldSize):
    """What the world looks like and how many clips each split holds."""

    rho: float = 0.8
    """Probability that an action happens in its typical scene, in train and test."""
    seed: int = 0
    """Another seed is another world."""
    frames: int = 24
    """Frames per clip."""
    fps: float = 12.5
    """Frames per second."""
    height: int = 64
    """Rows of a frame; a multiple of 16."""
    width: int = 88
    """Columns of a frame; even."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rho <= 1:
            raise ValueError(f"rho must be from 0 to 1, got {self.rho}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        require_at_least(1, frames=self.frames)
        require_frame_rate(fps=self.fps)
        if self.height < 32 or self.height % 16:
            raise ValueError(f"height must be a multiple of 16 from 32, got {self.height}")
        if self.width < 32 or self.width % 2:
            raise ValueError(f"width must be even and at least 32, got {self.width}")


@dataclass(frozen=True)
class ClipPlan:
    """What happens in one clip."""

    split: str
    name: str
    """``action/clip``, as in the file names."""
    action: str
    scene: str | None
    """Places365 name, or None before a grey wall."""
    has_person: bool
    """Whether anyone is there."""
    instance: int
    """Number of the person and of the scene instance; no other clip of the world has it."""

    def randomness(self, config: WorldConfig, part: str) -> np.random.Generator:
        """The random numbers of one part of this clip: ``person``, ``scene``, ``camera`` or ``label``."""
        return np.random.default_rng([config.seed, self.instance, *part.encode()])


def plan_clip(config: WorldConfig, split: str, index: int) -> ClipPlan:
    """Choose action and scene of clip ``index`` of ``split``; actions take turns."""
    actions = sorted(TARGET_ACTIONS if split in TARGET_SPLITS else ACTIONS)
    action = actions[index % len(actions)]
    instance = SPLITS.index(split) * MAX_CLIPS + index
    return ClipPlan(
        split=split,
        name=f"{action}/{action}_{index:06d}",
        action=action,
        scene=_choose_scene(config, split, action, index // len(actions), instance),
        has_person=split != "scene-only",
        instance=instance,
    )


def _choose_scene(config: WorldConfig, split: str, action: str, turn: int, instance: int) -> str | None:
    scenes = sorted(SCENES)
    if split == "human-only":
        return None
    if split in TARGET_SPLITS:
        return scenes[turn % len(scenes)]
    typical = TYPICAL_SCENES[action]
    others = [scene for scene in scenes if scene != typical]
    rng = np.random.default_rng([config.seed, instance, *b"place"])
    other = others[rng.integers(len(others))]
    if split == "swapped":
        return other
    if split == "scene-only" or rng.uniform() < config.rho:
        return typical
    return other


@dataclass(frozen=True)
class RenderedClip:
    """A clip's pixels and truths."""

    frames: NDArray[np.uint8]
    """(T, H, W, 3)."""
    masks: NDArray[np.bool_]
    """(T, H, W), True where the person is."""
    scene_label: NDArray[np.float16]
    """(365,), the soft Places365 label."""


@dataclass(frozen=True)
class _Camera:
    """A hand-held camera."""

    offset: NDArray[np.float32]
    """What it looks at, in pixels from the middle of the scene, (T, 2)."""
    zoom: NDArray[np.float32]
    """(T,)."""


def _hand_held(config: WorldConfig, rng: np.random.Generator) -> _Camera:
    time = np.linspace(0, 1, config.frames)[:, None]
    waves = np.sin(2 * np.pi * (time * rng.uniform(0.3, 1.6, 3) + rng.uniform(0, 1, 3))) * rng.uniform(0.2, 1, 3)
    pan = rng.uniform(-1, 1) * (time[:, 0] - 0.5)
    offset = np.stack([0.008 * waves[:, 0] + 0.02 * pan, 0.005 * waves[:, 1]], axis=1) * config.height
    zoom = rng.uniform(1.0, 1.06) * (1 + 0.006 * waves[:, 2])
    return _Camera(offset.astype(np.float32), zoom.astype(np.float32))


def _film(scene_HWC: NDArray[np.float32], camera: _Camera, config: WorldConfig) -> NDArray[np.float32]:
    """What the camera sees of a still scene: float32 (T, H, W, 3)."""
    picture = Image.fromarray((scene_HWC * 255).astype(np.uint8))
    frames = []
    for (x, y), zoom in zip(camera.offset.tolist(), camera.zoom.tolist(), strict=True):
        left = picture.width / 2 + x - config.width / 2 / zoom
        top = picture.height / 2 + y - config.height / 2 / zoom
        view = (1 / zoom, 0, left, 0, 1 / zoom, top)
        size = (config.width, config.height)
        frame = picture.transform(size, Image.Transform.AFFINE, view, resample=Image.Resampling.BILINEAR)
        frames.append(np.asarray(frame, np.float32) / 255)
    return np.stack(frames)


def _viewpoint(config: WorldConfig, camera: _Camera, rng: np.random.Generator) -> Viewpoint:
    """Where the person stands, drifting slightly, seen half from the front, from the left or the right."""
    start = np.array([rng.uniform(-0.1, 0.1) * config.width, rng.uniform(0.43, 0.46) * config.height])
    drift = np.array([rng.uniform(-0.03, 0.03) * config.width, 0]) * np.linspace(-0.5, 0.5, config.frames)[:, None]
    middle = np.array([config.width, config.height]) / 2
    feet = middle + (start + drift - camera.offset) * camera.zoom[:, None]
    return Viewpoint(
        height_px=float(rng.uniform(0.7, 0.8) * config.height),
        feet=feet.astype(np.float32),
        yaw=float(np.radians(rng.uniform(25, 60)) * rng.choice([-1, 1])),
        zoom=camera.zoom,
    )


def render_clip(config: WorldConfig, plan: ClipPlan) -> RenderedClip:
    """Draw a clip; equal arguments give equal pixels."""
    size = round(config.width * _MARGIN), round(config.height * _MARGIN)
    scene = SCENES[plan.scene] if plan.scene else None
    scene_rng = plan.randomness(config, "scene")
    picture = paint_scene(scene, *size, scene_rng) if scene else grey_backdrop(*size, scene_rng)
    camera = _hand_held(config, plan.randomness(config, "camera"))
    frames = _film(picture, camera, config)
    masks = np.zeros(frames.shape[:3], np.bool_)
    if plan.has_person:
        rng = plan.randomness(config, "person")
        action = (ACTIONS | TARGET_ACTIONS)[plan.action]
        pose = perform(action, config.frames, config.fps, rng)
        viewpoint = _viewpoint(config, camera, rng)
        if scene:
            draw_shadow(frames, viewpoint, strength=float(rng.uniform(0.2, 0.5)))
        masks = draw_figure(frames, random_body(rng), pose, viewpoint)
    label = soft_label(scene, plan.randomness(config, "label"))
    return RenderedClip((frames * 255 + 0.5).astype(np.uint8), masks, label)

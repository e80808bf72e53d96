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

from scenebias.demo.actions import ACTIONS, TARGET_ACTIONS, perform
from scenebias.demo.filming import WorldLook, film, hand_held, paint, standing_person
from scenebias.demo.people import draw_figure, draw_shadow, random_body
from scenebias.demo.scenes import SCENES, soft_label
from shards.checks import require_at_least

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
class WorldConfig(WorldSize, WorldLook):
    """What the world looks like and how many clips each split holds."""

    frames: int = 24
    """Frames per clip."""

    def __post_init__(self) -> None:
        WorldSize.__post_init__(self)
        WorldLook.__post_init__(self)
        require_at_least(1, frames=self.frames)


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
    rng = config.randomness(instance, "place")
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


def render_clip(config: WorldConfig, plan: ClipPlan) -> RenderedClip:
    """Draw a clip; equal arguments give equal pixels."""
    scene = SCENES[plan.scene] if plan.scene else None
    camera = hand_held(config, config.frames, config.randomness(plan.instance, "camera"))
    frames = film(paint(config, scene, config.randomness(plan.instance, "scene")), camera, config)
    masks = np.zeros(frames.shape[:3], np.bool_)
    if plan.has_person:
        rng = config.randomness(plan.instance, "person")
        action = (ACTIONS | TARGET_ACTIONS)[plan.action]
        pose = perform(action, config.frames, config.fps, rng)
        viewpoint = standing_person(config, camera, rng)
        if scene:
            draw_shadow(frames, viewpoint, strength=float(rng.uniform(0.2, 0.5)))
        masks = draw_figure(frames, random_body(rng), pose, viewpoint)
    label = soft_label(scene, config.randomness(plan.instance, "label"))
    return RenderedClip((frames * 255 + 0.5).astype(np.uint8), masks, label)

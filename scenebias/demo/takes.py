"""Long takes of the demo world: one scene without a cut, in which a person acts several times, and idles in between.

For the localisation of actions in time, and for their detection in space. Between the actions that are to be found the
person stands and sways, begins one of them and breaks it off, or does something else: what moves is not always an
action. The splits:

- ``train``, ``test``: an action is that of the take's scene with probability ``rho``, else any other
- ``swapped``: an action is never that of the take's scene

Everything about a take follows from (seed, split, index). Its person and its scene instance are its own, and no clip's
of the world of that seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scenebias.demo.actions import ACTIONS, TARGET_ACTIONS, Beat, Pose, standing
from scenebias.demo.filming import WorldLook, film, hand_held, paint, standing_person
from scenebias.demo.people import Viewpoint, draw_figure, draw_shadow, random_body
from scenebias.demo.scenes import SCENES, soft_label
from scenebias.demo.world import MAX_CLIPS, SPLITS, TYPICAL_SCENES, RenderedClip

TAKE_SPLITS = ("train", "test", "swapped")
DURATION_S = (40.0, 80.0)
ACTIONS_A_TAKE = (5, 8)
ACTION_S = (1.5, 4.0)
"""How long an action lasts: whole repetitions of it."""
MOST_ACTIVE = 0.7
"""The largest share of a take in which something is done; the rest is idling."""
SHORTEST_REST_S = 0.6
BROKEN_OFF = 0.25
"""The point of a repetition, as a share of it, at which a near miss turns back."""
_EASE_S = 0.3
"""How long it takes to get from standing into a movement."""
_CLIP_S = 1.92
"""The length of a usual clip, in whose time bodies and cameras sway."""
_FRAMES_DRAWN_TOGETHER = 6
"""Which limb is nearer is decided anew so often, whatever is done."""
Kind = Literal["action", "near miss", "other"]


@dataclass(frozen=True)
class Doing:
    """Something that the person does."""

    kind: Kind
    """An action to be found; one that is begun and broken off; or an action that is no class."""
    action: str
    start_s: float
    end_s: float
    period_s: float
    """How long one repetition takes."""


@dataclass(frozen=True)
class TakePlan:
    """What happens in one take."""

    split: str
    name: str
    """``<action>/take_NNNNNN``, as in the file names: the action that is done most often in it."""
    scene: str
    duration_s: float
    doings: tuple[Doing, ...]
    """In the order of time."""
    instance: int
    """Number of the person and of the scene instance."""

    @property
    def actions(self) -> list[Doing]:
        """What is to be found."""
        return [doing for doing in self.doings if doing.kind == "action"]


def plan_take(look: WorldLook, split: str, index: int) -> TakePlan:
    """Choose scene, actions and times of take ``index`` of ``split``; scenes take turns."""
    scene = sorted(SCENES)[index % len(SCENES)]
    instance = (len(SPLITS) + TAKE_SPLITS.index(split)) * MAX_CLIPS + index
    rng = look.randomness(instance, "take")
    duration_s = float(rng.uniform(*DURATION_S))
    rho = 0.0 if split == "swapped" else look.rho
    wanted = [_choose_action(scene, rho, rng) for _ in range(rng.integers(ACTIONS_A_TAKE[0], ACTIONS_A_TAKE[1] + 1))]
    doings = [_whole_repetitions("action", action, rng) for action in wanted]
    return TakePlan(
        split=split,
        name=f"{min(wanted, key=lambda action: (-wanted.count(action), action))}/take_{index:06d}",
        scene=scene,
        duration_s=duration_s,
        doings=_with_rests(_with_distractors(doings, duration_s, rng), duration_s, rng),
        instance=instance,
    )


def _choose_action(scene: str, rho: float, rng: np.random.Generator) -> str:
    (typical,) = (action for action, place in TYPICAL_SCENES.items() if place == scene)
    others = sorted(ACTIONS.keys() - {typical})
    other = others[rng.integers(len(others))]
    return typical if rng.uniform() < rho else other


def _whole_repetitions(kind: Kind, action: str, rng: np.random.Generator) -> Doing:
    """From time 0, for as many repetitions as fit into `ACTION_S`."""
    period_s = float(rng.uniform(*(ACTIONS | TARGET_ACTIONS)[action].period_s))
    repetitions = rng.integers(int(np.ceil(ACTION_S[0] / period_s)), int(ACTION_S[1] / period_s) + 1)
    return Doing(kind, action, 0.0, float(repetitions * period_s), period_s)


def _with_distractors(doings: list[Doing], duration_s: float, rng: np.random.Generator) -> list[Doing]:
    """Before most of them, and after the last, something that is not to be found, while there is time for it."""
    busy_s = sum(doing.end_s for doing in doings)
    found: list[Doing] = []
    for following in (*doings, None):
        distractor = _distractor(rng)
        if rng.uniform() < 0.75 and busy_s + distractor.end_s <= MOST_ACTIVE * duration_s:
            busy_s += distractor.end_s
            found.append(distractor)
        found += [following] if following else []
    return found


def _distractor(rng: np.random.Generator) -> Doing:
    if rng.uniform() < 0.4:
        return _whole_repetitions("other", sorted(TARGET_ACTIONS)[rng.integers(len(TARGET_ACTIONS))], rng)
    action = sorted(ACTIONS)[rng.integers(len(ACTIONS))]
    period_s = float(rng.uniform(*ACTIONS[action].period_s))
    return Doing("near miss", action, 0.0, max(0.8 * period_s, 2 * _EASE_S), period_s)


def _with_rests(doings: list[Doing], duration_s: float, rng: np.random.Generator) -> tuple[Doing, ...]:
    """Place them one after another, with rests of random lengths before, between and after."""
    idle_s = duration_s - sum(doing.end_s for doing in doings) - SHORTEST_REST_S * (len(doings) + 1)
    rests_s = SHORTEST_REST_S + idle_s * rng.dirichlet(np.ones(len(doings) + 1))
    placed, now_s = [], 0.0
    for doing, rest_s in zip(doings, rests_s[:-1].tolist(), strict=True):
        start_s = now_s + rest_s
        now_s = start_s + doing.end_s
        placed.append(Doing(doing.kind, doing.action, start_s, now_s, doing.period_s))
    return tuple(placed)


def _add(pose: Pose, doing: Doing, fps: float, rng: np.random.Generator) -> None:
    """Let a standing figure do it, easing into the movement and out of it."""
    side, reach = int(rng.integers(2)), float(rng.uniform(0.9, 1.08))
    first, end = int(np.ceil(doing.start_s * fps)), int(np.ceil(doing.end_s * fps))
    time_s = np.arange(first, end) / fps - doing.start_s
    lasts_s = doing.end_s - doing.start_s
    turns = time_s / doing.period_s
    if doing.kind == "near miss":
        turns = BROKEN_OFF * np.sin(np.pi * time_s / lasts_s)
    moved = Pose(**{angle.name: getattr(pose, angle.name)[first:end].copy() for angle in fields(Pose)})
    action = (ACTIONS | TARGET_ACTIONS)[doing.action]
    action.move(moved, Beat(phase=(2 * np.pi * turns).astype(np.float32), side=side, reach=reach))
    ease_s = min(_EASE_S, lasts_s / 3)
    share_T = np.clip(np.minimum(time_s, lasts_s - time_s) / ease_s, 0, 1).astype(np.float32)
    for angle in fields(Pose):
        stands, moves = getattr(pose, angle.name)[first:end], getattr(moved, angle.name)
        turned = moves - stands if angle.name == "lift" else (moves - stands + 180) % 360 - 180
        stands += share_T.reshape(-1, *[1] * (stands.ndim - 1)) * turned


def _in_parts(pose: Pose, viewpoint: Viewpoint) -> Iterator[tuple[slice, Pose, Viewpoint]]:
    for first in range(0, len(pose.lean), _FRAMES_DRAWN_TOGETHER):
        part = slice(first, first + _FRAMES_DRAWN_TOGETHER)
        angles = Pose(**{angle.name: getattr(pose, angle.name)[part] for angle in fields(Pose)})
        yield part, angles, Viewpoint(viewpoint.height_px, viewpoint.feet[part], viewpoint.yaw, viewpoint.zoom[part])


def render_take(look: WorldLook, plan: TakePlan) -> RenderedClip:
    """Draw a take; equal arguments give equal pixels."""
    frame_count = round(plan.duration_s * look.fps)
    times_longer = plan.duration_s / _CLIP_S
    scene = SCENES[plan.scene]
    camera = hand_held(look, frame_count, look.randomness(plan.instance, "camera"), times_longer)
    frames = film(paint(look, scene, look.randomness(plan.instance, "scene")), camera, look)
    rng = look.randomness(plan.instance, "person")
    pose = standing(frame_count, rng, times_longer)
    for doing in plan.doings:
        _add(pose, doing, look.fps, rng)
    viewpoint = standing_person(look, camera, rng)
    draw_shadow(frames, viewpoint, strength=float(rng.uniform(0.2, 0.5)))
    body = random_body(rng)
    masks: NDArray[np.bool_] = np.zeros(frames.shape[:3], np.bool_)
    for part, angles, view in _in_parts(pose, viewpoint):
        masks[part] = draw_figure(frames[part], body, angles, view)
    return RenderedClip(
        (frames * 255 + 0.5).astype(np.uint8), masks, soft_label(scene, look.randomness(plan.instance, "label"))
    )

"""The human figures of the demo world: bodies, clothes, and how a pose becomes pixels.

A figure is a skeleton in three dimensions (x to its left, y up, z to its front; unit: its height) seen from an angle,
and drawn as tapered capsules through their signed distance, which gives soft edges, round shading and cloth that moves
with the limb. Array suffixes: T frames, H rows, W columns, C colours (red, green, blue in [0, 1]).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenebias.demo.actions import Pose

Floats = NDArray[np.floating]

_SKIN = np.array([(0.96, 0.80, 0.69), (0.88, 0.67, 0.52), (0.74, 0.52, 0.37), (0.55, 0.36, 0.24), (0.36, 0.23, 0.16)])
_HAIR = np.array([(0.10, 0.08, 0.07), (0.27, 0.16, 0.09), (0.55, 0.35, 0.16), (0.86, 0.70, 0.38), (0.62, 0.60, 0.58)])
_PATTERNS = ("plain", "plain", "stripes", "hoops", "checks")
_EDGE_PX = 0.5


@dataclass(frozen=True)
class Cloth:
    """What covers a part of the body."""

    colour: Floats
    """(C,)."""
    second: Floats
    """The other colour of a pattern, (C,)."""
    pattern: str = "plain"
    pitch: float = 1.0


@dataclass(frozen=True)
class Body:
    """A person: proportions in body heights, and clothes."""

    torso: float
    shoulder: float
    hip: float
    upper_arm: float
    forearm: float
    thigh: float
    shin: float
    head: float
    girth: float
    skin: Cloth
    hair: Cloth
    shirt: Cloth
    trousers: Cloth
    shoes: Cloth
    long_sleeves: bool
    long_trousers: bool


@dataclass(frozen=True)
class Viewpoint:
    """From where a figure is seen."""

    height_px: float
    """Its height where the camera's zoom is 1."""
    feet: Floats
    """Pixel (x, y) between its feet through time, float32 (T, 2)."""
    yaw: float
    """How far it is turned away from the camera, in radians; the sign is its left or right."""
    zoom: Floats
    """The camera's zoom through time, float32 (T,)."""


@dataclass(frozen=True)
class _Part:
    """A tapered capsule between two pixels."""

    start: Floats
    """(T, 2)."""
    end: Floats
    """(T, 2)."""
    start_radius: Floats
    """(T,)."""
    end_radius: Floats
    """(T,)."""
    nearness: float
    """Its mean nearness to the camera."""
    cloth: Cloth


def _plain(colour: NDArray[np.float64], rng: np.random.Generator) -> Cloth:
    tone = np.clip(colour * rng.uniform(0.88, 1.1), 0, 1).astype(np.float32)
    return Cloth(tone, tone)


def _garment(rng: np.random.Generator) -> Cloth:
    first, second = rng.uniform(0.04, 0.96, (2, 3)).astype(np.float32)
    return Cloth(first, second, pattern=str(rng.choice(_PATTERNS)), pitch=float(rng.uniform(0.045, 0.09)))


def random_body(rng: np.random.Generator) -> Body:
    """A person with proportions, skin, hair and clothes of their own."""
    build = rng.uniform(0.92, 1.08, 8)
    return Body(
        torso=0.29 * build[0],
        shoulder=0.105 * build[1],
        hip=0.058 * build[2],
        upper_arm=0.175 * build[3],
        forearm=0.185 * build[3],
        thigh=0.25 * build[4],
        shin=0.245 * build[4],
        head=0.075 * build[5],
        girth=float(rng.uniform(0.9, 1.3)),
        skin=_plain(_SKIN[rng.integers(len(_SKIN))], rng),
        hair=_plain(_HAIR[rng.integers(len(_HAIR))], rng),
        shirt=_garment(rng),
        trousers=_garment(rng),
        shoes=_plain(rng.uniform(0.05, 0.95, 3), rng),
        long_sleeves=bool(rng.integers(2)),
        long_trousers=bool(rng.uniform() < 0.7),
    )


def _direction(out_T2: Floats, forward_T2: Floats) -> Floats:
    """Unit vectors (T, 2, 3) of the limbs of both sides that hang down at (0, 0)."""
    out, forward = np.radians(out_T2), np.radians(forward_T2)
    side = np.array([1, -1], np.float32)
    return np.stack([side * np.sin(out), -np.cos(out) * np.cos(forward), np.cos(out) * np.sin(forward)], axis=-1)


def _joints(body: Body, pose: Pose) -> dict[str, Floats]:
    """Positions in body heights, (T, 3) or, for limbs, (T, 2, 3), the lowest foot at ``pose.lift`` above the ground."""
    lean = np.radians(pose.lean)
    spine = np.stack([np.zeros_like(lean), np.cos(lean), np.sin(lean)], axis=-1)
    across = np.array([[1, 0, 0], [-1, 0, 0]], np.float32)
    pelvis = np.zeros_like(spine)
    neck = pelvis + body.torso * spine
    shoulder = neck[:, None] - 0.02 * spine[:, None] + body.shoulder * across
    elbow = shoulder + body.upper_arm * _direction(pose.arm_out, pose.arm_forward)
    hand = elbow + body.forearm * _direction(pose.arm_out + pose.elbow_out, pose.arm_forward + pose.elbow_forward)
    hip = pelvis[:, None] + body.hip * across
    knee = hip + body.thigh * _direction(pose.leg_out, pose.leg_forward)
    ankle = knee + body.shin * _direction(pose.leg_out, pose.leg_forward + pose.knee)
    toe = ankle + np.array([[0.02, -0.015, 0.075], [-0.02, -0.015, 0.075]], np.float32)
    joints = {
        "pelvis": pelvis,
        "chest": pelvis + 0.82 * body.torso * spine,
        "neck": neck,
        "head": neck + (1.25 * body.head) * spine,
        "shoulder": shoulder,
        "elbow": elbow,
        "hand": hand,
        "hip": hip,
        "knee": knee,
        "ankle": ankle,
        "toe": toe,
    }
    ground = np.minimum(ankle[..., 1], toe[..., 1]).min(axis=1) - 0.03 - pose.lift
    rise = np.stack([np.zeros_like(ground), -ground, np.zeros_like(ground)], axis=-1)
    return {name: point + (rise if point.ndim == 2 else rise[:, None]) for name, point in joints.items()}


def _project(point: Floats, viewpoint: Viewpoint) -> tuple[Floats, Floats]:
    """Pixels (..., 2) and nearness to the camera (...) of points (T, ..., 3), from a little above the figure's eyes."""
    x, y, z = np.moveaxis(point, -1, 0)
    right = x * np.cos(viewpoint.yaw) + z * np.sin(viewpoint.yaw)
    near = z * np.cos(viewpoint.yaw) - x * np.sin(viewpoint.yaw)
    seen = np.stack([right, 0.12 * near - y], axis=-1)
    per_frame = (slice(None), *[None] * (point.ndim - 2))
    scale = viewpoint.height_px * viewpoint.zoom[per_frame]
    return viewpoint.feet[per_frame] + scale[..., None] * seen, near


def _parts(body: Body, pose: Pose, viewpoint: Viewpoint) -> list[_Part]:
    """The figure's parts, the farthest from the camera first."""
    projected = {name: _project(point, viewpoint) for name, point in _joints(body, pose).items()}
    scale_T = viewpoint.height_px * viewpoint.zoom
    parts: list[_Part] = []

    def add(start: str, end: str, radii: tuple[float, float], cloth: Cloth, bias: float = 0.0) -> None:
        (start_px, start_near), (end_px, end_near) = projected[start], projected[end]
        radius = [scale_T * value * body.girth for value in radii]
        nearness = (start_near + end_near) / 2 + bias
        sides = [(start_px, end_px, nearness)]
        if start_px.ndim == 3:
            sides = [(start_px[:, side], end_px[:, side], nearness[:, side]) for side in (0, 1)]
        parts.extend(_Part(a, b, radius[0], radius[1], float(near.mean()), cloth) for a, b, near in sides)

    add("pelvis", "chest", (0.062, 0.072), body.shirt)
    parts.append(_between_sides(projected["shoulder"], 0.045 * body.girth * scale_T, 0.001, body.shirt))
    parts.append(_between_sides(projected["hip"], 0.05 * body.girth * scale_T, 0.001, body.trousers))
    add("neck", "head", (0.03, 0.03), body.skin, bias=0.005)
    add("hip", "knee", (0.052, 0.041), body.trousers, bias=0.002)
    add("knee", "ankle", (0.039, 0.028), body.trousers if body.long_trousers else body.skin, bias=0.001)
    add("ankle", "toe", (0.03, 0.024), body.shoes, bias=0.003)
    add("shoulder", "elbow", (0.039, 0.033), body.shirt, bias=0.02)
    add("elbow", "hand", (0.031, 0.024), body.shirt if body.long_sleeves else body.skin, bias=0.021)
    add("hand", "hand", (0.03, 0.03), body.skin, bias=0.022)
    parts.extend(_head(body, viewpoint, *projected["head"], scale_T))
    return sorted(parts, key=lambda part: part.nearness)


def _between_sides(joint: tuple[Floats, Floats], radius_T: Floats, bias: float, cloth: Cloth) -> _Part:
    pixels, near = joint
    return _Part(pixels[:, 0], pixels[:, 1], radius_T, radius_T, float(near.mean()) + bias, cloth)


def _head(body: Body, viewpoint: Viewpoint, centre_T2: Floats, near: Floats, scale_T: Floats) -> list[_Part]:
    """Hair, and a face turned to where the figure looks."""
    radius_T = body.head * scale_T
    gaze = np.array([0.42 * np.sin(viewpoint.yaw), 0.26], np.float32)
    face_T2 = centre_T2 + radius_T[:, None] * gaze
    nearness = float(near.mean()) + 0.03
    return [
        _Part(centre_T2, centre_T2, radius_T, radius_T, nearness, body.hair),
        _Part(face_T2, face_T2, 0.78 * radius_T, 0.78 * radius_T, nearness + 0.001, body.skin),
    ]


def _weave(cloth: Cloth, along_px: Floats, across: Floats, pitch_px: float) -> Floats:
    """Share of the second colour: ``across`` runs from -1 to 1 over the limb, ``along_px`` down its length."""
    hoops = (np.sin(2 * np.pi * along_px / pitch_px) > 0).astype(np.float32)
    stripes = (np.sin(2.2 * np.pi * across) > 0).astype(np.float32)
    match cloth.pattern:
        case "hoops":
            return hoops
        case "stripes":
            return stripes
        case "checks":
            return np.abs(hoops - stripes)
    return np.zeros_like(across)


def _draw_part(frames_THWC: Floats, coverage_THW: Floats, part: _Part, height_px: float) -> None:
    """Lay one part over the frames, within the window that it visits."""
    rows, columns = frames_THWC.shape[1:3]
    margin = float(max(part.start_radius.max(), part.end_radius.max())) + 1
    points = np.concatenate([part.start, part.end])
    left, top = np.maximum(np.floor(points.min(axis=0) - margin), 0).astype(int)
    right, bottom = np.minimum(np.ceil(points.max(axis=0) + margin) + 1, (columns, rows)).astype(int)
    if left >= right or top >= bottom:
        return
    window = (slice(None), slice(top, bottom), slice(left, right))
    x = np.arange(left, right, dtype=np.float32) + 0.5
    y = (np.arange(top, bottom, dtype=np.float32) + 0.5)[:, None]

    bone_T2 = part.end - part.start
    length_T11 = np.linalg.norm(bone_T2, axis=1)[:, None, None].astype(np.float32)
    unit = (bone_T2 / (length_T11[:, 0] + 1e-6)).astype(np.float32)[:, :, None, None]
    dx = x - part.start[:, 0, None, None].astype(np.float32)
    dy = y - part.start[:, 1, None, None].astype(np.float32)
    along = dx * unit[:, 0] + dy * unit[:, 1]
    sideways = dx * unit[:, 1] - dy * unit[:, 0]
    beyond = along - np.clip(along, 0, length_T11)
    distance = np.sqrt(beyond * beyond + (dx * dx + dy * dy - along * along).clip(0))
    share = np.clip(along / (length_T11 + 1e-6), 0, 1)
    radius = part.start_radius[:, None, None] * (1 - share) + part.end_radius[:, None, None] * share
    radius = radius.astype(np.float32)
    alpha = np.clip((radius - distance) / (2 * _EDGE_PX) + 0.5, 0, 1)[..., None]

    second = _weave(part.cloth, along, sideways / radius, part.cloth.pitch * height_px)[..., None]
    roundness = np.clip(distance / radius, 0, 1)[..., None]
    colour = part.cloth.colour + (part.cloth.second - part.cloth.colour) * second
    colour = colour * (1.08 - 0.4 * roundness * roundness)
    target = frames_THWC[window]
    target += alpha * (colour - target)
    np.maximum(coverage_THW[window], alpha[..., 0], out=coverage_THW[window])


def draw_shadow(frames_THWC: Floats, viewpoint: Viewpoint, strength: float) -> None:
    """Darken the ground under a figure."""
    rows, columns = frames_THWC.shape[1:3]
    x = np.arange(columns, dtype=np.float32) + 0.5 - viewpoint.feet[:, 0, None, None]
    y = (np.arange(rows, dtype=np.float32) + 0.5)[:, None] - viewpoint.feet[:, 1, None, None]
    radius = viewpoint.height_px * viewpoint.zoom[:, None, None]
    distance = (x / (0.2 * radius)) ** 2 + (y / (0.05 * radius)) ** 2
    frames_THWC *= (1 - strength * np.exp(-distance))[..., None].astype(np.float32)


def draw_figure(frames_THWC: Floats, body: Body, pose: Pose, viewpoint: Viewpoint) -> NDArray[np.bool_]:
    """Draw a figure over the frames, in place.

    Returns:
        bool (T, H, W): every pixel that the figure touches.
    """
    coverage_THW = np.zeros(frames_THWC.shape[:3], np.float32)
    for part in _parts(body, pose, viewpoint):
        _draw_part(frames_THWC, coverage_THW, part, viewpoint.height_px)
    np.clip(frames_THWC, 0, 1, out=frames_THWC)
    return coverage_THW > 0

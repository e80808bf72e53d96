"""The actions of the demo world: how joint angles run through time.

Actions are told apart by motion. Each one passes through poses of another: a wave goes through the top of a raised arm,
flapping arms are a jumping jack without the legs, and the two windmills are the same poses in opposite order.

Angles are in degrees. ``out`` turns a limb sideways away from the body and ``forward`` swings it to the front, both
from hanging down. Arrays have shape (T,) or (T, 2): frames, then the figure's left (0) and right (1) side.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Angles = NDArray[np.floating]


@dataclass
class Pose:
    """A figure's joint angles through time."""

    arm_out: Angles
    arm_forward: Angles
    elbow_out: Angles
    elbow_forward: Angles
    leg_out: Angles
    leg_forward: Angles
    knee: Angles
    lean: Angles
    lift: Angles
    """Height of a jump, in body heights."""


@dataclass(frozen=True)
class Beat:
    """What drives one performance of an action."""

    phase: Angles
    """Radians through time, (T,); one repetition is a full turn."""
    side: int
    """The side that acts where only one does."""
    reach: float
    """How far the movement goes, near 1."""

    @property
    def swell(self) -> Angles:
        """0 at rest, ``reach`` at the peak of each repetition."""
        return self.reach * (1 - np.cos(self.phase)) / 2


def _wave(pose: Pose, beat: Beat) -> None:
    sway = beat.reach * np.sin(beat.phase)
    pose.arm_out[:, beat.side] = 138 + 22 * sway
    pose.elbow_out[:, beat.side] = 10 + 32 * sway


def _raise_arm(pose: Pose, beat: Beat) -> None:
    pose.arm_out[:, beat.side] = 8 + 150 * beat.swell


def _flap_arms(pose: Pose, beat: Beat) -> None:
    pose.arm_out[:] = 8 + 150 * beat.swell[:, None]


def _jumping_jack(pose: Pose, beat: Beat) -> None:
    _flap_arms(pose, beat)
    pose.leg_out[:] = 3 + 27 * beat.swell[:, None]
    pose.lift += 0.05 * np.abs(np.sin(beat.phase))


def _squat(pose: Pose, beat: Beat) -> None:
    depth = beat.swell
    pose.leg_forward += 88 * depth[:, None]
    pose.knee -= 125 * depth[:, None]
    pose.lean += 32 * depth
    pose.arm_forward += 75 * depth[:, None]


def _bow(pose: Pose, beat: Beat) -> None:
    pose.lean += 82 * beat.swell
    pose.arm_forward += 12 * beat.swell[:, None]


def _kick(pose: Pose, beat: Beat) -> None:
    pose.leg_forward[:, beat.side] += 98 * beat.swell - 12
    pose.knee[:, beat.side] -= 45 * np.clip(np.sin(beat.phase), 0, 1)
    pose.lean -= 10 * beat.swell
    pose.arm_forward[:, 1 - beat.side] += 30 * beat.swell


def _march(pose: Pose, beat: Beat) -> None:
    stride = np.stack([np.sin(beat.phase), -np.sin(beat.phase)], axis=1) * beat.reach
    raised = np.clip(stride, 0, None)
    pose.leg_forward += 82 * raised
    pose.knee -= 92 * raised
    pose.arm_forward -= 38 * stride
    pose.elbow_forward += 35


def _windmill_forward(pose: Pose, beat: Beat) -> None:
    pose.arm_forward[:] = -np.degrees(beat.phase)[:, None]


def _windmill_backward(pose: Pose, beat: Beat) -> None:
    pose.arm_forward[:] = np.degrees(beat.phase)[:, None]


def _lift_arms(pose: Pose, beat: Beat) -> None:
    pose.arm_forward[:] = 175 * beat.swell[:, None]


def _clap(pose: Pose, beat: Beat) -> None:
    pose.arm_forward[:] = 80
    pose.arm_out[:] = 75 * beat.swell[:, None]


def _hop(pose: Pose, beat: Beat) -> None:
    in_air = np.abs(np.sin(beat.phase))
    pose.lift += 0.16 * beat.reach * in_air
    pose.leg_forward += 40 * (1 - in_air)[:, None]
    pose.knee -= 70 * (1 - in_air)[:, None]


def _swing_leg(pose: Pose, beat: Beat) -> None:
    pose.leg_out[:, beat.side] += 60 * beat.swell


@dataclass(frozen=True)
class Action:
    """An action."""

    move: Callable[[Pose, Beat], None]
    """Its movement: moves the joints of a figure at rest."""
    period_s: tuple[float, float]
    """How long one repetition takes, from the quickest to the slowest performer."""


ACTIONS = {
    "bow": Action(_bow, (1.2, 1.7)),
    "flap_arms": Action(_flap_arms, (0.85, 1.2)),
    "jumping_jack": Action(_jumping_jack, (0.85, 1.2)),
    "kick": Action(_kick, (0.8, 1.15)),
    "march": Action(_march, (0.85, 1.2)),
    "raise_arm": Action(_raise_arm, (1.5, 2.1)),
    "squat": Action(_squat, (1.2, 1.7)),
    "wave": Action(_wave, (0.48, 0.68)),
}
"""The actions to pretrain on."""

TARGET_ACTIONS = {
    "clap": Action(_clap, (0.8, 1.15)),
    "hop": Action(_hop, (1.2, 1.7)),
    "lift_arms": Action(_lift_arms, (1.0, 1.4)),
    "swing_leg": Action(_swing_leg, (1.0, 1.4)),
    "windmill_backward": Action(_windmill_backward, (1.0, 1.4)),
    "windmill_forward": Action(_windmill_forward, (1.0, 1.4)),
}
"""The other actions, to transfer to."""


def standing(frames: int, rng: np.random.Generator, times_longer: float = 1.0) -> Pose:
    """A figure at rest: a stance of its own, every joint swaying a little; ``times_longer`` than in a clip."""

    def joint(angle: float, spread: float, *shape: int) -> Angles:
        stance = angle + spread * rng.uniform(-1, 1, shape)
        turns = rng.uniform(0, 1, shape) + np.linspace(0, times_longer, frames).reshape(
            -1, *[1] * len(shape)
        ) * rng.uniform(0.5, 2)
        return (stance + 0.5 * spread * np.sin(2 * np.pi * turns)).astype(np.float32)

    return Pose(
        arm_out=joint(11, 5, 2),
        arm_forward=joint(3, 7, 2),
        elbow_out=joint(0, 4, 2),
        elbow_forward=joint(12, 9, 2),
        leg_out=joint(5, 3, 2),
        leg_forward=joint(0, 3, 2),
        knee=joint(-4, 3, 2),
        lean=joint(1, 4),
        lift=np.zeros(frames, np.float32),
    )


def perform(action: Action, frames: int, fps: float, rng: np.random.Generator) -> Pose:
    """One figure's performance of ``action``: its own tempo, starting point, reach, side and stance."""
    turns = rng.uniform() + np.arange(frames) / fps / rng.uniform(*action.period_s)
    beat = Beat(
        phase=(2 * np.pi * turns).astype(np.float32), side=int(rng.integers(2)), reach=float(rng.uniform(0.9, 1.08))
    )
    pose = standing(frames, rng)
    action.move(pose, beat)
    return pose

"""The demo world: what happens in which clip, and what is drawn."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenebias.demo.actions import ACTIONS, TARGET_ACTIONS, Beat, Pose, perform
from scenebias.demo.scenes import SCENES, soft_label
from scenebias.demo.world import SPLITS, TYPICAL_SCENES, WorldConfig, plan_clip, render_clip

CONFIG = WorldConfig()
SCENE_SPLITS = [split for split in SPLITS if split != "human-only"]


def plans(split: str, count: int, config: WorldConfig = CONFIG) -> list:
    return [plan_clip(config, split, index) for index in range(count)]


def still_pose() -> Pose:
    both = np.zeros((1, 2))
    return Pose(*(both.copy() for _ in range(7)), lean=np.zeros(1), lift=np.zeros(1))


def pose_at(action: str, turns: float) -> np.ndarray:
    """All joint angles of ``action`` at one point of its repetition, the figure otherwise at attention."""
    pose = still_pose()
    beat = Beat(phase=np.array([2 * np.pi * turns]), side=0, reach=1.0)
    (ACTIONS | TARGET_ACTIONS)[action].move(pose, beat)
    return np.concatenate([np.ravel(value) for name, value in vars(pose).items() if name != "lift"])


def largest_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of all joints (the last axis), in degrees around the circle."""
    return np.abs((first - second + 180) % 360 - 180).max(axis=-1)


def closest_poses(first: str, second: str) -> float:
    """Largest difference of any joint between the two most alike poses of two actions."""
    turns = np.linspace(0, 1, 121)
    ours = np.stack([pose_at(first, turn) for turn in turns])
    theirs = np.stack([pose_at(second, turn) for turn in turns])
    return float(largest_difference(ours[:, None], theirs).min())


def test_every_action_has_its_own_typical_scene():
    assert TYPICAL_SCENES.keys() == ACTIONS.keys()
    assert sorted(TYPICAL_SCENES.values()) == sorted(SCENES)
    assert not ACTIONS.keys() & TARGET_ACTIONS.keys()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("rho", [0.0, 0.125, 0.8, 1.0])
def test_rho_is_the_share_of_clips_in_their_typical_scene(split, rho):
    count = 4000
    found = plans(split, count, replace(CONFIG, rho=rho))
    typical = sum(plan.scene == TYPICAL_SCENES[plan.action] for plan in found)
    assert abs(typical / count - rho) <= 4 * np.sqrt(rho * (1 - rho) / count)
    elsewhere = Counter(plan.scene for plan in found if plan.action == "wave" and plan.scene != "beach")
    if rho < 1:
        assert len(elsewhere) == len(SCENES) - 1
        mean = elsewhere.total() / len(elsewhere)
        assert all(abs(n - mean) < 5 * np.sqrt(mean) for n in elsewhere.values())


def test_swapped_clips_are_never_in_their_typical_scene():
    found = plans("swapped", 800)
    assert all(plan.scene != TYPICAL_SCENES[plan.action] for plan in found)
    assert {plan.scene for plan in found} == set(SCENES)


def test_scene_only_shows_the_typical_scene_and_nobody():
    for plan in plans("scene-only", 80):
        assert plan.scene == TYPICAL_SCENES[plan.action]
        assert not plan.has_person
    assert not render_clip(CONFIG, plan_clip(CONFIG, "scene-only", 3)).masks.any()


def test_target_scenes_are_balanced():
    cells = len(TARGET_ACTIONS) * len(SCENES)
    counts = Counter((plan.action, plan.scene) for plan in plans("target-train", 5 * cells))
    assert len(counts) == cells
    assert set(counts.values()) == {5}


def test_actions_take_turns():
    counts = Counter(plan.action for plan in plans("train", 80))
    assert counts == dict.fromkeys(ACTIONS, 10)


def test_no_two_clips_share_a_person_or_a_scene_instance():
    config = replace(CONFIG, clips_train=50)
    instances = [plan.instance for split in SPLITS for plan in plans(split, config.clip_count(split), config)]
    assert len(set(instances)) == len(instances)


def test_a_clip_does_not_depend_on_how_many_others_there_are():
    small, large = replace(CONFIG, clips_train=8), replace(CONFIG, clips_train=5000)
    assert plans("train", 8, small) == plans("train", 8, large)


@pytest.mark.parametrize(
    ("first", "second", "degrees"),
    [
        ("wave", "raise_arm", 5),
        ("jumping_jack", "flap_arms", 5),
        ("bow", "raise_arm", 10),
        ("squat", "bow", 10),
        ("windmill_forward", "windmill_backward", 1),
        ("lift_arms", "windmill_forward", 1),
        ("lift_arms", "windmill_backward", 1),
        ("clap", "lift_arms", 2),
        ("swing_leg", "hop", 1),
        ("hop", "squat", 1),
    ],
)
def test_single_poses_do_not_tell_actions_apart(first, second, degrees):
    assert closest_poses(first, second) < degrees


def test_the_windmills_are_the_same_poses_in_opposite_order():
    for turns in np.linspace(0, 1, 13):
        assert largest_difference(pose_at("windmill_forward", turns), pose_at("windmill_backward", -turns)) < 1e-3


@pytest.mark.parametrize("action", sorted(ACTIONS | TARGET_ACTIONS))
def test_performances_differ_but_follow_from_their_randomness(action):
    chosen = (ACTIONS | TARGET_ACTIONS)[action]
    first, again, other = (perform(chosen, 24, 12.5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.arm_out, again.arm_out)
    assert not np.allclose(first.arm_out, other.arm_out)


@pytest.mark.parametrize("split", SCENE_SPLITS)
def test_rendering_is_deterministic(split):
    plan = plan_clip(CONFIG, split, 5)
    first, again = render_clip(CONFIG, plan), render_clip(CONFIG, plan)
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.masks, again.masks)
    np.testing.assert_array_equal(first.scene_label, again.scene_label)


@given(index=st.integers(0, 10_000), seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_the_mask_holds_every_pixel_that_the_person_changes(index, seed):
    config = replace(CONFIG, seed=seed, frames=6)
    plan = plan_clip(config, "human-only", index)
    there, gone = render_clip(config, plan), render_clip(config, replace(plan, has_person=False))
    assert there.frames.shape == (6, config.height, config.width, 3)
    changed = (there.frames != gone.frames).any(axis=-1)
    assert not (changed & ~there.masks).any()
    assert changed[there.masks].mean() > 0.9
    assert (there.masks.mean(axis=(1, 2)) > 0.03).all()
    assert (there.masks.mean(axis=(1, 2)) < 0.4).all()


def test_in_a_scene_only_the_shadow_on_the_ground_lies_outside_the_mask():
    for index in range(8):
        plan = plan_clip(CONFIG, "test", index)
        there, gone = render_clip(CONFIG, plan), render_clip(CONFIG, replace(plan, has_person=False))
        change = there.frames.astype(int) - gone.frames
        change[there.masks] = 0
        assert change.max() <= 0
        assert not change[:, : CONFIG.height // 2].any()


def test_the_person_moves():
    for plan in plans("human-only", 16):
        masks = render_clip(CONFIG, plan).masks
        assert (masks != masks[0]).any(axis=0).sum() > 60


def test_instances_of_a_scene_differ():
    first, second = (render_clip(CONFIG, plan).frames.astype(int) for plan in plans("scene-only", 9)[::8])
    assert np.abs(first - second).mean() > 10


@pytest.mark.parametrize("scene", [*sorted(SCENES), None])
def test_scene_labels_are_probabilities_that_peak_on_the_scene(scene):
    for seed in range(20):
        label = soft_label(SCENES[scene] if scene else None, np.random.default_rng(seed))
        assert label.dtype == np.float16
        assert label.shape == (365,)
        assert (label >= 0).all()
        assert label.sum(dtype=np.float64) == pytest.approx(1, abs=2e-3)
        if scene:
            assert label.argmax() == SCENES[scene].places365
            assert 0.5 <= label.max() <= 0.95
        else:
            assert label.max() < 0.05


def test_places365_indices_are_those_of_the_real_list(real_data: Path):
    lines = (real_data / "labels" / "places365" / "categories_places365.txt").read_text().split("\n")
    indices = {name[3:]: int(index) for name, index in (line.split() for line in lines if line)}
    for name, scene in SCENES.items():
        assert indices[name] == scene.places365
        assert scene.mistaken_for.items() <= indices.items()


@pytest.mark.parametrize(
    ("field", "value"),
    [("rho", 1.1), ("height", 72), ("width", 87), ("frames", 0), ("fps", 0), ("seed", -1), ("clips_test", -1)],
)
def test_impossible_worlds_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        WorldConfig(**{field: value})

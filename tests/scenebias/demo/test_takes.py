"""Long takes of the demo world: what happens when, what is drawn, and the files."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenebias.annotators import open_mask_source
from scenebias.demo.actions import ACTIONS, TARGET_ACTIONS
from scenebias.demo.filming import WorldLook
from scenebias.demo.render_takes import TakesConfig, render_takes
from scenebias.demo.scenes import SCENES
from scenebias.demo.takes import (
    ACTION_S,
    ACTIONS_A_TAKE,
    DURATION_S,
    SHORTEST_REST_S,
    TAKE_SPLITS,
    TakePlan,
    plan_take,
    render_take,
)
from scenebias.demo.world import SPLITS, TYPICAL_SCENES, WorldConfig, plan_clip
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.truth import box_corners
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import pack
from shards.packing.request import Annotators
from shards.sources import FolderSource

LOOK = WorldLook(seed=5)


@pytest.fixture(scope="module")
def rendered() -> tuple[TakePlan, np.ndarray, np.ndarray]:
    plan = plan_take(LOOK, "train", 1)
    take = render_take(LOOK, plan)
    return plan, take.frames, take.masks


@given(split=st.sampled_from(TAKE_SPLITS), index=st.integers(0, 10_000), seed=st.integers(0, 1000))
@settings(max_examples=200)
def test_a_take_has_its_actions_whole_apart_and_within_it(split, index, seed):
    plan = plan_take(WorldLook(seed=seed), split, index)
    assert DURATION_S[0] <= plan.duration_s <= DURATION_S[1]
    assert ACTIONS_A_TAKE[0] <= len(plan.actions) <= ACTIONS_A_TAKE[1]
    for doing in plan.doings:
        lasts_s = doing.end_s - doing.start_s
        assert doing.action in (TARGET_ACTIONS if doing.kind == "other" else ACTIONS)
        if doing.kind == "near miss":
            assert lasts_s < max(doing.period_s, 0.7)
        else:
            assert ACTION_S[0] <= lasts_s + 1e-9 <= ACTION_S[1] + 1e-6
            assert lasts_s / doing.period_s == pytest.approx(round(lasts_s / doing.period_s))
    times_s = [0.0, *(time for doing in plan.doings for time in (doing.start_s, doing.end_s)), plan.duration_s]
    for end_s, start_s in list(pairwise(times_s))[::2]:
        assert start_s - end_s >= SHORTEST_REST_S - 1e-6


@pytest.mark.parametrize("rho", [0.125, 0.8, 1.0])
def test_rho_is_the_share_of_actions_that_are_those_of_the_scene(rho):
    for split in ("train", "test", "swapped"):
        takes = [plan_take(replace(LOOK, rho=rho), split, index) for index in range(800)]
        usual = [TYPICAL_SCENES[doing.action] == take.scene for take in takes for doing in take.actions]
        assert np.mean(usual) == pytest.approx(0 if split == "swapped" else rho, abs=0.03)


def test_what_is_not_to_be_found_says_nothing_of_what_is():
    takes = [plan_take(LOOK, "train", index) for index in range(800)]
    near = Counter(doing.action for take in takes for doing in take.doings if doing.kind == "near miss")
    others = Counter(doing.action for take in takes for doing in take.doings if doing.kind == "other")
    assert near.keys() == ACTIONS.keys()
    assert others.keys() == TARGET_ACTIONS.keys()
    for counts in (near, others):
        assert max(counts.values()) < 1.4 * min(counts.values())
    in_scene = [TYPICAL_SCENES[d.action] == take.scene for take in takes for d in take.doings if d.kind == "near miss"]
    assert np.mean(in_scene) == pytest.approx(1 / len(SCENES), abs=0.03)


def test_no_take_shares_a_person_or_a_scene_instance_with_another_or_with_a_clip():
    takes = {plan_take(LOOK, split, index).instance for split in TAKE_SPLITS for index in range(50)}
    clips = {plan_clip(WorldConfig(), split, index).instance for split in SPLITS for index in range(50)}
    assert len(takes) == 50 * len(TAKE_SPLITS)
    assert not takes & clips


def test_a_take_is_drawn_again_to_the_pixel_and_another_seed_is_another(rendered):
    plan, frames, masks = rendered
    again = render_take(LOOK, plan)
    np.testing.assert_array_equal(again.frames, frames)
    np.testing.assert_array_equal(again.masks, masks)
    other = replace(LOOK, seed=6)
    assert plan_take(other, "train", 1) != plan
    assert frames.shape == (round(plan.duration_s * LOOK.fps), LOOK.height, LOOK.width, 3)


def test_a_take_has_no_cut_and_never_freezes(rendered):
    _, frames, _ = rendered
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    assert change.min() > 0.05
    assert change.max() < 8  # a cut between two places of one world is above 30


def test_the_person_is_in_every_frame_and_moves_most_where_something_is_done(rendered):
    plan, _, masks = rendered
    assert masks.any(axis=(1, 2)).all()
    moved = (masks[1:] ^ masks[:-1]).sum(axis=(1, 2)) / masks[:-1].sum(axis=(1, 2))
    time_s = np.arange(1, len(masks)) / LOOK.fps
    busy = np.zeros(len(moved), bool)
    for doing in plan.doings:
        busy |= (time_s > doing.start_s) & (time_s < doing.end_s)
    assert np.median(moved[busy]) > 2 * np.median(moved[~busy])


def test_an_action_begins_and_ends_standing(rendered):
    """So that where a segment ends is told by the movement, and by nothing else."""
    plan, _, masks = rendered
    for doing in plan.actions:
        first, end = int(np.ceil(doing.start_s * LOOK.fps)), int(np.ceil(doing.end_s * LOOK.fps))
        for before, after in ((first - 1, first), (end - 1, end)):
            assert (masks[before] ^ masks[after]).sum() < 0.5 * masks[before].sum()


@pytest.fixture(scope="module")
def takes(tmp_path_factory) -> TakesConfig:
    config = TakesConfig(out=tmp_path_factory.mktemp("takes") / "takes", takes_train=2, takes_test=1, workers=1)
    render_takes(config)
    return config


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_take_has_a_video_masks_a_scene_vector_and_a_truth(takes):
    for split in TAKE_SPLITS:
        truth = json.loads((takes.out / split / "truth.json").read_text())
        assert len(truth) == takes.take_count(split)
        for name, facts in truth.items():
            plan = plan_take(takes, split, int(name.rpartition("_")[2]))
            assert [doing["start_s"] for doing in facts["doings"]] == [doing.start_s for doing in plan.doings]
            with av.open(str(takes.out / split / "videos" / f"{name}.mp4")) as container:
                assert container.streams.video[0].frames == round(plan.duration_s * takes.fps)
            with np.load(takes.out / split / "masks" / f"{name}.npz", allow_pickle=False) as file:
                assert file["masks"].shape == (round(plan.duration_s * takes.fps), takes.height, takes.width)


@pytest.mark.parametrize("split", TAKE_SPLITS)
def test_takes_are_packed_with_their_segments_and_boxes(takes, tmp_path, split):
    folder = takes.out / split
    tables = {"segments": folder / "segments.csv", "boxes": folder / "boxes.csv"}
    source = FolderSource(root=folder / "videos", classes=takes.out / "classes.txt", **tables)
    listing = source.listing()
    assert listing.classes == tuple(sorted(ACTIONS))
    assert (listing.missing, listing.unlisted, listing.remarks) == ((), (), {})
    annotators = Annotators(mask_source=open_mask_source(folder / "masks", listing.clips))
    config = PackConfig(height=takes.height, mask_scale=1, workers=1)
    pack(listing, tmp_path / "packed", config, annotators=annotators, strict=True)
    dataset = ShardDataset.open(tmp_path / "packed")
    for i in range(len(dataset)):
        name = dataset.info(i).name
        plan = plan_take(takes, split, int(name.rpartition("_")[2]))
        assert name == plan.name
        truth, masks = dataset.truth(i), dataset[i].masks
        assert [(s.start_s, s.end_s, dataset.classes[s.label]) for s in truth.segments] == [
            (doing.start_s, doing.end_s, doing.action) for doing in plan.actions
        ]
        assert not truth.key_frames_only
        shown_s = truth.boxes["frame"] / takes.fps
        for tube, doing in enumerate(plan.actions):
            rows = truth.boxes[truth.boxes["tube"] == tube]
            assert {dataset.classes[label] for label in rows["label"]} == {doing.action}
            inside = (shown_s >= doing.start_s) & (shown_s < doing.end_s)
            np.testing.assert_array_equal(truth.boxes[inside], rows)
            assert len(rows) == np.ceil(doing.end_s * takes.fps) - np.ceil(doing.start_s * takes.fps)
        for row in truth.boxes[::20]:
            y, x = np.nonzero(masks[row["frame"]])
            assert box_corners(row).tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_the_files_do_not_depend_on_the_number_of_workers_and_are_kept(takes, tmp_path, capsys):
    render_takes(replace(takes, out=tmp_path / "again", workers=2))
    assert content(tmp_path / "again") == content(takes.out)
    render_takes(takes)
    assert "already rendered" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"other options \(rho\)"):
        render_takes(replace(takes, rho=0.5))

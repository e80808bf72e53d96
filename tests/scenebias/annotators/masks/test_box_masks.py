import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from scenebias.annotators import BoxMasks, open_mask_source
from scenebias.annotators.sdn_detections import convert_detections
from shards.errors import UserError
from shards.sources import ClipEntry
from tests.project import ROOT

FPS = 25.0
ENTRY = ClipEntry("wave/a", Path("wave/a.mp4"), "wave")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
VIDEO = "_-3456789ab"
KINETICS_ENTRY = ClipEntry(f"playing guitar/{VIDEO}_000012_000022", Path("x.mp4"), "playing guitar")


def write_boxes(folder: Path, **changes: object) -> Path:
    document = {"frame_count": 2, "height": 12, "width": 20, "boxes": [[1, 2, 5, 7]], "frames": [1], "scores": [0.9]}
    path = folder / "wave" / "a.json"
    path.parent.mkdir(exist_ok=True)
    content = document | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "absent"}))
    return path


edge = st.floats(-30, 30) | st.integers(-5, 25)
box = st.tuples(st.integers(0, 2), st.tuples(edge, edge, edge, edge), st.floats(0, 1))


@given(
    found=st.lists(box, max_size=6),
    height=st.integers(1, 30),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    width=st.none() | st.integers(1, 30),
)
def test_a_pixel_is_a_person_where_its_centre_lies_in_a_box_that_counts(tmp_path_factory, found, height, width, size):
    folder = tmp_path_factory.mktemp("boxes")
    frames, boxes, scores = ([item[place] for item in found] for place in range(3))
    write_boxes(folder, frame_count=3, height=height, width=width, boxes=boxes, frames=frames, scores=scores)
    source = pickle.loads(pickle.dumps(open_mask_source(folder, (ENTRY,), box_score=0.5)))
    mask_NHW = source.load(ENTRY, 3, *size, FPS)
    assert mask_NHW.dtype == bool
    scale_y = size[0] / height
    scale_x = size[1] / width if width else scale_y
    for (frame, y, x), person in np.ndenumerate(mask_NHW):
        assert person == any(
            frame == number
            and score >= 0.5
            and left * scale_x <= x + 0.5 < right * scale_x
            and upper * scale_y <= y + 0.5 < lower * scale_y
            for number, (left, upper, right, lower), score in found
        )


def test_a_box_of_just_the_least_score_counts(tmp_path):
    boxes = [[number, 0, number + 1, 12] for number in range(3)]
    write_boxes(tmp_path, boxes=boxes, frames=[1, 1, 1], scores=[0.3, np.nextafter(0.3, 0), np.nextafter(0.3, 1)])
    mask_NHW = BoxMasks(tmp_path).load(ENTRY, 2, 12, 20, FPS)
    assert mask_NHW[1].any(axis=0)[:4].tolist() == [True, False, True, False]


def test_a_box_over_the_whole_frame_covers_it_at_any_size(tmp_path):
    write_boxes(tmp_path, boxes=[[0, 0, 20, 12]], frames=[0])
    for height, width in ((12, 20), (7, 11), (240, 320)):
        mask_NHW = BoxMasks(tmp_path).load(ENTRY, 2, height, width, FPS)
        assert mask_NHW[0].all()
        assert not mask_NHW[1].any()


def test_a_clip_without_boxes_has_masks_without_people(tmp_path):
    write_boxes(tmp_path, boxes=[], frames=[], scores=[])
    mask_NHW = BoxMasks(tmp_path).load(ENTRY, 2, 12, 20, FPS)
    assert mask_NHW.shape == (2, 12, 20)
    assert not mask_NHW.any()


def test_boxes_of_other_frames_are_refused_or_matched_by_time(tmp_path):
    write_boxes(tmp_path, frame_count=5, frames=[3])
    with pytest.raises(UserError, match=r"a.json: masks of shape 5x12x20 for 6 frames of 12x20"):
        BoxMasks(tmp_path).load(ENTRY, 6, 12, 20, 30.0)
    mask_NHW = open_mask_source(tmp_path, (ENTRY,), mask_fps=25.0).load(ENTRY, 6, 12, 20, 30.0)
    assert mask_NHW.any(axis=(1, 2)).tolist() == [False, False, False, True, True, False]


def test_the_least_score_is_a_setting(tmp_path):
    assert BoxMasks(tmp_path).settings() != BoxMasks(tmp_path, box_score=0.5).settings()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"boxes": "absent"}, "lacks 'boxes'"),
        ({"frame_count": "absent"}, "lacks 'frame_count'"),
        ({"frame_count": True}, "'frame_count' is True"),
        ({"frame_count": 0}, "'frame_count' is 0"),
        ({"height": 0}, "'height' or 'width' is 0"),
        ({"height": None}, "'height' or 'width' is None"),
        ({"width": float("nan")}, "'height' or 'width' is nan"),
        ({"width": "20"}, "'height' or 'width' is '20'"),
        ({"boxes": [[1, 2, 3]]}, "of 4 edges"),
        ({"boxes": [1, 2, 3, 4]}, "of 4 edges"),
        ({"boxes": [[1, 2, 3, 4], [1]]}, "inhomogeneous"),
        ({"boxes": [[1, 2, 3, "left"]]}, "could not convert string to float: 'left'"),
        ({"boxes": {"a": 1}}, "dict"),
        ({"boxes": [[1, 2, 3, float("nan")]]}, "is not finite"),
        ({"scores": [float("inf")]}, "is not finite"),
        ({"scores": [0.1, 0.2]}, "n scores"),
        ({"frames": []}, "n frames"),
        ({"frames": [2]}, "from 0 to 1"),
        ({"frames": [-1]}, "from 0 to 1"),
        ({"frames": [0.5]}, "from 0 to 1"),
        ({"frames": [10**30]}, "from 0 to 1"),
    ],
)
def test_mistakes_in_a_file_of_boxes_are_named(tmp_path, changes, sentence):
    write_boxes(tmp_path, **changes)
    with pytest.raises(UserError, match=rf"wave/a.json: cannot be read as boxes .*{sentence}"):
        BoxMasks(tmp_path).load(ENTRY, 2, 12, 20, FPS)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1]", b"[" * 100_000, b"7"])
def test_a_file_that_holds_no_boxes_is_named(tmp_path, content):
    write_boxes(tmp_path).write_bytes(content)
    with pytest.raises(UserError, match=r"wave/a.json: cannot be read as boxes"):
        BoxMasks(tmp_path).load(ENTRY, 2, 12, 20, FPS)


def test_huge_boxes_and_counts_are_harmless(tmp_path):
    write_boxes(tmp_path, boxes=[[-1e308, -1e308, 1e308, 1e308]], height=1)
    assert BoxMasks(tmp_path).load(ENTRY, 2, 12, 20, FPS)[1].all()
    write_boxes(tmp_path, frame_count=10**15)
    with pytest.raises(UserError, match="masks of shape 1000000000000000x12x20"):
        BoxMasks(tmp_path).load(ENTRY, 2, 12, 20, FPS)


def drawn_by_sdn(boxes_n5: np.ndarray, height: int, width: int) -> np.ndarray:
    """The people of one frame as SDN's training code paints them out: polygons of Pillow, scores from 0.3."""
    image = Image.new("L", (width, height), 255)
    for x1, y1, x2, y2, score in boxes_n5:
        if score >= 0.3:
            ImageDraw.Draw(image).polygon([(x1, y1), (x1, y2), (x2, y2), (x2, y1)], fill=0)
    return np.asarray(image) == 0


def write_detections(path: Path, frames: dict[int, np.ndarray]) -> None:
    """As SDN publishes them: class -> YouTube id -> frame from 1 -> boxes."""
    clip = {number: {"human_boxes": boxes_n5, "frame": str(number)} for number, boxes_n5 in frames.items()}
    np.save(path, {"playing guitar": {VIDEO: clip}, "none at all": {}})


pixel_box = st.tuples(st.integers(-5, 300), st.integers(-5, 250), st.integers(1, 90), st.integers(1, 90))


@given(
    found=st.lists(
        st.lists(st.tuples(pixel_box, st.sampled_from([0.0, 0.29999998, 0.3, 0.31, 1.0])), max_size=4),
        min_size=1,
        max_size=3,
    )
)
def test_detections_of_sdn_become_the_masks_that_sdn_paints_out(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("sdn")
    frames = {
        number: np.array([(x, y, x + w, y + h, score) for (x, y, w, h), score in boxes], np.float32).reshape(-1, 5)
        for number, boxes in enumerate(found, start=1)
    }
    write_detections(folder / "detection_train_merged_rearranged.npy", frames)
    assert convert_detections(folder / "detection_train_merged_rearranged.npy", folder / "boxes") == 1
    source = open_mask_source(folder / "boxes", (KINETICS_ENTRY,))
    mask_NHW = source.load(KINETICS_ENTRY, len(frames), 240, 320, FPS)
    for mask_HW, boxes_n5 in zip(mask_NHW, frames.values(), strict=True):
        assert np.array_equal(mask_HW, drawn_by_sdn(boxes_n5, 240, 320))


def test_edges_between_pixels_differ_from_sdn_by_one_pixel_at_most(tmp_path):
    random = np.random.default_rng(0)
    for number in range(20):
        corner, size = random.uniform(5, 100, 2), random.uniform(4, 90, 2)
        boxes_n5 = np.array([[*corner, *(corner + size), 0.9]], np.float32)
        write_detections(tmp_path / "d.npy", {1: boxes_n5})
        convert_detections(tmp_path / "d.npy", tmp_path / str(number))
        mask_HW = BoxMasks(tmp_path / str(number)).load(KINETICS_ENTRY, 1, 240, 320, FPS)[0]
        expected_HW = drawn_by_sdn(boxes_n5, 240, 320)
        for axis in (0, 1):
            found, expected = np.flatnonzero(mask_HW.any(axis)), np.flatnonzero(expected_HW.any(axis))
            assert abs(found[0] - expected[0]) <= 1
            assert abs(found[-1] - expected[-1]) <= 1


def test_detections_that_tell_their_resolution_are_scaled_from_it(tmp_path):
    boxes_n5 = np.array([[64, 32, 127, 95, 0.8]], np.float32)
    clips = {"wave": {"a": {1: {"human_boxes": boxes_n5}, 3: {"human_boxes": boxes_n5[:0]}}, "empty": {}}}
    np.save(tmp_path / "d.npy", {"video_res_info": (-1, 256), "dets": clips})
    assert convert_detections(tmp_path / "d.npy", tmp_path / "out") == 1
    mask_NHW = BoxMasks(tmp_path / "out").load(ENTRY, 3, 128, 160, FPS)
    expected_HW = np.zeros((128, 160), bool)
    expected_HW[16:48, 32:64] = True
    assert np.array_equal(mask_NHW[0], expected_HW)
    assert not mask_NHW[1:].any()


def test_a_dictionary_of_all_clips_is_refused_with_its_conversion(tmp_path):
    write_detections(tmp_path / "d.npy", {1: np.zeros((0, 5), np.float32)})
    with pytest.raises(UserError, match=r"python -m scenebias.annotators.sdn_detections .*d\.npy FOLDER"):
        open_mask_source(tmp_path / "d.npy", (KINETICS_ENTRY,))


def test_the_conversion_is_a_command(tmp_path):
    write_detections(tmp_path / "d.npy", {1: np.zeros((0, 5), np.float32)})
    command = [sys.executable, "-m", "scenebias.annotators.sdn_detections", "d.npy"]
    done = subprocess.run([*command, "boxes"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "wrote the boxes of 1 clips; give them to make_shards as --masks boxes\n"
    assert BoxMasks(tmp_path / "boxes").load(KINETICS_ENTRY, 1, 240, 320, FPS).shape == (1, 240, 320)
    refused = subprocess.run([*command, "d.npy"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "cannot be written" in refused.stderr


@pytest.mark.parametrize("name", ["../out", "a/b", "/tmp/x", "..", "", "a\0b", 7])
@pytest.mark.parametrize("place", ["class", "clip"])
def test_detections_cannot_be_written_outside_their_folder(tmp_path, name, place):
    frames = {1: {"human_boxes": np.zeros((0, 5), np.float32)}}
    np.save(tmp_path / "d.npy", {name: {"a": frames}} if place == "class" else {"wave": {name: frames}})
    with pytest.raises(UserError, match="is no name of a class or clip"):
        convert_detections(tmp_path / "d.npy", tmp_path / "in" / "boxes")
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    "content",
    [
        {"wave": 1},
        {"wave": {"a": [1]}},
        {"wave": {"a": {1: 2}}},
        {"wave": {"a": {1: {"boxes": 2}}}},
        {"wave": {"a": {1: {"human_boxes": np.zeros((2, 4))}}}},
        {"wave": {"a": {1: {"human_boxes": np.array(["x"])}}}},
        {"wave": {"a": {"one": {"human_boxes": np.zeros((2, 5))}}}},
        {"dets": {}},
        {"dets": {}, "video_res_info": (1,)},
    ],
)
def test_dictionaries_of_another_layout_are_refused(tmp_path, content):
    np.save(tmp_path / "d.npy", content)
    with pytest.raises(UserError, match=r"d.npy: not laid out as the detections of SDN"):
        convert_detections(tmp_path / "d.npy", tmp_path / "out")


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path):
    write_detections(tmp_path / "d.npy", {1: np.zeros((0, 5), np.float32)})
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file cannot be written"):
        convert_detections(tmp_path / "d.npy", tmp_path / "file")

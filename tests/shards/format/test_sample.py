import json
from dataclasses import replace

import numpy as np
import pytest

from shards.errors import UserError
from shards.format.sample import SCENE_COUNT, ClipInfo, Crop, Sample, find_parts, part_names


def test_components_come_back_as_they_were(synthetic_sample):
    sample = synthetic_sample(1, 45)
    components = sample.components()
    assert list(components) == [
        "000.frames.jpg",
        "001.frames.jpg",
        "002.frames.jpg",
        "masks.npy",
        "scene.npy",
        "cls",
        "json",
    ]
    again = Sample.from_components(components)
    assert (again.label, again.info, again.parts) == (sample.label, sample.info, sample.parts)
    assert np.array_equal(again.masks, sample.masks)
    assert np.array_equal(again.scene, sample.scene)
    assert again.components() == components


@pytest.fixture(scope="module")
def video_sample(synthetic_sample):
    """A synthetic sample of 20 frames as three segments."""
    return synthetic_sample(4, 20, width=64, codec="vp9", frames_per_part=8)


def test_a_clip_of_video_segments_comes_back_as_it_was(video_sample):
    components = video_sample.components()
    assert list(components)[:4] == ["000.video.mp4", "001.video.mp4", "002.video.mp4", "masks.npy"]
    again = Sample.from_components(components)
    assert (again.info, again.parts) == (video_sample.info, video_sample.parts)
    assert again.components() == components


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: {"parts": s.parts[:2]}, "hold 16 frames"),
        (lambda s: {"info": replace(s.info, height=64)}, "frames of 64x48"),
        (lambda s: {"parts": (b"no video",)}, "not a video segment"),
        (lambda s: {"info": replace(s.info, codec="h264")}, "codec vp9, not h264"),
        (lambda s: {"info": replace(s.info, codec="filmstrip")}, "not a film strip"),
    ],
)
def test_segments_that_do_not_fit_their_information_are_refused(video_sample, change, complaint):
    with pytest.raises(UserError, match=complaint):
        replace(video_sample, **change(video_sample)).components()


def test_parts_are_ordered_by_their_numbers():
    names = part_names("h264", 1002)
    assert find_parts([*reversed(names), "cls", "json"], "h264") == names
    assert part_names("filmstrip", 1) == ["frames.jpg"]
    assert part_names("vp9", 1) == ["000.video.mp4"]


def test_absent_annotations_leave_no_component(synthetic_sample):
    sample = synthetic_sample(1, 10, masks=False, scene=False)
    assert list(sample.components()) == ["frames.jpg", "cls", "json"]
    again = Sample.from_components(sample.components())
    assert again.masks is None
    assert again.scene is None


SCENE = np.full(SCENE_COUNT, 1 / SCENE_COUNT, dtype=np.float16)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: {"label": -1}, "label"),
        (lambda s: {"info": replace(s.info, fps=0.0)}, "fps"),
        (lambda s: {"info": replace(s.info, fps=float("nan"))}, "fps"),
        (lambda s: {"info": replace(s.info, frame_count=23)}, "hold 24 frames"),
        (lambda s: {"info": replace(s.info, width=72)}, "frames of 71x48"),
        (lambda s: {"parts": (b"no jpeg",)}, "not a film strip"),
        (lambda s: {"parts": ()}, "hold 0 frames"),
        (lambda s: {"masks": s.masks[:-1]}, "masks must be uint8"),
        (lambda s: {"masks": s.masks.astype(bool)}, "masks must be uint8"),
        (lambda s: {"masks": None}, "tells of masks"),
        (lambda s: {"info": replace(s.info, person_share=None)}, "person_share"),
        (lambda s: {"info": replace(s.info, person_share=1.5)}, "person_share"),
        (lambda s: {"scene": SCENE[:-1]}, "scene must be float16"),
        (lambda s: {"scene": SCENE.astype(np.float32)}, "scene must be float16"),
        (lambda s: {"scene": SCENE * np.float16(1.1)}, "sum to 1"),
        (lambda s: {"scene": SCENE * np.float16("nan")}, "sum to 1"),
        (lambda s: {"scene": -SCENE}, "sum to 1"),
    ],
)
def test_parts_that_disagree_are_refused_with_the_clips_name(synthetic_sample, change, complaint):
    sample = synthetic_sample(4)
    sample = replace(sample, **change(sample))
    with pytest.raises(UserError, match=complaint) as raised:
        sample.components()
    assert "jump/clip04" in str(raised.value)


def test_missing_components_are_named(synthetic_sample):
    components = synthetic_sample(0).components()
    for names, complaint in [
        ({"cls"}, "cls"),
        ({"json"}, "json"),
        ({"000.frames.jpg", "001.frames.jpg"}, "frames.jpg"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            Sample.from_components({name: data for name, data in components.items() if name not in names})


def test_information_survives_json_with_any_letters():
    info = ClipInfo(name="jöuer/日本 #1", class_name="jöuer", fps=29.97, frame_count=3, width=10, height=16)
    assert ClipInfo.from_json(info.to_json()) == info
    older = json.loads(info.to_json())
    del older["codec"]
    assert ClipInfo.from_json(json.dumps(older).encode()) == info
    cut = replace(info, crop=Crop(left=2, top=0, width=16, height=16, on_person=True))
    assert ClipInfo.from_json(cut.to_json()) == cut
    with pytest.raises(ValueError, match="lacks"):
        ClipInfo.from_json(json.dumps(json.loads(info.to_json()) | {"crop": {"left": 1}}).encode())
    with pytest.raises(ValueError, match="lacks"):
        ClipInfo.from_json(b'{"name": "x"}')
    with pytest.raises(ValueError, match="lacks"):
        ClipInfo.from_json(b"[]")

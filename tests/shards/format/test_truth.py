"""Segments and boxes of clips: what is stored is read back, what cannot be is refused, what has none is as before."""

import hashlib
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards import open_webdataset
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.index import rebuild_index
from shards.format.manifest import Manifest
from shards.format.sample import Sample
from shards.format.truth import (
    BOX_DTYPE,
    NO_TRUTH,
    Segment,
    Truth,
    box_corners,
    box_problems,
    in_order,
    read_segments,
    segments_bytes,
)
from tests.conftest import CLASSES, make_synthetic_sample
from tools.trials.ready_samples import write_samples

BOXES = np.array([(0, 0, 1, 2, 3, 40.5, 20), (4, 0, 1, 3, 3, 41, 20), (4, 0, 2, 3, 3, 41, 20)], BOX_DTYPE)
SEGMENTS = (Segment(0.0, 0.2, 1), Segment(0.1, 0.8, None))


def sample_with(number: int, truth: Truth) -> Sample:
    sample = make_synthetic_sample(number)
    return replace(sample, truth=truth, info=replace(sample.info, key_frames_only=truth.key_frames_only))


TRUTHS = {
    0: Truth(SEGMENTS),
    1: Truth(None, BOXES, key_frames_only=True),
    4: Truth((), BOXES[:0]),
    6: Truth(SEGMENTS, BOXES),
}


@pytest.fixture(scope="module")
def annotated(tmp_path_factory) -> Path:
    """Eight clips, three a shard, of which four have segments or boxes and none those of the last shard but one."""
    directory = tmp_path_factory.mktemp("annotated") / "dataset"
    samples = (sample_with(number, TRUTHS.get(number, NO_TRUTH)) for number in range(9))
    write_samples(directory, samples, CLASSES, samples_per_shard=1)
    return directory


def assert_same(found: Truth, expected: Truth) -> None:
    assert found.segments == expected.segments
    assert (found.boxes is None) == (expected.boxes is None)
    if expected.boxes is not None:
        assert found.boxes.dtype == BOX_DTYPE
        assert found.boxes.tolist() == expected.boxes.tolist()
    assert found.key_frames_only == expected.key_frames_only


def test_a_data_set_gives_what_was_stored(annotated):
    dataset = ShardDataset.open(annotated)
    for i in range(len(dataset)):
        assert_same(dataset.truth(i), TRUTHS.get(i, NO_TRUTH))
    assert dataset.has_segments
    assert dataset.has_boxes
    assert list(dataset.verify()) == []
    dataset.check_index()


def test_clips_without_any_are_stored_as_before(annotated, tiny_dataset):
    dataset = ShardDataset.open(tiny_dataset)
    assert not dataset.has_segments
    assert not dataset.has_boxes
    assert dataset.truth(0) is NO_TRUTH
    assert not (tiny_dataset / "truths.npy").exists()
    assert "segments" not in (tiny_dataset / "manifest.json").read_text()
    for path in tiny_dataset.glob("*.npz"):
        assert list(np.load(path)) == ["samples", "strips", "scenes"]
    assert "key_frames_only" not in json.loads(make_synthetic_sample(0).components()["json"])


def test_indexes_are_rebuilt_to_the_byte(annotated, tmp_path):
    copy = shutil.copytree(annotated, tmp_path / "copy")
    for path in copy.iterdir():
        if path.suffix not in (".tar", ".json"):
            path.unlink()
    rebuild_index(copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
        path.name: path.read_bytes() for path in annotated.iterdir()
    }


def test_other_programs_read_them_from_the_shard(annotated):
    with tarfile.open(annotated / "shard-000006.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    assert json.loads(members["000000006.segments.json"])[1] == {"start_s": 0.1, "end_s": 0.8, "label": None}
    stored = members["000000006.boxes.npy"]
    assert np.frombuffer(stored[-BOXES.nbytes :], BOX_DTYPE).tolist() == BOXES.tolist()
    assert stored[:8] == b"\x93NUMPY\x01\x00"


def test_a_pipeline_of_webdataset_passes_them_over(annotated):
    names = [clip.name for clip in open_webdataset(annotated)]
    assert names == [clip.name for clip in ShardDataset.open(annotated)]


def test_damage_is_noticed_where_they_are_read(annotated, tmp_path):
    copy = shutil.copytree(annotated, tmp_path / "copy")
    place = ShardDataset.open(copy).places(6)["boxes.npy"]
    shard = copy / "shard-000006.tar"
    data = bytearray(shard.read_bytes())
    data[int(place["offset"]) + int(place["bytes"]) - 1] ^= 1
    shard.write_bytes(data)
    dataset = ShardDataset.open(copy)
    with pytest.raises(UserError, match=r"shard-000006\.tar.*checksum"):
        dataset.truth(6)
    assert any("checksum of boxes.npy is wrong" in problem for problem in dataset.verify())


def test_an_index_of_them_that_is_gone_is_an_error_and_not_an_absence(annotated, tmp_path):
    copy = shutil.copytree(annotated, tmp_path / "copy")
    (copy / "truths.npy").unlink()
    with pytest.raises(UserError, match=r"truths\.npy cannot be read .*--rebuild-index"):
        ShardDataset.open(copy)


def test_a_label_that_is_no_class_is_found(tmp_path):
    directory = tmp_path / "d"
    write_samples(directory, [sample_with(0, Truth((Segment(0, 0.5, len(CLASSES)),)))], CLASSES)
    (problem,) = ShardDataset.open(directory).verify()
    assert "has label 3, but there are 3 classes" in problem


def test_counts_that_are_nought_do_not_change_a_manifest(tiny_dataset):
    """They are no field of its digest, which tells data sets apart, either."""
    manifest = Manifest.load(tiny_dataset)
    counted = replace(manifest, shards=tuple(replace(shard, boxes=1) for shard in manifest.shards))
    assert counted.digest != manifest.digest
    value = json.loads((tiny_dataset / "manifest.json").read_text())
    for name in ("provenance", "missing", "broken"):
        del value[name]
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == manifest.digest


@pytest.mark.parametrize(
    ("truth", "complaint"),
    [
        (Truth((Segment(0.5, 0.5, 0),)), "segment 0 must be within 0 to 0.96 s and not empty, got 0.5 to 0.5"),
        (Truth((Segment(-0.1, 0.5, 0),)), "segment 0 must"),
        (Truth((Segment(0.1, 0.97, 0),)), "segment 0 must"),
        (Truth((Segment(0.1, float("nan"), 0),)), "segment 0 must"),
        (Truth((Segment(0.1, 0.2, -1),)), "label must be at least 0"),
        (Truth((Segment(0.3, 0.5, 0), Segment(0.1, 0.2, 0))), "order of their starts"),
        (Truth(boxes=BOXES[::-1]), "order of frame, tube and label"),
        (Truth(boxes=BOXES[[0, 0]]), "none twice"),
        (Truth(boxes=np.zeros((3, 6))), "boxes must be rows of"),
        (Truth(boxes=np.array([(24, 0, 0, 0, 0, 1, 1)], BOX_DTYPE)), "frames from 0 to 23"),
        (Truth(boxes=np.array([(0, -1, 0, 0, 0, 1, 1)], BOX_DTYPE)), "tubes and labels from 0"),
        (Truth(boxes=np.array([(0, 0, 0, 0, 0, 72, 1)], BOX_DTYPE)), "box 0 must be within the frame of 71x48"),
        (Truth(boxes=np.array([(0, 0, 0, 5, 0, 5, 1)], BOX_DTYPE)), "box 0 must be"),
        (Truth(boxes=np.array([(0, 0, 0, 5, float("nan"), 6, 1)], BOX_DTYPE)), "box 0 must be"),
    ],
)
def test_what_cannot_be_is_refused_with_the_clips_name(truth, complaint):
    with pytest.raises(UserError, match=complaint) as raised:
        sample_with(4, truth).components()
    assert "jump/clip04" in str(raised.value)


times = st.floats(0, 1e5)


@given(st.lists(st.builds(Segment, times, times, st.one_of(st.none(), st.integers(0, 400)))))
def test_segments_come_back_exactly(segments):
    assert read_segments(segments_bytes(segments)) == tuple(segments)


@pytest.mark.parametrize("data", [b"{", b"[1]", b'[{"start_s": 0}]', b'[{"start_s": [], "end_s": 1, "label": 0}]'])
def test_other_json_is_no_segments(data):
    with pytest.raises(ValueError, match=r"^(the segments lack|Expecting)"):
        read_segments(data)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 3)), unique=True), st.data())
def test_rows_in_order_pass_and_those_of_frames_are_found(keys, data):
    rows = in_order(np.array([(*key, 1, 2, 3, 4) for key in keys], BOX_DTYPE))
    assert list(box_problems(rows, 10, 8, 8)) == []
    assert [row[:3] for row in rows.tolist()] == sorted(keys)
    start, end = sorted(data.draw(st.tuples(st.integers(0, 10), st.integers(0, 10))))
    found = Truth(boxes=rows).boxes_of(start, end)
    assert [row[:3] for row in found.tolist()] == sorted(key for key in keys if start <= key[0] < end)
    assert box_corners(found).tolist() == [[1, 2, 3, 4]] * len(found)

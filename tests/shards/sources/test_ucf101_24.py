"""UCF101-24: its pickle is read without being run, sums do not overflow, and real videos get their boxes."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.truth import Segment
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import pack
from shards.sources import Ucf10124Source
from tests.shards.sources.files import names, touch


def tube(label: int, start: int, boxes: list, dtype: type = np.uint8) -> dict:
    return {"label": label, "sf": start, "ef": start + len(boxes), "boxes": np.array(boxes, dtype)}


def video(label: int, frames: int, *tubes: dict) -> dict:
    return {"annotations": list(tubes), "numf": np.uint8(frames), "label": label}


def write(folder: Path, videos: dict, test: str = "Run/v_Run_g01_c01\n", protocol: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    content = {np.str_(name): content for name, content in videos.items()}
    (folder / "pyannot.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    (folder / "testlist01.txt").write_text(test)
    return folder


VIDEOS = {
    "Run/v_Run_g01_c01": video(1, 9, tube(1, 2, [[250, 200, 71, 41], [1, 1, 255, 240]]), tube(1, 0, [[2, 3, 4, 5]])),
    "Jump/v_Jump_g02_c01": video(0, 9, tube(0, 0, [[300, 1, 21, 9]], np.uint16)),
}


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_boxes_count_from_0_and_do_not_overflow(tmp_path, protocol):
    labels = write(tmp_path / "labels", VIDEOS, protocol=protocol)
    touch(tmp_path / "videos/v_Run_g01_c01.mp4", tmp_path / "videos/v_Jump_g02_c01.avi")
    test = Ucf10124Source(root=tmp_path / "videos", labels=labels, subset="test").listing()
    train = Ucf10124Source(root=tmp_path / "videos", labels=labels).listing()
    assert test.classes == ("Jump", "Run")
    assert (names(test.clips), names(train.clips)) == (["Run/v_Run_g01_c01"], ["Jump/v_Jump_g02_c01"])
    assert test.clips[0].truth.boxes.rows.tolist() == [
        (2, 0, 1, 249, 199, 320, 240),
        (3, 0, 1, 0, 0, 255, 240),
        (0, 1, 1, 1, 2, 5, 7),
    ]
    assert train.clips[0].truth.boxes.rows.tolist() == [(0, 0, 0, 299, 0, 320, 9)]
    assert test.clips[0].truth.promise.frame_count == 9


def test_videos_of_other_classes_of_ucf101_are_no_strangers(tmp_path):
    labels = write(tmp_path / "labels", VIDEOS, test="Archery/v_Archery_g01_c01.avi\nRun/v_Run_g01_c01.avi\n")
    touch(*(tmp_path / "videos" / name for name in ("v_Run_g01_c01.avi", "v_Archery_g01_c01.avi", "v_Run_g09_c01.avi")))
    listing = Ucf10124Source(root=tmp_path / "videos", labels=labels, subset="test").listing()
    assert names(listing.clips) == ["Run/v_Run_g01_c01"]
    assert listing.unlisted == ("v_Run_g09_c01.avi",)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"numf": 1}, "video A/x: has no numf, label or annotations"),
        (video(0, 9), "video A/x: has no numf, label or annotations"),
        (video(0, 9, tube(1, 0, [[1, 1, 1, 1]])), "video A/x, tube 0: has no sf, ef or boxes, or another label"),
        (video(0, 9, tube(0, 9, [[1, 1, 1, 1]])), r"boxes of shape \(1, 4\) for frames 9 to 10 of 9"),
        (video(0, 9, tube(0, 0, [[1, 1, 1]])), r"boxes of shape \(1, 3\) for frames 0 to 1 of 9"),
        (video(0, 9, tube(0, 0, [[1, 1, 0, 1]])), "a box without any width or height"),
        (video(0, 9, tube(0, 0, [["1", "1", "1", "1"]], np.str_)), "its boxes cannot be read"),
        (video(1, 9, tube(1, 0, [[1, 1, 1, 1]])), r"its labels are \[1\], with gaps"),
    ],
)
def test_annotations_of_another_form_are_refused_with_their_place(tmp_path, wrong, sentence):
    labels = write(tmp_path / "labels", {"A/x": wrong}, test="A/x\n")
    touch(tmp_path / "videos/x.avi")
    with pytest.raises(UserError, match=sentence):
        Ucf10124Source(root=tmp_path / "videos", labels=labels).listing()


def test_all_slips_are_told_together_and_labels_must_agree(tmp_path):
    touch(tmp_path / "videos/x.avi")
    labels = write(tmp_path / "labels", {"A/x": {}, "A/y": video(0, 9), "A/z": {"numf": 3}}, test="A/x\n")
    with pytest.raises(UserError) as raised:
        Ucf10124Source(root=tmp_path / "videos", labels=labels).listing()
    assert len(raised.value.args) == 3
    good = video(0, 9, tube(0, 0, [[1, 1, 1, 1]]))
    labels = write(tmp_path / "labels", {"A/x": good, "B/y": good}, test="A/x\n")
    with pytest.raises(UserError, match="video B/y: label 0 is that of 'A' too"):
        Ucf10124Source(root=tmp_path / "videos", labels=labels).listing()
    labels = write(tmp_path / "labels", {"A/x": good}, test="C/other\n")
    with pytest.raises(UserError, match=r"testlist01\.txt names none of the videos"):
        Ucf10124Source(root=tmp_path / "videos", labels=labels).listing()


class Hostile:
    def __reduce__(self) -> tuple:
        return os.system, ("touch owned",)


@pytest.mark.parametrize("content", [Hostile(), {"A/x": Hostile()}, {"A/x": video(0, 9, {"boxes": Hostile()})}, b""])
def test_nothing_of_the_pickle_is_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    labels = write(tmp_path / "labels", {})
    (labels / "pyannot.pkl").write_bytes(pickle.dumps(content) if content else content)
    with pytest.raises(UserError, match=r"pyannot\.pkl is no pickle of text, numbers and arrays"):
        Ucf10124Source(root=tmp_path, labels=labels).listing()
    assert not (tmp_path / "owned").exists()


def test_the_corrected_annotations(real_data, tmp_path):
    """3,194 videos, 4,458 tubes, and no box beyond the frame, of 573,862: so none has overflown."""
    labels = real_data / "labels" / "ucf101_24"
    touch(tmp_path / "x")
    subsets = [Ucf10124Source(root=tmp_path, labels=labels, subset=subset).listing() for subset in ("train", "test")]
    assert [len(listing.missing) for listing in subsets] == [2284, 910]
    listed = [name for name in (labels / "testlist01.txt").read_text().split() if name]
    assert sorted(names(subsets[1].missing)) == sorted(listed)
    assert len(subsets[0].classes) == 24
    assert list(subsets[0].classes) == sorted(subsets[0].classes)
    touch(*(tmp_path / f"{entry.name}.avi" for listing in subsets for entry in listing.missing))
    count = tubes = 0
    for subset in ("train", "test"):
        for entry in Ucf10124Source(root=tmp_path, labels=labels, subset=subset).listing().clips:
            rows = entry.truth.boxes.rows
            count, tubes = count + len(rows), tubes + len(np.unique(rows["tube"]))
            assert rows["x1"].min() >= 0
            assert rows["y1"].min() >= 0
            assert rows["x2"].max() <= 320
            assert rows["y2"].max() <= 240
            assert (rows["x1"] < rows["x2"]).all()
            assert (rows["y1"] < rows["y2"]).all()
            assert rows["frame"].max() < entry.truth.promise.frame_count
    assert (count, tubes) == (573_862, 4458)


def test_real_videos_are_packed_with_boxes_and_the_segments_that_these_fill(real_data, tmp_path):
    """Their frame counts are those of the labels, or `strict` would refuse what does not fit."""
    found = {}
    for subset in ("train", "test"):
        source = Ucf10124Source(
            root=real_data / "real_clips" / "ucf101", labels=real_data / "labels" / "ucf101_24", subset=subset
        )
        report = pack(source.listing(), tmp_path / subset, PackConfig(height=240, workers=1))
        assert not report.truth_problems
        dataset = ShardDataset.open(tmp_path / subset)
        for i in range(len(dataset)):
            found[dataset.info(i).name] = (dataset.info(i), dataset.truth(i))
    assert sorted(found) == [
        *(f"Diving/v_Diving_g01_c{k:02d}" for k in range(1, 6)),
        "SoccerJuggling/v_SoccerJuggling_g23_c01",
        "SoccerJuggling/v_SoccerJuggling_g24_c01",
    ]
    info, truth = found["Diving/v_Diving_g01_c01"]
    assert info.frame_count == 259
    assert truth.segments == (Segment(122 / info.fps, 208 / info.fps, 5),)
    assert truth.boxes["frame"].tolist() == list(range(122, 208))
    for info, truth in found.values():
        assert len(truth.segments) == 1
        assert (info.width, info.height) == (320, 240)
        filled = truth.boxes["frame"] / info.fps
        assert truth.segments[0].start_s == pytest.approx(filled.min())
        assert truth.segments[0].end_s == pytest.approx(filled.max() + 1 / info.fps)

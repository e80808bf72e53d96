"""THUMOS'14 and ActivityNet: their own label files, in all forms, lead to the same segments; slips are told."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.sources import ActivityNetSource, Listing, Thumos14Source
from shards.sources.truths.listed import ListedSegment
from shards.sources.truths.thumos14 import CLASSES
from tests.shards.sources.files import names, touch

NO_ACTION = "videos without an action, left out"
NOT_LONG = "segments that do not end after they start, left out"


def thumos_texts(folder: Path, subset: str) -> dict[str, list[tuple[float, float, str]]]:
    """The segments of every video, as the official files tell them."""
    found = defaultdict(list)
    for path in folder.glob(f"annotations_{subset}/*_{subset}.txt"):
        for line in path.read_text().splitlines():
            video, start, end = line.split()
            found[video].append((float(start), float(end), path.name.partition("_")[0]))
    return found


def named(listing: Listing, segments: tuple[ListedSegment, ...]) -> list[tuple[float, float, str]]:
    return sorted(
        (segment.start_s, segment.end_s, "Ambiguous" if segment.label is None else listing.classes[segment.label])
        for segment in segments
    )


def by_name(listing: Listing) -> dict[str, list[tuple[float, float, str]]]:
    return {entry.name: named(listing, entry.truth.segments) for entry in listing.clips}


@pytest.mark.parametrize(("subset", "videos"), [("val", 200), ("test", 212)])
def test_the_official_texts_of_thumos14(real_data, tmp_path, subset, videos):
    labels = real_data / "labels" / "thumos14" / "original"
    texts = thumos_texts(labels, subset)
    touch(*(tmp_path / f"{name}.mp4" for name in texts))
    listing = Thumos14Source(root=tmp_path, labels=labels, subset=subset).listing()
    assert (listing.dataset, listing.subset, listing.classes) == ("thumos14", subset, CLASSES)
    assert len(listing.clips) == videos
    for entry in listing.clips:
        expected = sorted(texts[entry.path.stem])
        assert named(listing, entry.truth.segments) == expected
        counts = Counter(name for *_, name in expected if name != "Ambiguous")
        assert counts[entry.class_name] == max(counts.values())
        assert entry.name == f"{entry.class_name}/{entry.path.stem}"
    only_ambiguous = {"test": ("video_test_0001292",)}.get(subset)
    assert listing.remarks.get(NO_ACTION) == only_ambiguous


@pytest.mark.parametrize("subset", ["val", "test"])
def test_the_json_forms_of_thumos14_say_the_same(real_data, tmp_path, subset):
    labels = real_data / "labels" / "thumos14"
    touch(*(tmp_path / f"{name}.mp4" for name in thumos_texts(labels / "original", subset)))
    wrapped = tmp_path / "wrapped.json"
    wrapped.write_text(
        json.dumps({"version": "x", "database": json.loads((labels / "thumos14_flat.json").read_text())})
    )

    def listing(path: Path) -> Listing:
        return Thumos14Source(root=tmp_path, labels=path, subset=subset).listing()

    expected = by_name(listing(labels / "original"))
    lists = listing(labels / f"thumos14_{subset}.json")
    assert by_name(lists) == expected
    certain = {name: [item for item in items if item[2] != "Ambiguous"] for name, items in expected.items()}
    for path in (labels / "thumos14_flat.json", wrapped):  # which leave the ambiguous ones out
        assert by_name(listing(path)) == certain
    assert all(entry.truth.promise.duration_s > 5 for entry in lists.clips)


def write_thumos(folder: Path, **lines: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*CLASSES, "Ambiguous"):
        (folder / f"{name}_val.txt").write_text(lines.get(name, "video_validation_0000001 1.0 2.0\n"))
    return folder


def test_lines_of_another_form_and_missing_files_are_told_together(tmp_path):
    labels = write_thumos(tmp_path / "labels", Diving="video_validation_0000001 1.0\n", Shotput="v x 3\nv 1 nan\n")
    (labels / "LongJump_val.txt").unlink()
    with pytest.raises(UserError) as raised:
        Thumos14Source(root=tmp_path, labels=labels).listing()
    diving, long_jump, words, nan = raised.value.args
    assert diving.startswith(f"{labels}/Diving_val.txt, line 1: expected '<video> <start> <end>', found")
    assert "LongJump_val.txt cannot be read" in long_jump
    assert words == "Shotput_val.txt, line 1: expected two times in seconds, found ('x', '3'); restore the file"
    assert nan.startswith("Shotput_val.txt, line 2: 1 to nan is no time in a video")


def test_videos_that_are_not_there_are_missing_and_reversed_segments_are_told(tmp_path):
    lines = "video_validation_0000002 5.0 4.0\nvideo_validation_0000003 1 2\n"
    labels = write_thumos(tmp_path / "labels", Diving=lines)
    touch(tmp_path / "videos" / "deeper" / "video_validation_0000001.webm", tmp_path / "videos" / "other.mp4")
    listing = Thumos14Source(root=tmp_path / "videos", labels=labels).listing()
    assert names(listing.clips) == ["BaseballPitch/video_validation_0000001"]
    assert names(listing.missing) == ["Diving/video_validation_0000003"]
    assert listing.unlisted == ("other.mp4",)
    assert listing.remarks == {NO_ACTION: ("video_validation_0000002",), NOT_LONG: ("Diving_val.txt, line 1",)}


def test_a_class_that_is_none_of_thumos14s_is_refused_with_its_place(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"video_test_0000001": {"annotations": [{"label": "diving", "segment": [0, 1]}]}}))
    with pytest.raises(UserError, match=r"labels\.json, video video_test_0000001, segment 0: class 'diving' is not"):
        Thumos14Source(root=tmp_path, labels=path, subset="test").listing()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "expected an object with one entry a video"),
        ({"a": [1]}, "video a: has neither annotations nor segments with as many labels"),
        ({"a": {"segments": [[0, 1]], "labels": []}}, "video a: has neither"),
        ({"a": {"annotations": [{"label": "x"}]}}, "video a, segment 0: has no segment or label"),
        (
            {"a": {"annotations": [{"label": 3, "segment": [0, 1]}]}},
            "needs a label without '/' or line breaks, found 3",
        ),
        ({"a": {"annotations": [{"label": "x", "segment": [0]}]}}, "expected two times in seconds"),
        ({"a": {"annotations": [{"label": "x", "segment": 5}]}}, "expected two times in seconds"),
        ({"a": {"annotations": [{"label": "x", "segment": [-1, 5]}]}}, "-1 to 5 is no time in a video"),
    ],
)
def test_json_of_another_form_is_refused(tmp_path, content, sentence):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=sentence):
        ActivityNetSource(root=tmp_path, labels=path).listing()


def test_activitynets_videos_in_one_projects_form(real_data, tmp_path):
    labels = real_data / "labels" / "activitynet" / "anet_anno_action.json"
    expected = {}
    for name, video in json.loads(labels.read_text()).items():
        spans = [(*item["segment"], item["label"]) for item in video["annotations"]]
        expected[name] = sorted(span for span in spans if span[0] < span[1])
    wanted = {name for name, spans in expected.items() if spans}
    touch(*(tmp_path / f"{name}.mkv" for name in sorted(wanted)[:50]))
    listing = ActivityNetSource(root=tmp_path, labels=labels, subset="val").listing()
    assert len(listing.classes) == 200
    assert {entry.path.stem for entry in (*listing.clips, *listing.missing)} == wanted
    assert set(listing.remarks[NO_ACTION]) == expected.keys() - wanted
    assert len(listing.remarks[NOT_LONG]) == 12
    assert {entry.path.stem: named(listing, entry.truth.segments) for entry in listing.clips} == {
        name: expected[name] for name in sorted(wanted)[:50]
    }


def test_the_official_predictions_of_activitynet_are_no_labels(real_data, tmp_path):
    labels = real_data / "labels" / "activitynet" / "sample_detection_prediction.json"
    with pytest.raises(UserError, match="has neither annotations nor segments"):
        ActivityNetSource(root=tmp_path, labels=labels).listing()


def test_the_official_form_of_activitynet(tmp_path):
    """With a database, subsets, ids without their prefix, and videos whose labels are not public."""
    database = {
        "aaaaaaaaaaa": {"subset": "training", "duration": 9, "annotations": [{"label": "Polo", "segment": [1, 2]}]},
        "v_aaaaaaaaa": {"subset": "validation", "duration": 9, "annotations": [{"label": "Golf", "segment": [1, 2]}]},
        "bbbbbbbbbbb": {"subset": "testing", "duration": 9, "annotations": []},
    }
    labels = tmp_path / "activity_net.json"
    labels.write_text(json.dumps({"database": database, "taxonomy": [], "version": "VERSION 1.3"}))
    touch(tmp_path / "v_aaaaaaaaaaa.mp4", tmp_path / "v_v_aaaaaaaaa.mp4", tmp_path / "v_bbbbbbbbbbb.mp4")
    train = ActivityNetSource(root=tmp_path, labels=labels).listing()
    val = ActivityNetSource(root=tmp_path, labels=labels, subset="val").listing()
    assert names(train.clips) == ["Polo/v_aaaaaaaaaaa"]
    assert names(val.clips) == ["Golf/v_v_aaaaaaaaa"]
    assert train.classes == val.classes == ("Golf", "Polo")
    classes = tmp_path / "classes.txt"
    classes.write_text("Polo\n")
    with pytest.raises(UserError, match=r"v_aaaaaaaaa, segment 0: class 'Golf' is not among the 1 classes"):
        ActivityNetSource(root=tmp_path, labels=labels, classes=classes).listing()

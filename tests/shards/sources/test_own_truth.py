"""Segments and boxes of one's own videos: what CSV files say is what packing takes; all slips are told together."""

import csv
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from shards.errors import UserError
from shards.format.truth import BOX_DTYPE
from shards.sources import CsvSource, FolderSource, Listing
from shards.sources.truths.own import NO_BOX, NO_SEGMENT, STRANGERS
from shards.sources.truths.untrimmed import NO_ACTION
from tests.shards.sources.files import names, touch

SEGMENTS = "video,start_s,end_s,label\n"
BOXES = "video,frame,tube,label,x1,y1,x2,y2\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def problems(source: FolderSource | CsvSource) -> list[str]:
    with pytest.raises(UserError) as raised:
        source.listing()
    return list(raised.value.args)


def spans(listing: Listing) -> dict[str, list[tuple]]:
    classes = (*listing.classes, None)
    return {
        entry.name: sorted(
            (s.start_s, s.end_s, classes[-1 if s.label is None else s.label]) for s in entry.truth.segments
        )
        for entry in listing.clips
    }


def test_a_video_is_of_the_class_of_most_of_its_segments(tmp_path):
    touch(*(tmp_path / "videos" / name for name in ("a.mp4", "deep/b.avi", "c.mp4", "d.mp4")))
    rows = "a.mp4,1,2.5,run\na,3,4,jump\na.mp4,5,6,jump\ndeep/b.avi,0,1,run\nb,1,2,\nc,1,2,\n"
    source = FolderSource(root=tmp_path / "videos", segments=write(tmp_path / "s.csv", SEGMENTS + rows))
    listing = source.listing()
    assert listing.classes == ("jump", "run")
    assert spans(listing) == {
        "jump/a": [(1, 2.5, "run"), (3, 4, "jump"), (5, 6, "jump")],
        "run/b": [(0, 1, "run"), (1, 2, None)],
    }
    assert listing.clips[0].truth.boxes is None
    assert listing.unlisted == ("d.mp4",)
    assert listing.remarks == {NO_ACTION: ("c.mp4",)}
    assert {segment.start_s: segment.where for segment in listing.clips[0].truth.segments} == {
        1: "s.csv, line 2",
        3: "s.csv, line 3",
        5: "s.csv, line 4",
    }


def test_boxes_become_rows_with_their_lines(tmp_path):
    touch(tmp_path / "videos/a.mp4", tmp_path / "videos/b.mp4")
    rows = "a,7,p,run,1,2,3.5,4\nb,0,q,jump,0,0,9,9\na,8,r,run,5,6,7,8\na,8,p,run,1,2,3,4\na,8,p,jump,1,2,3,4\n"
    listing = FolderSource(root=tmp_path / "videos", boxes=write(tmp_path / "b.csv", BOXES + rows)).listing()
    assert names(listing.clips) == ["run/a", "jump/b"]
    boxes = listing.clips[0].truth.boxes
    expected = [(7, 0, 1, 1, 2, 3.5, 4), (8, 1, 1, 5, 6, 7, 8), (8, 0, 1, 1, 2, 3, 4), (8, 0, 0, 1, 2, 3, 4)]
    np.testing.assert_array_equal(boxes.rows, np.array(expected, BOX_DTYPE))
    assert (boxes.times_s, boxes.in_shares) == (None, False)
    assert [boxes.where(row) for row in range(4)] == [f"b.csv, line {line}" for line in (2, 4, 5, 6)]
    assert listing.clips[0].truth.segments is None


def test_the_form_of_ava(tmp_path):
    touch(tmp_path / "videos/-5KQ66BBWC4.mkv")
    rows = "-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1\n-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,9,1\n"
    boxes = write(tmp_path / "ava.csv", rows + "-5KQ66BBWC4,0903.5,0.4,0.1,1.000,0.9,9,0\n")
    by_number = FolderSource(root=tmp_path / "videos", boxes=boxes).listing()
    assert by_number.classes == ("80", "9")
    classes = write(tmp_path / "classes.txt", "".join(f"action {k}\n" for k in range(1, 81)))
    listing = FolderSource(root=tmp_path / "videos", boxes=boxes, classes=classes).listing()
    assert names(listing.clips) == ["action 9/-5KQ66BBWC4"]
    found = listing.clips[0].truth.boxes
    assert found.in_shares
    assert found.times_s.tolist() == [902, 902, 903.5]
    assert [listing.classes[label] for label in found.rows["label"]] == ["action 80", "action 9", "action 9"]
    assert found.rows["tube"].tolist() == [0, 0, 1]
    assert found.rows["x2"].tolist() == pytest.approx([0.283, 0.283, 1])
    few = write(tmp_path / "few.txt", "only\n")
    assert problems(FolderSource(root=tmp_path / "videos", boxes=boxes, classes=few)) == [
        f"{boxes}, line {line}: label {label} is none of the 1 --classes, from 1 on"
        for line, label in ((1, 80), (2, 9), (3, 9))
    ]


def test_without_a_column_that_tells_actors_only_boxes_of_one_place_and_moment_are_of_one(tmp_path):
    touch(tmp_path / "videos/a.mp4")
    rows = "a,0.5,run,1,2,3,4\na,0.5,jump,1,2,3,4\na,0.5,run,5,6,7,8\na,1.0,run,1,2,3,4\n"
    path = write(tmp_path / "b.csv", "video,time_s,label,x1,y1,x2,y2\n" + rows)
    boxes = FolderSource(root=tmp_path / "videos", boxes=path).listing().clips[0].truth.boxes
    tubes = boxes.rows["tube"].tolist()
    assert tubes[0] == tubes[1]
    assert len({*tubes}) == 3


def test_where_both_are_given_what_is_not_named_was_looked_for_and_is_told(tmp_path):
    touch(*(tmp_path / "videos" / f"{name}.mp4" for name in "abc"))
    segments = write(tmp_path / "s.csv", SEGMENTS + "a,0,1,run\nb,0,1,run\n")
    boxes = write(tmp_path / "b.csv", BOXES + "b,0,0,run,0,0,9,9\nc,0,0,jump,0,0,9,9\n")
    listing = FolderSource(root=tmp_path / "videos", segments=segments, boxes=boxes).listing()
    assert names(listing.clips) == ["run/a", "run/b", "jump/c"]
    assert listing.clips[2].truth.segments == ()
    assert len(listing.clips[0].truth.boxes.rows) == 0
    assert listing.remarks == {NO_SEGMENT: ("c.mp4",), NO_BOX: ("a.mp4",)}


def test_videos_that_are_not_there_are_missing_with_their_line(tmp_path):
    touch(tmp_path / "videos/a.mp4")
    segments = write(tmp_path / "s.csv", SEGMENTS + "a,0,1,run\nx/gone.mp4,0,1,jump\nx/gone,1,2,jump\n")
    listing = FolderSource(root=tmp_path / "videos", segments=segments).listing()
    (missing,) = listing.missing
    assert (missing.name, missing.class_name) == ("jump/gone", "jump")
    assert missing.reason == "s.csv, line 3: the video does not exist"
    assert listing.remarks == {STRANGERS: ("x/gone (s.csv, line 3)",)}


def test_a_name_of_two_videos_is_refused_and_its_whole_path_is_taken(tmp_path):
    touch(tmp_path / "videos/p1/a.mp4", tmp_path / "videos/p2/a.mp4")
    segments = write(tmp_path / "s.csv", SEGMENTS + "a,0,1,run\n")
    assert problems(FolderSource(root=tmp_path / "videos", segments=segments)) == [
        "s.csv, line 2: 'a' may be 'p1/a.mp4' or 'p2/a.mp4'; write the whole path from the root on"
    ]
    write(segments, SEGMENTS + "p2/a,0,1,run\n")
    listing = FolderSource(root=tmp_path / "videos", segments=segments).listing()
    assert [entry.path.parent.name for entry in listing.clips] == ["p2"]


def test_all_bad_rows_of_segments_are_told(tmp_path):
    touch(tmp_path / "videos/a.mp4")
    rows = "a,2,2,run\na,0,1,run\na,x,1,run\na,-1,1,run\na,0,inf,run\n,0,1,run\na,0,1,x/y\na,0,1\na,nan,1,run\n"
    segments = write(tmp_path / "s.csv", SEGMENTS + rows)
    found = problems(FolderSource(root=tmp_path / "videos", segments=segments))
    assert [problem.split(":")[0] for problem in found] == [f"{segments}, line {k}" for k in (2, 4, 5, 6, 7, 8, 9, 10)]
    assert "start_s and end_s must be seconds from 0, the end after the start, found 2 and 2" in found[0]


def test_all_bad_rows_of_boxes_are_told(tmp_path):
    touch(tmp_path / "videos/a.mp4")
    bad = (
        "a,1.5,0,run,0,0,1,1\na,-1,0,run,0,0,1,1\na,1,0,run,0,0,0,1\na,1,0,run,0,0,1,no\na,1,0,,0,0,1,1\n"
        "a,1,,run,0,0,1,1\na,1,0,run,0,0,1\na,99999999999,0,run,0,0,1,1\na,1,0,run,0,0,1,nan\n"
    )
    boxes = write(tmp_path / "b.csv", BOXES + "a,0,0,run,0,0,1,1\n" + bad)
    found = problems(FolderSource(root=tmp_path / "videos", boxes=boxes))
    assert [problem.split(":")[0] for problem in found] == [f"{boxes}, line {k}" for k in range(3, 12)]
    write(boxes, BOXES + "a,0,0,run,0,0,1,1\na,0,0,run,0,0,2,2\n")
    (twice,) = problems(FolderSource(root=tmp_path / "videos", boxes=boxes))
    assert twice.startswith(f"{boxes}, line 3: a box of this video, moment, actor and label stands already in line 2")
    write(boxes, "a,0,0.1,0.1,0.2,1.2,run,1\n")
    (share,) = problems(FolderSource(root=tmp_path / "videos", boxes=boxes))
    assert "without a header places are shares of the frame, 0 to 1" in share


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("video,start,end,label", "its columns must be video,start_s,end_s,label, found video,start,end,label"),
        ("video,start_s,end_s,label,Label", "column 'Label' must be written 'label'"),
        ("", "its columns must be"),
    ],
)
def test_other_columns_of_segments_are_refused(tmp_path, header, sentence):
    touch(tmp_path / "videos/a.mp4")
    segments = write(tmp_path / "s.csv", f"{header}\na,0,1,run\n")
    assert sentence in problems(FolderSource(root=tmp_path / "videos", segments=segments))[0]


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("video,label,x1,y1,x2,y2", "needs one column of frame and time_s"),
        ("video,frame,time_s,label,x1,y1,x2,y2", "needs one column of frame and time_s"),
        ("video,frame,tube,person_id,label,x1,y1,x2,y2", "at most one of tube and person_id"),
        ("video,frame,label,left,top,x2,y2", "its columns must be video,x1,y1,x2,y2,label"),
    ],
)
def test_other_columns_of_boxes_are_refused(tmp_path, header, sentence):
    touch(tmp_path / "videos/a.mp4")
    assert sentence in problems(FolderSource(root=tmp_path / "videos", boxes=write(tmp_path / "b.csv", header)))[0]


def test_labels_of_no_class_and_labels_that_look_alike_are_refused(tmp_path):
    touch(tmp_path / "videos/a.mp4")
    segments = write(tmp_path / "s.csv", SEGMENTS + "a,0,1,run\na,1,2,Run\na,2,3,jump\n")
    (alike,) = problems(FolderSource(root=tmp_path / "videos", segments=segments))
    assert "s.csv, line 3" in alike
    assert "s.csv, line 2" in alike
    classes = write(tmp_path / "classes.txt", "run\n")
    found = problems(FolderSource(root=tmp_path / "videos", segments=segments, classes=classes))
    assert sorted(problem.split(": ")[0][-6:] for problem in found) == ["line 3", "line 4"]


def test_csv_needs_no_label_where_what_happens_tells_it(tmp_path):
    touch(*(tmp_path / "videos" / f"{name}.mp4" for name in "abcd"))
    rows = "path,label,split,start,end\nvideos/a.mp4,,train,,\nvideos/b.mp4,walk,train,10,50\n"
    file = write(tmp_path / "list.csv", f"{rows}videos/c.mp4,,train,,\nvideos/d.mp4,,test,,\n")
    segments = write(tmp_path / "s.csv", SEGMENTS + "a,0,1,run\nd,0,1,jump\ne,0,1,jump\n")
    listing = CsvSource(file=file, segments=segments, subset="train").listing()
    assert listing.classes == ("jump", "run", "walk")
    assert names(listing.clips) == ["run/a", "walk/b_10_50"]
    assert spans(listing) == {"run/a": [(0, 1, "run")], "walk/b_10_50": []}
    told = {kind: listing.remarks[kind] for kind in (NO_ACTION, NO_SEGMENT, STRANGERS)}
    assert told == {
        NO_ACTION: ("videos/c.mp4",),
        NO_SEGMENT: ("videos/b.mp4",),
        STRANGERS: ("e (s.csv, line 4)",),
    }
    without_label = write(tmp_path / "list.csv", "path\nvideos/a.mp4\nvideos/d.mp4\n")
    assert names(CsvSource(file=without_label, segments=segments).listing().clips) == ["run/a", "jump/d"]


def test_a_large_file_of_boxes_takes_little_memory(tmp_path):
    """As many numbers as AVA's 837,000 training rows have would fit into 100 MB."""
    touch(*(tmp_path / "videos" / f"v{k}.mp4" for k in range(20)))
    with (tmp_path / "b.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        for row in range(40_000):
            writer.writerow([f"v{row % 20}", row // 20, 0.1, 0.1, 0.5, 0.5, row % 7, row % 3])
    source = FolderSource(root=tmp_path / "videos", boxes=tmp_path / "b.csv")
    source.listing()
    tracemalloc.start()
    try:
        listing = source.listing()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(entry.truth.boxes.rows) for entry in listing.clips) == 40_000
    assert kept < 40_000 * 120

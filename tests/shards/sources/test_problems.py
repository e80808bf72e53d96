"""Mistakes of a kind are told together, and CVDF's replacements of corrupt videos are taken."""

import json

import pytest

from shards.errors import PROBLEMS_SHOWN, UserError, each, refuse
from shards.sources import (
    ClipEntry,
    CsvSource,
    Diving48Source,
    Hmdb51Source,
    Kinetics400Source,
    Listing,
    MiniKinetics200Source,
    MissingClip,
    Ucf101Source,
)
from tests.shards.sources.files import names, touch

HEADER = "label,youtube_id,time_start,time_end,split\n"


def problems(source) -> list[str]:
    with pytest.raises(UserError) as caught:
        source.listing()
    return list(caught.value.args)


def test_the_first_ten_problems_are_shown_and_how_many_there_are():
    refuse([])
    with pytest.raises(UserError) as caught:
        refuse(f"line {k}" for k in range(14))
    assert len(caught.value.args) == 14
    assert str(caught.value).split("\n") == [f"line {k}" for k in range(PROBLEMS_SHOWN)] + ["and 4 more like these"]


def test_a_function_is_called_with_each_item_and_all_refusals_are_told():
    def halve(number):
        refuse(f"{number} is odd" for _ in range(number % 2))
        return number // 2

    assert each(halve, [2, 4]) == [1, 2]
    with pytest.raises(UserError, match=r"^1 is odd\n3 is odd$"):
        each(halve, [1, 2, 3])


def test_all_repeated_names_and_all_unknown_classes_of_a_listing_are_told(tmp_path):
    clips = tuple(ClipEntry(f"run/{name}", tmp_path / name, "run") for name in "aabbc")
    with pytest.raises(UserError) as caught:
        Listing("d", "1", "all", ("run",), clips)
    assert [problem.split("'")[1] for problem in caught.value.args] == ["run/a", "run/b"]
    missing = tuple(MissingClip(f"{name}/{k}", tmp_path, name) for name in ("fly", "swim") for k in range(3))
    with pytest.raises(UserError) as caught:
        Listing("d", "1", "all", ("run",), (), missing)
    assert [problem.partition(" is not")[0] for problem in caught.value.args] == [
        "d, clip 'fly/0' and 2 more of this class: class 'fly'",
        "d, clip 'swim/0' and 2 more of this class: class 'swim'",
    ]


def test_all_bad_lines_of_a_csv_file_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("path,label,start,end\na,run,x,\nb,run,3,9\nc,,,\nd,run\ne,run,9,3\n")
    found = problems(CsvSource(file=tmp_path / "a.csv"))
    assert [problem.split(", line ")[1][0] for problem in found] == ["2", "4", "5", "6"]


def test_all_bad_lines_of_both_lists_of_ucf101_are_told(tmp_path):
    touch(tmp_path / "videos/x")
    (tmp_path / "classInd.txt").write_text("1 Diving\n")
    (tmp_path / "trainlist01.txt").write_text("Diving/a.avi\nDiving/b.avi 1\nFlying/c.avi 1\n")
    (tmp_path / "testlist01.txt").write_text("Diving/b.avi\nd.avi\n")
    source = Ucf101Source(root=tmp_path / "videos", labels=tmp_path)
    assert [problem.split("list01.txt, ")[1][:6] for problem in problems(source)] == ["line 1", "line 3", "line 2"]
    (tmp_path / "trainlist01.txt").write_text("Diving/a.avi 1\nDiving/b.avi 1\n")
    (tmp_path / "testlist01.txt").write_text("Diving/b.avi\nDiving/A.avi\n")
    assert [problem.split("clip ")[1][:3] for problem in problems(source)] == ["'b'", "'A'"]
    (tmp_path / "classInd.txt").write_text("2 Diving\n1 Flying\n")
    assert len(problems(source)) == 2


def test_all_absent_split_files_of_hmdb51_are_told(tmp_path):
    touch(tmp_path / "videos/x")
    (tmp_path / "clap_test_split1.txt").write_text("a.avi 1\n")
    assert len(problems(Hmdb51Source(root=tmp_path / "videos", labels=tmp_path))) == 50


def test_all_clips_that_are_there_twice_are_told(tmp_path):
    (tmp_path / "classInd.txt").write_text("1 Diving\n")
    (tmp_path / "trainlist01.txt").write_text("".join(f"Diving/v{k}.avi 1\n" for k in range(20)))
    (tmp_path / "testlist01.txt").write_text("Diving/t.avi\n")
    touch(*(tmp_path / "videos" / folder / f"v{k}.avi" for folder in ("Diving", "old") for k in range(12)))
    found = problems(Ucf101Source(root=tmp_path / "videos", labels=tmp_path))
    assert [problem.split("'")[1] for problem in found] == [f"Diving/v{k}" for k in range(12)]


def test_all_bad_clips_of_diving48_are_told(tmp_path):
    clip = {"vid_name": "a", "label": 0, "start_frame": 0, "end_frame": 9}
    (tmp_path / "Diving48_vocab.json").write_text('[["Back"]]')
    (tmp_path / "Diving48_V2_train.json").write_text(json.dumps([clip | {"label": 5}, clip, clip | {"end_frame": 0}]))
    (tmp_path / "Diving48_V2_test.json").write_text(json.dumps([clip | {"vid_name": ""}]))
    found = problems(Diving48Source(root=tmp_path, labels=tmp_path))
    assert [problem.split(", clip ")[1][0] for problem in found] == ["1", "3", "1"]


def test_all_mistakes_in_annotations_of_kinetics_are_told(tmp_path):
    touch(tmp_path / "videos/x")
    rows = "run,-abcdefghij,soon,11,train\nrun,short,1,11,train\nrun,_bcdefghijk,1,11,train\n"
    (tmp_path / "a.csv").write_text(HEADER + rows)
    (tmp_path / "b.json").write_text('{"-abcdefghij": {"subset": "train"}, "cdefghijkl_": 3}')
    paths = (tmp_path / "a.csv", tmp_path / "b.json")
    source = Kinetics400Source(root=tmp_path / "videos", annotations=paths)
    assert len(problems(source)) == 4
    (tmp_path / "a.csv").write_text(HEADER + "run,-abcdefghij,1,11,train\nrun,_bcdefghijk,1,11,train\n")
    (tmp_path / "b.csv").write_text(HEADER + "walk,_bcdefghijk,1,11,train\nrun,-abcdefghij,1,11,val\n")
    paths = (tmp_path / "a.csv", tmp_path / "b.csv")
    found = problems(Kinetics400Source(root=tmp_path / "videos", annotations=paths))
    assert [problem.split("b.csv, ")[1][:6] for problem in found] == ["line 2", "line 3"]


def test_all_bad_ids_of_mini_kinetics_are_told(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "run,-abcdefghij,1,11,train\n")
    (tmp_path / "train_ytid_list.txt").write_text("-abcdefghij\nshort\n-abcdefghij\n")
    (tmp_path / "val_ytid_list.txt").write_text("-abcdefghij\n")
    source = MiniKinetics200Source(root=tmp_path, labels=tmp_path, annotations=(tmp_path / "a.csv",))
    assert len(problems(source)) == 3


@pytest.fixture
def kinetics(tmp_path):
    """Twelve annotated clips."""
    (tmp_path / "videos").mkdir()
    rows = [f"run,abcdefghi{k:02d},1,11,train\n" for k in range(12)]
    (tmp_path / "train.csv").write_text(HEADER + "".join(rows))
    return tmp_path


def test_replacements_of_corrupt_videos_are_taken_and_told(kinetics):
    videos = kinetics / "videos"
    touch(*(videos / f"train/abcdefghi{k:02d}_000001_000011.mp4" for k in range(12)))
    folder = "replacement/replacement_for_corrupted_k400"
    touch(*(videos / folder / f"abcdefghi{k:02d}_000001_000011.mp4" for k in range(3)))
    listing = Kinetics400Source(root=videos, annotations=(kinetics / "train.csv",)).listing()
    assert [entry.path.parent.name for entry in listing.clips] == [folder.split("/")[1]] * 3 + ["train"] * 9
    assert listing.unlisted == ()
    assert listing.remarks == {
        "videos for which there is a replacement": tuple(
            f"train/{name}, by {folder}/{name}" for name in (f"abcdefghi{k:02d}_000001_000011.mp4" for k in range(3))
        )
    }


def test_a_replacement_alone_is_the_clip_and_two_are_refused(kinetics):
    videos = kinetics / "videos"
    touch(videos / "replacement/abcdefghi00_000001_000011.mp4")
    source = Kinetics400Source(root=videos, annotations=(kinetics / "train.csv",))
    assert names(source.listing().clips) == ["run/abcdefghi00_000001_000011"]
    assert source.listing().remarks == {}
    touch(videos / "replacement/more/abcdefghi00.mp4", videos / "replacement/more/abcdefghi00_000001_000011.mp4")
    assert ["is there twice" in problem for problem in problems(source)] == [True]


def test_all_videos_that_are_there_twice_are_told(kinetics):
    videos = kinetics / "videos"
    touch(*(videos / folder / f"abcdefghi{k:02d}_000001_000011.mp4" for folder in ("a", "b") for k in range(12)))
    assert len(problems(Kinetics400Source(root=videos, annotations=(kinetics / "train.csv",)))) == 12

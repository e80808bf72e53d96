"""The contract of the sources, and the two sources for any data set: folders and CSV files."""

import os
import pickle
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.sources import ClipEntry, CsvSource, FolderSource, Listing, MissingClip
from tests.shards.sources.files import names, touch


def test_a_listing_refuses_two_clips_of_one_name_and_names_both():
    clips = (ClipEntry("run/a", Path("x/a.mp4"), "run"), ClipEntry("run/b", Path("x/b.mp4"), "run"))
    again = MissingClip("run/a", Path("y/a.avi"), "run")
    with pytest.raises(UserError, match=r"'run/a', x/a\.mp4 and y/a\.avi; .*rename or remove one"):
        Listing("d", "1", "all", ("run",), clips, (again,))


def test_a_listing_refuses_a_repeated_class_and_an_unknown_one():
    with pytest.raises(UserError, match="class 'run' is listed 2 times"):
        Listing("d", "1", "all", ("run", "run"), ())
    with pytest.raises(UserError, match=r"class 'fly' is not among the 1 classes"):
        Listing("d", "1", "all", ("run",), (), (MissingClip("fly/a", Path("a.mp4"), "fly"),))


def test_a_clip_may_be_missing_without_its_class_being_known():
    missing = MissingClip("abc", Path("abc.mp4"), "", "no annotation names its class")
    assert Listing("d", "1", "all", ("run",), (), (missing,)).missing == (missing,)
    assert MissingClip("abc", Path("abc.mp4"), "run").reason == "the video does not exist"


def test_entries_travel_to_worker_processes():
    entry = ClipEntry("run/a", Path("a.mp4"), "run", 3, 9)
    assert pickle.loads(pickle.dumps(entry)) == entry


def test_folders_are_classes_in_alphabetical_order(tmp_path):
    touch(tmp_path / "wave" / "b.MP4", tmp_path / "wave" / "a.mkv", tmp_path / "clap" / "c.avi")
    touch(tmp_path / "clap" / "notes.txt", tmp_path / ".hidden" / "d.mp4", tmp_path / "wave" / "._a.mkv")
    (tmp_path / "empty").mkdir()
    listing = FolderSource(root=tmp_path, dataset="mine").listing()
    assert listing.dataset == "mine"
    assert listing.classes == ("clap", "wave")
    assert listing.remarks == {"folders without a video, which are no classes": ("empty",)}
    assert [entry.name for entry in listing.clips] == ["clap/c", "wave/a", "wave/b"]
    assert listing.clips[0].path == tmp_path / "clap" / "c.avi"
    assert listing.unlisted == ()


def test_videos_beside_the_class_folders_are_told_and_those_below_are_clips_named_by_their_path(tmp_path):
    touch(
        tmp_path / "wave/a.mp4",
        tmp_path / "stray.mp4",
        *(tmp_path / "wave" / p for p in ("x y/a.mp4", "x y/z/a.b.avi")),
    )
    listing = FolderSource(root=tmp_path).listing()
    assert [entry.name for entry in listing.clips] == ["wave/a", "wave/x y/a", "wave/x y/z/a.b"]
    assert {entry.class_name for entry in listing.clips} == {"wave"}
    assert listing.unlisted == ("stray.mp4",)
    assert listing.remarks == {}


def test_a_root_that_is_one_level_too_high_is_told(tmp_path):
    touch(tmp_path / "train/wave/a.mp4", tmp_path / "train/clap/b.mp4", tmp_path / "test/wave/c.mp4")
    listing = FolderSource(root=tmp_path).listing()
    assert listing.classes == ("test", "train")
    assert listing.remarks == {"classes that hold folders alone (is --root one level too high?)": ("test", "train")}
    assert FolderSource(root=tmp_path / "train").listing().remarks == {}


def test_a_list_of_classes_fixes_the_labels(tmp_path):
    touch(tmp_path / "videos" / "wave" / "a.mp4")
    classes = tmp_path / "classes.txt"
    classes.write_text("wave\n\nclap\n")
    assert FolderSource(root=tmp_path / "videos", classes=classes).listing().classes == ("wave", "clap")
    classes.write_text("clap\n")
    with pytest.raises(UserError, match=r"clip 'wave/a': class 'wave' is not among the 1 classes; .*--classes FILE"):
        FolderSource(root=tmp_path / "videos", classes=classes).listing()


def test_two_files_of_one_name_are_refused(tmp_path):
    touch(tmp_path / "wave" / "a.mp4", tmp_path / "wave" / "a.avi")
    with pytest.raises(UserError, match=r"two clips are called 'wave/a', .*a\.avi and .*a\.mp4"):
        FolderSource(root=tmp_path).listing()


def test_names_that_are_not_utf8_are_written_out_and_stay_apart(tmp_path):
    touch(*(tmp_path / "wave" / os.fsdecode(name) for name in (b"\xfe.mp4", b"\xff.mp4", "ö.mp4".encode())))
    names = [entry.name for entry in FolderSource(root=tmp_path).listing().clips]
    assert sorted(names) == [r"wave/\xfe", r"wave/\xff", "wave/ö"]
    (tmp_path / os.fsdecode(b"\xff")).mkdir()
    with pytest.raises(UserError, match="not UTF-8: rename it"):
        FolderSource(root=tmp_path).listing()


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(UserError, match="no video in it"):
        FolderSource(root=tmp_path).listing()


def test_csv_rows_are_chosen_by_subset_and_may_be_ranges_of_one_video(tmp_path):
    touch(tmp_path / "v" / "a.mp4", tmp_path / "v" / "b.mp4")
    file = tmp_path / "list.csv"
    file.write_text(
        "path,label,start,end,split\n"
        "v/a.mp4,run,0,16,train\n"
        "v/a.mp4,run,16,32,train\n"
        "v/gone.mp4,run,,,train\n"
        "v/b.mp4,jump,,,test\n"
    )
    train = CsvSource(file=file, subset="train").listing()
    assert train.classes == ("jump", "run")
    assert train.clips == (
        ClipEntry("run/a_0_16", tmp_path / "v" / "a.mp4", "run", 0, 16),
        ClipEntry("run/a_16_32", tmp_path / "v" / "a.mp4", "run", 16, 32),
    )
    assert train.missing == (MissingClip("run/gone", tmp_path / "v" / "gone.mp4", "run"),)
    assert [entry.name for entry in CsvSource(file=file, subset="test").listing().clips] == ["jump/b"]
    assert len(CsvSource(file=file).listing().clips) == 3


def test_a_csv_file_may_come_from_windows_and_hold_any_name(tmp_path):
    names = ["#1 (a&b;c)!.mp4", "größe, 走る.mp4", 'say "hi".avi']
    touch(*(tmp_path / "v" / name for name in names))
    quoted = ['"v/' + name.replace('"', '""') + '"' for name in names]
    lines = ["label, path", *(f"run, {name}" for name in quoted), ""]
    file = tmp_path / "list.csv"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert [entry.path.name for entry in CsvSource(file=file).listing().clips] == names


def test_what_is_no_file_is_missing_and_says_why(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    touch(tmp_path / "real.mp4")
    (tmp_path / "link.mp4").symlink_to("real.mp4")
    file = tmp_path / "list.csv"
    names = ["folder.mp4", "loop.mp4", "nowhere/a.mp4", "real.mp4/a.mp4", "link.mp4"]
    file.write_text("path,label\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    listing = CsvSource(file=file).listing()
    assert [entry.path.name for entry in listing.clips] == ["link.mp4"]
    nothing = "the video does not exist"
    assert [entry.reason for entry in listing.missing] == ["it is a folder, not a video", nothing, nothing, nothing]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "its columns must be"),
        ("file,label\na.mp4,run\n", "its columns must be"),
        ("path,label,path\na.mp4,run,b.mp4\n", "its columns must be"),
        ("path,label,start\na.mp4,run,soon\n", "line 2: start must be a frame number"),
        ("path,label,start,end\na.mp4,run,9,9\n", "line 2: end 9 must be greater than start 9"),
        ("path,label\n", "has no rows"),
        ("path,label\na.mp4\n", "line 2: has fewer cells than the header"),
        ("path,label\na.mp4,run,9\n", "line 2: has more cells than the header"),
        ("path,label\na.mp4,../run\n", "line 2: needs a path, and a label"),
        ("path,label\n,run\n", "line 2: needs a path, and a label"),
        ("path,label\na.mp4,..\n", "line 2: needs a path, and a label"),
        ('path,label\na.mp4,"run\nb.mp4,run\n', "line 3: unexpected end of data; are all quotes closed"),
        ('path,label\na.mp4,"run\nb.mp4,"walk"\n', "line 3: .* are all quotes closed"),
        ('path,label\na.mp4,"run\nb.mp4,walk"\n', r"line 3: label 'run\\nb.mp4,walk' holds a line break"),
        ("path,label\na.mp4,r\x1b[31mun\n", r"line 2: label 'r\\x1b\[31mun' holds .* control character"),
        ("path,label\na/x.mp4,run\na/x.avi,run\n", r"two clips are called 'run/x', .*a/x\.mp4 and .*a/x\.avi"),
        ("path,label,split\na.mp4,run,val\n", r"--subset train: no row .*\['val'\]"),
    ],
)
def test_mistakes_in_a_csv_file_are_named(tmp_path, text, sentence):
    file = tmp_path / "list.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        CsvSource(file=file, subset="train" if "split" in text else "all").listing()


def test_a_csv_file_that_is_no_utf8_or_not_there_is_named(tmp_path):
    file = tmp_path / "list.csv"
    with pytest.raises(UserError, match=r"--file: .*list\.csv cannot be read \(No such file or directory\)"):
        CsvSource(file=file).listing()
    file.write_bytes(b"path,label\n\xff.mp4,run\n")
    with pytest.raises(UserError, match=r"--file: .*list\.csv cannot be read \(byte 11 is not UTF-8\)"):
        CsvSource(file=file).listing()


def test_rows_of_empty_cells_do_not_count_and_other_columns_may_hold_anything(tmp_path):
    touch(tmp_path / "a.mp4")
    file = tmp_path / "list.csv"
    file.write_text('path,label,note\n,,\na.mp4,run,"two\nlines"\n \t,\u00a0,\n,,\n')
    assert names(CsvSource(file=file).listing().clips) == ["run/a"]


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\x00", "..", "a/b"])
def test_a_class_whose_name_no_table_or_folder_can_hold_is_refused(name):
    with pytest.raises(UserError, match="cannot be called so"):
        Listing("d", "1", "all", ("run", name), ())

"""Which files are videos, what is told of those that are not read, and what two names for one file mean."""

import gzip
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shards.sources import ClipEntry, CsvSource, FolderSource, Hmdb51Source, JhmdbSource, Kinetics400Source
from shards.sources.files.file_kinds import OTHER_SUFFIXES, VIDEO_SUFFIXES
from shards.sources.files.video_files import read_video_tree
from shards.sources.hmdb51 import CLASSES as HMDB51_CLASSES
from shards.sources.remarks import equal_files
from tests.shards.sources.files import names, touch

CODECS = {".wmv": "wmv2", ".flv": "flv", ".ts": "mpeg2video", ".3gp": "h263", ".ogv": "libvpx", ".vob": "mpeg2video"}


@pytest.fixture
def root(tmp_path, write_video):
    """A class with one video, ``run/a.mp4``."""
    write(write_video, tmp_path / "run" / "a.mp4")
    return tmp_path


def write(write_video, path, codec="mpeg4", count=5):
    frames = np.random.default_rng(0).integers(0, 256, (count, 144, 176, 3), dtype=np.uint8)  # a size that H.263 has
    return write_video(path, frames, codec=codec, pixel_format="yuv420p")


@pytest.mark.parametrize("suffix", CODECS)
def test_every_usual_container_is_a_video(root, write_video, suffix):
    write(write_video, root / "run" / f"b{suffix}", CODECS[suffix])
    listing = FolderSource(root=root).listing()
    assert names(listing.clips) == ["run/a", "run/b"]
    assert listing.unlisted == ()


@pytest.mark.parametrize("name", ["b", "b.bin", "b.dat", "b.XYZ", "b.mp4.1", "b.ogg"])
def test_a_file_whose_suffix_does_not_tell_it_is_a_video_by_its_content(root, name):
    shutil.copy(root / "run/a.mp4", root / "run" / name)
    found = read_video_tree(root, "videos")
    assert found.videos == tuple(sorted(["run/a.mp4", f"run/{name}"]))
    (root / "run" / name).write_bytes(b"\x1f" * 5000)
    assert read_video_tree(root, "videos").videos == ("run/a.mp4",)


def test_text_pictures_and_single_frames_are_no_videos(root, write_video):
    write(write_video, root / "still.mp4", count=1)
    (root / "still.mp4").rename(root / "run/still")
    for name in ("README", "notes.nfo", "notes.txt", "b.xyz"):
        (root / "run" / name).write_text("no video\n" * 99)
    for name in ("p.jpg", "p.png", "p.gif"):
        Image.new("RGB", (64, 48)).save(root / "run" / name)
    Image.new("RGB", (64, 48)).save(root / "run/picture", "PNG")
    np.save(root / "run/masks.npy", np.zeros(5))
    touch(root / "run/empty", root / "run/empty.xyz")
    listing = FolderSource(root=root).listing()
    assert names(listing.clips) == ["run/a"]
    assert listing.unlisted == ()


def test_moving_gifs_are_videos(root):
    frames = [Image.fromarray(np.full((48, 64), 50 * k, np.uint8)) for k in range(4)]
    frames[0].save(root / "run/b.gif", save_all=True, append_images=frames[1:])
    assert names(FolderSource(root=root).listing().clips) == ["run/a", "run/b"]


def test_an_empty_file_that_is_called_like_a_video_counts_as_one(root):
    touch(root / "run/b.MP4")
    assert names(FolderSource(root=root).listing().clips) == ["run/a", "run/b"]


def test_what_looks_like_a_video_and_is_not_read_is_told(root):
    video = (root / "run/a.mp4").read_bytes()
    for name in ("b.mp4.part", "b.webm.crdownload", "c.MKV.Part-Frag7", ".d.mp4", "._a.mp4"):
        (root / "run" / name).write_bytes(video)
    (root / "run/e.mp4.gz").write_bytes(gzip.compress(video))
    touch(root / "run/a.mp4.json", root / "run/a.mp4.jpg")
    os.mkfifo(root / "run/f.avi")
    listing = FolderSource(root=root).listing()
    assert names(listing.clips) == ["run/a"]
    download = "(the rest of a download, or compressed)"
    assert listing.unlisted == (
        "run/.d.mp4 (hidden: its name begins with a dot)",
        f"run/b.mp4.part {download}",
        f"run/b.webm.crdownload {download}",
        f"run/c.MKV.Part-Frag7 {download}",
        f"run/e.mp4.gz {download}",
        "run/f.avi (not a regular file)",
    )


def test_the_suffixes_are_of_one_kind_each():
    assert not OTHER_SUFFIXES & set(VIDEO_SUFFIXES)


def test_folders_that_hold_no_video_are_no_classes(root):
    touch(root / "__MACOSX/run/._a.mp4", root / "__MACOSX/run/b.mp4", root / "@eaDir/a.mp4/picture.jpg")
    touch(root / "notes/readme.txt", root / "run/@eaDir/a.mp4/x", root / "deep/er/c.txt", root / "c.mp4")
    touch(root / "$RECYCLE.BIN/x.mp4", root / "#recycle/y.mp4", root / "run/@Recycle/z.mp4")
    listing = FolderSource(root=root).listing()
    assert listing.classes == ("run",)
    assert listing.unlisted == ("c.mp4",)
    assert listing.remarks == {"folders without a video, which are no classes": ("deep", "notes")}


def test_two_videos_of_one_name_in_folders_of_one_class_are_two_clips(tmp_path):
    touch(*(tmp_path / "v" / path for path in ("p1/x.mp4", "p2/x.mp4", "p2/old/x.mp4", "p1/y.mp4", "x.mp4")))
    rows = "v/p1/x.mp4,run,train\nv/p2/x.mp4,run,test\nv/p2/old/../old/x.mp4,run,train\nv/p1/y.mp4,run,train\n"
    (tmp_path / "list.csv").write_text(f"path,label,split\n{rows}v/x.mp4,walk,train\n")
    found = {s: CsvSource(file=tmp_path / "list.csv", subset=s).listing() for s in ("all", "train", "test")}
    assert names(found["all"].clips) == ["run/p1/x", "run/p2/x", "run/p2/old/x", "run/y", "walk/x"]
    assert names(found["train"].clips) + names(found["test"].clips) == [
        *("run/p1/x", "run/p2/old/x", "run/y", "walk/x"),
        "run/p2/x",
    ]


def test_columns_that_are_not_read_are_told(tmp_path):
    touch(tmp_path / "a.mp4")
    (tmp_path / "list.csv").write_text("path,actor,label,\na.mp4,me,run,\n")
    listing = CsvSource(file=tmp_path / "list.csv").listing()
    assert names(listing.clips) == ["run/a"]
    assert listing.remarks == {"columns that are not read": ("actor", "(without a name)")}


def test_a_clip_with_two_labels_and_a_file_with_clips_of_two_classes_are_told(tmp_path):
    touch(*(tmp_path / f"{name}.mp4" for name in "abc"))
    (tmp_path / "link.mp4").symlink_to("c.mp4")
    rows = "a.mp4,run,,\na.mp4,walk,,\nb.mp4,run,0,8\nb.mp4,walk,8,16\nc.mp4,run,,\nlink.mp4,jump,3,9\n"
    (tmp_path / "list.csv").write_text(f"path,label,start,end\n{rows}")
    listing = CsvSource(file=tmp_path / "list.csv").listing()
    assert len(listing.clips) == 6
    assert listing.remarks == {
        "clips with two labels": ("run/a (a.mp4), walk/a (a.mp4)", "run/c (c.mp4), jump/link_3_9 (link.mp4)"),
        "files with clips of two classes": ("run/b_0_8 (b.mp4), walk/b_8_16 (b.mp4)",),
    }


def test_only_those_clips_of_a_file_are_named_that_overlap(tmp_path):
    touch(tmp_path / "a.mp4")
    rows = [
        "run,0,30",
        "walk,20,40",
        "run,40,60",
        "walk,60,70",
        "run,100,110",
        "jump,90,200",
        "walk,150,160",
        "run,200,",
    ]
    (tmp_path / "list.csv").write_text("path,label,start,end\n" + "".join(f"a.mp4,{row}\n" for row in rows))
    assert CsvSource(file=tmp_path / "list.csv").listing().remarks == {
        "clips with two labels": (
            "run/a_0_30 (a.mp4), walk/a_20_40 (a.mp4)",
            "jump/a_90_200 (a.mp4), run/a_100_110 (a.mp4), walk/a_150_160 (a.mp4)",
        )
    }


frames = st.tuples(st.integers(0, 20), st.integers(1, 9), st.sampled_from(["run", "walk", "jump"]))


@given(frames=st.lists(frames, max_size=8))
def test_clips_with_two_labels_are_just_those_that_share_a_frame_with_one_of_another_class(frames):
    clips = [
        ClipEntry(f"{label}/{k}", Path("a.mp4"), label, start, start + length)
        for k, (start, length, label) in enumerate(frames)
    ]
    shared = {
        one.name
        for one in clips
        for other in clips
        if one.class_name != other.class_name
        and set(range(one.start_frame, one.end_frame)) & set(range(other.start_frame, other.end_frame))
    }
    told = ", ".join(equal_files(("0", clip) for clip in clips).get("clips with two labels", ()))
    assert sorted(re.findall(r"(\S+) \(a\.mp4\)", told)) == sorted(shared)


def test_many_clips_of_one_file_are_compared_at_once_and_some_are_named():
    clips = [ClipEntry(f"{k}/a", Path("a.mp4"), str(k), k, 40_000) for k in range(20_000)]
    started_s = time.process_time()
    (told,) = equal_files(("0", clip) for clip in clips)["clips with two labels"]
    assert time.process_time() - started_s < 5
    assert told.startswith("0/a (a.mp4), 1/a (a.mp4), ")
    assert told.endswith(" and 19990 more")


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_clip_that_is_in_rows_of_two_splits_is_told_from_the_csv_file_alone(tmp_path, link):
    touch(*(tmp_path / f"{name}.mp4" for name in "abcd"))
    link(tmp_path / "c.mp4", tmp_path / "e.mp4")
    rows = ["a,run,,,train", "a,run,,,test", "b,run,0,9,train", "b,run,9,20,test", "c,run,,,train", "e,walk,5,9,test"]
    rows += ["d,run,,,val", "d,run,3,4,val", "gone,run,,,train", "gone,run,,,test", "e,run,6,8,"]
    lines = [row.replace(",", ".mp4,", 1) for row in rows]
    told = {}
    for subset in ("train", "test", "val", "all"):
        chosen = lines[1:-2] if subset == "all" else lines  # where one clip may not be chosen twice
        (tmp_path / "list.csv").write_text("path,label,start,end,split\n" + "\n".join(chosen))
        listing = CsvSource(file=tmp_path / "list.csv", subset=subset).listing()
        told[subset] = listing.remarks.get("clips of two subsets", ())
    linked = "run/c (c.mp4) of train, walk/e_5_9 (e.mp4) of test"
    assert told == {
        "train": ("run/a (a.mp4) of train, run/a (a.mp4) of test", f"{linked}, run/e_6_8 (e.mp4) of (none)"),
        "test": ("run/a (a.mp4) of test, run/a (a.mp4) of train", f"{linked}, run/e_6_8 (e.mp4) of (none)"),
        "val": (),
        "all": (linked,),
    }


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_in_two_class_folders_is_told(root, link):
    (root / "walk").mkdir()
    link(root / "run/a.mp4", root / "walk/b.mp4")
    (told,) = FolderSource(root=root).listing().remarks["clips with two labels"]
    assert told == "run/a (a.mp4), walk/b (b.mp4)"


def test_one_file_under_two_labels_is_told_of_every_source(tmp_path):
    touch(tmp_path / "v/clap/x.avi")
    (tmp_path / "v/wave").mkdir()
    for name in ("wave/y.avi", "-abcdefghij.mp4", "_bcdefghijk.mp4"):
        os.link(tmp_path / "v/clap/x.avi", tmp_path / "v" / name)
    for class_name in HMDB51_CLASSES:
        (tmp_path / f"{class_name}_test_split1.txt").write_text(f"{class_name}_0.avi 0\n")
    (tmp_path / "clap_test_split1.txt").write_text("x.avi 1\n")
    (tmp_path / "wave_test_split1.txt").write_text("y.avi 1\n")
    (tmp_path / "k.csv").write_text(
        "label,youtube_id,time_start,time_end\nrun,-abcdefghij,1,11\nwalk,_bcdefghijk,1,11\n"
    )
    for source in (
        Hmdb51Source(root=tmp_path / "v", labels=tmp_path),
        JhmdbSource(root=tmp_path / "v", labels=tmp_path),
        Kinetics400Source(root=tmp_path / "v", annotations=(tmp_path / "k.csv",)),
    ):
        assert len(source.listing().remarks["clips with two labels"]) == 1

"""Packing from tar archives gives what packing from the unpacked folder gives, and goes on and is known again alike."""

import os
import re
import shutil
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shards.dataset import ShardDataset
from shards.decoding.archive_member import ArchiveMember
from shards.decoding.refusal import BrokenClipError
from shards.decoding.video import open_video
from shards.errors import UserError
from shards.packing.pack import pack
from shards.sources import FolderSource
from shards.sources.files.video_files import read_video_tree
from shards.system.checksums import sha256_of
from tests.shards.packing.packs import CONFIG, CONFIG_16, Progress, StopHereError, content, listing_of


@pytest.fixture
def archived(videos, tmp_path) -> Path:
    """The videos in one archive a class."""
    root = tmp_path / "archived"
    root.mkdir()
    for folder in videos.iterdir():
        with tarfile.open(root / f"{folder.name}.tar", "w") as tar:
            for path in folder.iterdir():
                tar.add(path, path.name)
    return root


def packed(root: Path, out: Path) -> dict[str, str]:
    assert pack(listing_of(root), out, CONFIG) is not None
    return {name: sha256 for name, sha256 in content(out).items() if name != "inputs.npy"}


@pytest.mark.parametrize("layout", ["one a class", "all in one"])
def test_shards_of_archives_are_those_of_the_unpacked_videos(videos, archived, tmp_path, layout):
    if layout == "all in one":
        shutil.rmtree(archived)
        archived.mkdir()
        with tarfile.open(archived / "part_0.tar", "w") as tar:
            tar.add(videos, ".")
    from_archives = packed(archived, tmp_path / "a")
    from_folders = packed(videos, tmp_path / "b")
    where = "jump.tar/bad.mp4" if layout == "one a class" else "part_0.tar/jump/bad.mp4"
    told = (tmp_path / "a/report.json").read_text(), (tmp_path / "b/report.json").read_text()
    assert told[0].replace(where, "jump/bad.mp4") == told[1]
    del from_archives["report.json"], from_folders["report.json"]
    assert from_archives == from_folders


def test_clips_of_one_member_are_decoded_from_where_they_begin_and_surveyed_once(many_clips, archived, tmp_path):
    members = {entry.name: entry.path for entry in listing_of(archived).clips}
    clips = tuple(replace(entry, path=members[f"{entry.class_name}/{entry.path.stem}"]) for entry in many_clips.clips)
    pack(many_clips, tmp_path / "a", CONFIG_16)
    pack(replace(many_clips, clips=clips), tmp_path / "b", CONFIG_16)
    shards = [content(tmp_path / name)["shard-000000.tar"] for name in "ab"]
    assert shards[0] == shards[1]


def test_a_pack_of_archives_that_was_stopped_goes_on(archived, tmp_path):
    whole = packed(archived, tmp_path / "whole")
    with pytest.raises(StopHereError):
        pack(listing_of(archived), tmp_path / "out", CONFIG, progress=Progress(stop_after=1))
    progress = Progress()
    pack(listing_of(archived), tmp_path / "out", CONFIG, progress=progress)
    assert progress.calls[0] == 3
    assert {name: sha256 for name, sha256 in content(tmp_path / "out").items() if name != "inputs.npy"} == whole


def test_a_data_set_of_archives_is_known_again_by_the_content_of_its_members(videos, archived, tmp_path):
    listing = listing_of(archived)
    pack(listing, tmp_path / "out", CONFIG)
    assert pack(listing, tmp_path / "out", CONFIG) is None
    os.utime(archived / "run.tar", (1, 1))
    assert pack(listing, tmp_path / "out", CONFIG) is None
    assert pack(listing_of(videos), tmp_path / "out", CONFIG) is None  # unpacked meanwhile
    member = next(entry.path for entry in listing.clips if entry.name.startswith("run"))
    with (archived / "run.tar").open("r+b") as file:
        file.seek(member.start_byte + member.size_bytes - 1)
        file.write(b"?")
    with pytest.raises(UserError, match="holds another data set"):
        pack(listing, tmp_path / "out", CONFIG)


def test_an_archive_that_changes_while_it_is_packed_is_noticed(archived, tmp_path):
    class Changing(Progress):
        def update(self, done: int) -> None:
            os.utime(archived / "run.tar", (2, 2))

    with pytest.raises(UserError, match="have changed meanwhile"):
        pack(listing_of(archived), tmp_path / "out", CONFIG, progress=Changing())


def test_archives_that_cannot_be_read_are_refused_where_everything_must_be(archived, tmp_path):
    whole = (archived / "run.tar").read_bytes()
    (archived / "run.tar").write_bytes(whole[: len(whole) // 2])
    report = pack(listing_of(archived), tmp_path / "out", CONFIG)
    (told,) = report.listing.unlisted
    assert re.fullmatch(r"run\.tar \(cut short or damaged after clip\d\.mp4; fetch it again\)", told)
    whole_clips = replace(FolderSource(root=archived).listing(), may_lack_classes=True)
    with pytest.raises(UserError, match=r"--strict: .*run\.tar \(cut short"):
        pack(whole_clips, tmp_path / "strict", CONFIG, strict=True)


def decoded(path) -> object:
    """The frames of a video, and how it ends."""
    frames = []
    try:
        with open_video(path) as video:
            frames += [video.info]
            frames += [frame.rgb(16).tobytes() for frame in video.frames()]
    except BrokenClipError as error:
        frames.append(str(error))
    return frames


@pytest.mark.parametrize("share", [1.0, 0.97, 0.6, 0.02])
@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        *((".mp4", "h264"), (".avi", "mpeg4"), (".mkv", "libvpx"), (".wmv", "wmv2"), (".flv", "flv"), (".ts", "h264")),
        *((".h264", "h264"), (".mpg", "mpeg2video"), (".y4m", "rawvideo"), (".mjpeg", "mjpeg"), (".m4v", "mpeg4")),
    ],
)
def test_a_member_is_decoded_and_refused_as_a_file_is(tmp_path, write_video, suffix, codec, share):
    frames = np.random.default_rng(0).integers(0, 256, (12, 18, 22, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / f"x{suffix}", frames, codec=codec, pixel_format=pixels)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(path, f"run/{path.name}")
        tar.add(path, "run/after.mp4")
    member = read_video_tree(tmp_path, "videos").members[f"run/{path.name}"]
    assert decoded(member) == decoded(path)
    assert sha256_of(member) == sha256_of(path)


def test_a_member_of_an_archive_that_became_shorter_is_broken(archived):
    member = next(entry.path for entry in listing_of(archived).clips if entry.name == "run/clip4")
    os.truncate(archived / "run.tar", member.start_byte + 100)
    assert decoded(member) == ["no video stream"]  # as of a file of 100 bytes
    (archived / "run.tar").unlink()
    assert decoded(member) == ["cannot be read (No such file or directory)"]


def test_reading_a_member_takes_no_memory_for_the_archive(tmp_path):
    with (tmp_path / "large.tar").open("wb") as file:
        file.truncate(1 << 30)
    member = ArchiveMember(tmp_path / "large.tar", "x.mp4", 512, (1 << 28) + 5)
    tracemalloc.start()
    try:
        sha256_of(member)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_shards_of_archives_are_read_as_any_others(archived, tmp_path):
    pack(listing_of(archived), tmp_path / "out", CONFIG)
    assert {clip.name for clip in ShardDataset.open(tmp_path / "out")} == {
        entry.name for entry in listing_of(archived).clips if entry.name != "jump/bad"
    }

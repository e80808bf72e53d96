"""Walking through folders of videos, and reading label files, at the size of Kinetics."""

import os
import random
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import UserError
from shards.sources import CsvSource, FolderSource, Kinetics400Source
from shards.sources.files.video_files import read_video_tree
from shards.sources.label_files import read_lines
from shards.sources.texts import clean
from tests.shards.sources.files import touch


def tree(root):
    return read_video_tree(root, "the folder that holds the videos")


class Shuffled:
    """What os.scandir returns, in a random order."""

    def __init__(self, path, shuffle, scandir=os.scandir):
        with scandir(path) as entries:
            self._entries = list(entries)
        shuffle(self._entries)

    def __enter__(self):
        return self._entries

    def __exit__(self, *error):
        return None


def test_links_that_form_a_loop_end_and_are_told(tmp_path):
    touch(tmp_path / "run/a.mp4")
    (tmp_path / "run/again").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "gone").symlink_to("nowhere")
    listing = FolderSource(root=tmp_path).listing()
    assert [entry.name for entry in listing.clips] == ["run/a"]
    assert listing.unlisted == (
        "gone (a link that leads nowhere)",
        "itself (a link that leads nowhere)",
        "run/again/ (leads to a folder that is read already)",
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_link_to_a_folder_outside_is_followed_once(tmp_path, monkeypatch, seed):
    shuffle = random.Random(seed).shuffle
    monkeypatch.setattr(os, "scandir", lambda path: Shuffled(path, shuffle))
    touch(tmp_path / "elsewhere/a.mp4", tmp_path / "videos/run/b.mp4")
    for name in ("wave", "jump", "kick"):
        (tmp_path / "videos" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "videos")
    found = tree(tmp_path / "videos")
    assert found.videos == ("jump/a.mp4", "run/b.mp4")
    assert sorted(found.oddities) == [
        f"{link}/ (leads to a folder that is read already)" for link in ("jump/back", "kick", "wave")
    ]


def test_a_real_folder_comes_before_a_link_to_it(tmp_path):
    touch(tmp_path / "wave/a.mp4")
    (tmp_path / "alias").symlink_to("wave")
    assert tree(tmp_path).videos == ("wave/a.mp4",)


def test_a_folder_named_like_a_video_is_no_video(tmp_path):
    touch(tmp_path / "run/a.avi/frame.jpg", tmp_path / "run/b.avi")
    found = tree(tmp_path)
    assert found.videos == ("run/b.avi",)
    assert found.unlisted(lambda video: True) == ("run/a.avi/ (a folder, not a video)",)


def test_linked_videos_count_and_pipes_do_not(tmp_path):
    touch(tmp_path / "store/1")
    (tmp_path / "a.mp4").symlink_to(tmp_path / "store/1")
    os.mkfifo(tmp_path / "b.mp4")
    assert tree(tmp_path).videos == ("a.mp4",)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "run":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"--root: .*/run cannot be read \(Permission denied\)"):
        tree(tmp_path)


def test_a_root_that_is_no_folder_is_named(tmp_path):
    touch(tmp_path / "file")
    for name in ("file", "nothing"):
        with pytest.raises(UserError, match=rf"--root .*{name}: no such folder; give the folder that holds the videos"):
            tree(tmp_path / name)


file_names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8)
paths = st.lists(st.tuples(st.sampled_from(["", "a/", "a b/", "a/c/", "#é!/"]), file_names), max_size=20)


@settings(deadline=None)
@given(paths=paths, seed=st.integers(0, 9))
def test_every_video_is_found_whatever_its_name_and_the_order_on_disk(paths, seed):
    """The reference is pathlib's own walk. Files are made, and folders read, in a random order."""
    with tempfile.TemporaryDirectory() as name:
        root, shuffle = Path(name), random.Random(seed).shuffle
        files = [root / folder / f"v{file}.mp4" for folder, file in paths]
        shuffle(files)
        touch(*files)
        found = tree(root)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "scandir", lambda path: Shuffled(path, shuffle))
            assert tree(root) == found
        assert {root / video for video in found.videos} == {path for path in root.rglob("v*.mp4") if path.is_file()}
        assert list(found.videos) == sorted(found.videos, key=lambda video: video.split("/"))


lines = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\ufeff"), max_size=9).map(clean))


@settings(deadline=None)
@given(lines=lines.filter(any), end=st.sampled_from(["\n", "\r\n"]), mark=st.sampled_from(["", "\ufeff"]))
def test_label_files_read_alike_with_unix_and_windows_line_ends_and_a_byte_order_mark(lines, end, mark):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "list.txt"
        path.write_bytes((mark + end.join(lines)).encode())
        numbered = [(f"{path}, line {number}", line) for number, line in enumerate(lines, start=1) if line]
        assert list(read_lines(path, "--labels", "a list")) == numbered


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """6,000 clips of 20 classes, as files, as a Kinetics CSV and as a list of paths."""
    root = tmp_path_factory.mktemp("large")
    rows, lines = ["label,youtube_id,time_start,time_end,split\n"], ["path,label\n"]
    for number in range(6000):
        class_name, youtube_id = f"some action {number % 20}", f"{number:011d}"
        path = root / "videos" / class_name / f"{youtube_id}_000001_000011.mp4"
        touch(path)
        rows.append(f"{class_name},{youtube_id},1,11,train\n")
        lines.append(f"{path},{class_name}\n")
    (root / "kinetics.csv").write_text("".join(rows))
    (root / "paths.csv").write_text("".join(lines))
    return root


SOURCES = {
    "kinetics400": lambda root: Kinetics400Source(root=root / "videos", annotations=(root / "kinetics.csv",)),
    "folder": lambda root: FolderSource(root=root / "videos"),
    "csv": lambda root: CsvSource(file=root / "paths.csv"),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_no_file_is_touched_and_every_folder_read_once(large, monkeypatch, source):
    calls = {"scandir": 0, "stat": 0}
    for name in calls:
        real = getattr(os, name)

        def counted(*arguments, name=name, real=real, **options):
            calls[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, counted)
    assert len(source(large).listing().clips) == 6000
    assert calls["scandir"] <= 21
    assert calls["stat"] <= 2 * 21


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_listing_of_300_000_clips_keeps_less_than_240_megabytes(large, source):
    def traced() -> tuple[int, int]:
        tracemalloc.start()
        try:
            listing = source(large).listing()
            assert len(listing.clips) == 6000
            return tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    # The lesser of two, as everything in the process counts, also what a thread of an earlier test imports meanwhile.
    kept, peak = min(traced(), traced())
    assert kept * 300_000 / 6000 < 240e6
    assert peak * 300_000 / 6000 < 600e6

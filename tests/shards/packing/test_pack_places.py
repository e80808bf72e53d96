"""Where a pack is written: places that refuse it, and what is never touched there."""

import errno
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import REPORT_NAME, pack
from tests.shards.packing.packs import CONFIG, Progress, content, listing_of


def test_a_failed_overwrite_keeps_the_old_data_set(tmp_path, videos):
    listing = listing_of(videos)
    pack(listing, tmp_path / "out", CONFIG)
    before = content(tmp_path / "out")
    with pytest.raises(UserError, match="--strict"):
        pack(listing, tmp_path / "out", PackConfig(height=48, workers=1), overwrite=True, strict=True)
    assert content(tmp_path / "out") == before


def test_foreign_files_are_never_removed(tmp_path, videos):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="holds other files"):
        pack(listing_of(videos), out, CONFIG, overwrite=True)
    assert content(out).keys() == {"thesis.tex"}


def test_a_link_to_a_folder_stays_a_link(tmp_path, videos):
    listing = listing_of(videos)
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    for height in (32, 48):
        pack(listing, tmp_path / "out", PackConfig(height=height, workers=1), overwrite=True)
        assert (tmp_path / "out").readlink() == Path("disk")
        assert ShardDataset.open(tmp_path / "disk").manifest.frame_height == height
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "out"}


def test_places_that_cannot_be_replaced_are_refused_before_packing(tmp_path, videos, monkeypatch):
    listing = listing_of(videos)
    monkeypatch.chdir(tmp_path)
    Path("out").symlink_to("nowhere")
    for out, sentence in ((Path("out"), "a link to nothing; make nowhere"), (Path(), "the current folder")):
        with pytest.raises(UserError, match=sentence):
            pack(listing, out, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_where_a_path_starts_from_decides_nothing(tmp_path, videos, monkeypatch):
    """As in a list of relative and absolute paths that is itself given relatively."""
    listing, written = listing_of(videos), {}
    monkeypatch.chdir(videos.parent)
    for name, relative in (("all", set()), ("some", {"jump/bad", "run/clip2"}), ("none", {*map(str, listing.classes)})):
        clips = tuple(
            replace(entry, path=entry.path.relative_to(videos.parent))
            if entry.name in relative or entry.class_name in relative
            else entry
            for entry in listing.clips
        )
        assert pack(replace(listing, clips=clips), tmp_path / name, CONFIG) is not None
        assert pack(replace(listing, clips=clips), tmp_path / name, CONFIG) is None
        written[name] = content(tmp_path / name)
    assert written["all"] == written["some"] == written["none"]
    assert json.loads((tmp_path / "some" / REPORT_NAME).read_bytes())["broken"]["jump/bad"]["file"] == "jump/bad.mp4"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.EACCES, "Permission denied", "/elsewhere/a.npz"),
            r"^/elsewhere/a\.npz: Permission denied; mend",
        ),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), r"^Resource temporarily unavailable; mend that"),
        (OSError(errno.ENOSPC, "No space left on device"), r"^--out .*: cannot be written \(No space left on device\)"),
    ],
)
def test_what_is_no_fault_of_the_place_is_not_blamed_on_it(tmp_path, videos, monkeypatch, error, sentence):
    def fail(*_, **__) -> None:
        raise error

    monkeypatch.setattr("shards.packing.packer.run_in_order", fail)
    with pytest.raises(UserError, match=sentence):
        pack(listing_of(videos), tmp_path / "out", CONFIG)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 300 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(disk)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mount.stderr.strip()}")
    yield disk
    subprocess.run(
        ["umount", "--lazy", str(disk)], check=True
    )  # a worker that is just ending may still have a file open


def test_a_full_disk_stops_the_pack_in_one_sentence_and_loses_nothing(tmp_path, many_clips, small_disk):
    config = PackConfig(height=64, samples_per_shard=20, workers=1)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); mend that"):
        pack(many_clips, small_disk / "out", config)
    done = list((small_disk / ".out.packing" / "journals").glob("*.journal"))
    assert done
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    progress = Progress()
    pack(many_clips, small_disk / "out", config, progress=progress)
    assert progress.calls[0] >= 16
    pack(many_clips, tmp_path / "undisturbed", config)
    assert content(small_disk / "out") == content(tmp_path / "undisturbed")
    assert {path.name for path in small_disk.iterdir()} == {"out"}


def test_a_mounted_disk_is_refused_before_packing(videos, small_disk):
    with pytest.raises(UserError, match="a disk is mounted there, and cannot be replaced; choose a folder in it"):
        pack(listing_of(videos), small_disk, CONFIG)


def test_a_read_only_place_is_refused_in_one_sentence(videos, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UserError, match=r"--out .*cannot be written \(Read-only file system\)"):
        pack(listing_of(videos), small_disk / "out", CONFIG)

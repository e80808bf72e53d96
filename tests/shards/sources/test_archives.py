"""Videos in tar archives: found as if the archives were unpacked, whatever lists them, and read as ranges of bytes."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.decoding.archive_member import ArchiveMember, are_one_file
from shards.errors import UserError
from shards.sources import CsvSource, FolderSource, Kinetics400Source, Ucf101Source
from shards.sources.files.archives import read_archive
from shards.sources.files.video_files import read_video_tree
from tests.shards.sources.files import names, touch

KINETICS = "label,youtube_id,time_start,time_end,split\nrun,aaaaaaaaaaa,1,11,train\njump,bbbbbbbbbbb,2,12,train\n"


def write_tar(path: Path, files: dict[str, bytes], **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def contents(listing) -> dict[str, bytes]:
    """What the videos of a listing hold, by the names of the clips."""
    found = {}
    for entry in listing.clips:
        with entry.path.open("rb") as file:
            found[entry.name] = file.read()
        assert entry.path.stat().st_size == len(found[entry.name])
    return found


PARTS = st.sampled_from(["run", "jump", "a", "b.mp4", "ä", "long" * 30])
FILES = st.dictionaries(
    st.lists(PARTS, max_size=3).map("/".join).map(lambda folder: f"{folder}/x.mp4" if folder else "x.mp4"),
    st.binary(max_size=2000),
    min_size=1,
)


@given(FILES, st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_members_are_the_bytes_that_unpacking_gives(tmp_path_factory, files, form):
    if form == tarfile.USTAR_FORMAT:
        files = {name: content for name, content in files.items() if len(os.fsencode(name)) < 100} or {"x.mp4": b"x"}
    root = tmp_path_factory.mktemp("root")
    archive = write_tar(root / "all.tar", files, format=form)
    found = read_archive(archive)
    assert found.faults == ()
    read = {}
    for member in found.members:
        with member.open() as file:
            read[member.inner_path] = file.read()
            file.seek(-1, os.SEEK_END) if read[member.inner_path] else None
            assert file.read(5) == read[member.inner_path][-1:]
            file.seek(3)
            assert file.read(4) == read[member.inner_path][3:7]
    assert read == files
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked / "all" if found.is_flat else unpacked, filter="data")
    assert read_video_tree(root, "videos").videos == read_video_tree(unpacked, "videos").videos


@pytest.mark.parametrize("flat", [True, False])
def test_a_folder_of_archives_is_the_folder_that_unpacking_gives(tmp_path, flat):
    if flat:
        write_tar(tmp_path / "run.tar", {"./x.mp4": b"1", "y.avi": b"2", "notes.txt": b"no video"})
        write_tar(tmp_path / "jump.TAR", {"x.mp4": b"3"})
    else:
        write_tar(tmp_path / "part_0.tar", {"run/x.mp4": b"1", "README.md": b"no video"})
        write_tar(tmp_path / "part_1.tar", {"run/y.avi": b"2", "jump/x.mp4": b"3", "run/._y.avi": b"", ".h/z.mp4": b""})
    listing = FolderSource(root=tmp_path).listing()
    assert contents(listing) == {"jump/x": b"3", "run/x": b"1", "run/y": b"2"}
    assert listing.classes == ("jump", "run")
    assert listing.unlisted == ()
    assert str(listing.clips[-1].path) == f"{tmp_path}/{'run.tar/y.avi' if flat else 'part_1.tar/run/y.avi'}"


@pytest.mark.parametrize("layout", ["part_0.tar", "run.tar", "train/part_0.tar", "replacement/part.tar"])
def test_kinetics_is_found_in_its_archives(tmp_path, layout):
    (tmp_path / "train.csv").write_text(KINETICS)
    write_tar(tmp_path / "videos" / layout, {"aaaaaaaaaaa_000001_000011.mp4": b"1", "zzzzzzzzzzz.mp4": b"2"})
    listing = Kinetics400Source(root=tmp_path / "videos", annotations=(tmp_path / "train.csv",)).listing()
    assert contents(listing) == {"run/aaaaaaaaaaa_000001_000011": b"1"}
    assert names(listing.missing) == ["jump/bbbbbbbbbbb_000002_000012"]
    assert listing.unlisted == (f"{layout}/zzzzzzzzzzz.mp4",)


def test_ucf101_is_found_in_one_archive_of_all_classes(tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "classInd.txt").write_text("1 Run\n2 Jump\n")
    (labels / "trainlist01.txt").write_text("Run/v_Run_g01_c01.avi 1\nJump/v_Jump_g01_c01.avi 2\n")
    (labels / "testlist01.txt").write_text("Run/v_Run_g02_c01.avi\n")
    write_tar(tmp_path / "videos/UCF-101.tar", {"UCF-101/Run/v_Run_g01_c01.avi": b"1", "UCF-101/Run/other.avi": b"2"})
    listing = Ucf101Source(root=tmp_path / "videos", labels=labels).listing()
    assert contents(listing) == {"Run/v_Run_g01_c01": b"1"}
    assert listing.unlisted == ("UCF-101.tar/UCF-101/Run/other.avi",)


@pytest.mark.parametrize(
    ("archive", "member", "row"),
    [
        ("part.tar", "x.mp4", "part/x.mp4"),
        ("part.tar", "x.mp4", "part.tar/x.mp4"),
        ("deep/part.tar", "run/x.mp4", "deep/run/x.mp4"),
        ("deep/part.tar", "run/x.mp4", "deep/part.tar/run/x.mp4"),
        ("part.tar", "deep/run/x.mp4", "deep/run/x.mp4"),
    ],
)
@pytest.mark.parametrize("absolute", [False, True])
def test_a_csv_file_names_members_as_unpacked_or_as_in_a_folder(tmp_path, monkeypatch, archive, member, row, absolute):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "videos" if absolute else Path("videos")
    write_tar(root / archive, {member: b"1"})
    touch(root / "deep/run/other.mp4")
    (tmp_path / "list.csv").write_text(f"path,label\n{row},run\n{row[:-5]}y.mp4,run\n")
    listing = CsvSource(file=tmp_path / "list.csv", root=root).listing()
    assert contents(listing) == {"run/x": b"1"}
    assert names(listing.missing) == ["run/y"]


def test_an_archive_that_is_kept_beside_its_unpacked_videos_counts_once(tmp_path):
    write_tar(tmp_path / "run.tar", {"x.mp4": b"packed", "y.mp4": b"only packed"})
    touch(tmp_path / "run/x.mp4")
    assert contents(FolderSource(root=tmp_path).listing()) == {"run/x": b"", "run/y": b"only packed"}
    (tmp_path / "list.csv").write_text("path,label\nrun/x.mp4,run\nrun/y.mp4,run\n")
    assert contents(CsvSource(file=tmp_path / "list.csv").listing()) == {"run/x": b"", "run/y": b"only packed"}


def test_one_place_in_two_archives_is_refused_and_names_both(tmp_path):
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / name, {"run/x.mp4": b"1"})
    with pytest.raises(UserError, match=r"a\.tar/run/x\.mp4 .*b\.tar/run/x\.mp4|b\.tar.*a\.tar"):
        FolderSource(root=tmp_path).listing()
    touch(tmp_path / "run/x.mp4")
    assert contents(FolderSource(root=tmp_path).listing()) == {"run/x": b""}


def test_of_a_file_that_was_added_again_the_last_counts_and_links_lead_to_their_file(tmp_path):
    videos = tmp_path / "run"
    touch(videos / "x.mp4")
    subprocess.run(["tar", "cf", "run.tar", "run"], cwd=tmp_path, check=True)
    (videos / "x.mp4").write_bytes(b"new")
    os.link(videos / "x.mp4", videos / "z.mp4")
    (videos / "s.mp4").symlink_to("x.mp4")
    subprocess.run(["tar", "rf", "run.tar", "run"], cwd=tmp_path, check=True)
    for path in videos.iterdir():
        path.unlink()
    listing = FolderSource(root=tmp_path).listing()
    assert contents(listing) == {"run/x": b"new", "run/z": b"new"}
    first, second = (entry.path for entry in listing.clips)
    assert are_one_file(first, second)
    assert not are_one_file(first, tmp_path / "run.tar")
    assert listing.unlisted == ("run.tar (run/s.mp4 is a link or has holes; unpack it)",)


def test_a_file_that_leads_out_of_its_archive_is_not_read(tmp_path):
    write_tar(tmp_path / "run.tar", {"../../x.mp4": b"1", "/run/y.mp4": b"2"})
    listing = FolderSource(root=tmp_path).listing()
    assert contents(listing) == {"run/y": b"2"}
    assert listing.unlisted == ("run.tar (../../x.mp4 leads out of it; unpack it by hand)",)


BLOCK = 512


@pytest.mark.parametrize(
    ("kept", "found", "told"),
    [
        (3 * BLOCK, {"run/x"}, "cut short or damaged after run/x.mp4"),  # in the second header's file
        (3 * BLOCK - 1, {"run/x"}, "cut short or damaged after run/x.mp4"),
        (2 * BLOCK, {"run/x"}, "may be cut short after run/x.mp4: the mark of its end lacks"),
        (2 * BLOCK - 1, {"run/x"}, "cut short or damaged after run/x.mp4"),  # its bytes are there, the padding not
        (BLOCK + 9, set(), "no tar archive, or damaged"),
        (0, set(), "no tar archive, or damaged"),
    ],
)
def test_a_truncated_archive_is_told_by_name_and_gives_what_is_whole(tmp_path, kept, found, told):
    archive = write_tar(tmp_path / "part.tar", {"run/x.mp4": b"1" * 10, "run/y.mp4": b"2" * 900})
    archive.write_bytes(archive.read_bytes()[:kept])
    if not found:
        with pytest.raises(UserError, match=rf"^--root {tmp_path}: part\.tar \({told}; fetch it again\)$"):
            FolderSource(root=tmp_path).listing()
    touch(tmp_path / "jump/z.mp4")
    listing = FolderSource(root=tmp_path).listing()
    assert {*names(listing.clips)} == {"jump/z", *found}
    assert listing.unlisted == (f"part.tar ({told}; fetch it again)",)
    (tmp_path / "list.csv").write_text("path,label\nrun/x.mp4,run\nrun/y.mp4,run\n")
    listed = CsvSource(file=tmp_path / "list.csv").listing()
    assert {*names(listed.clips)} == found
    assert listed.unlisted == (f"{tmp_path}/part.tar ({told}; fetch it again)",)


@given(st.data())
def test_a_damaged_archive_gives_no_file_that_is_not_whole(tmp_path_factory, data):
    files = {f"run/{number}.mp4": bytes([number]) * (300 * number) for number in range(1, 5)}
    archive = write_tar(tmp_path_factory.mktemp("root") / "part.tar", files)
    whole = bytearray(archive.read_bytes())
    for position in data.draw(st.lists(st.integers(0, 4 * BLOCK), min_size=1, max_size=3)):
        whole[position] ^= data.draw(st.integers(1, 255))
    del whole[data.draw(st.integers(1, len(whole))) :]
    archive.write_bytes(whole)
    found = read_archive(archive)
    for member in found.members:
        with member.open() as file:
            assert len(file.read()) == member.size_bytes


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_a_compressed_archive_of_videos_is_told_with_a_remedy(tmp_path, suffix):
    write_tar(tmp_path / "run.tar", {"run/x.mp4": b"1"})
    modes = {"tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}
    with tarfile.open(tmp_path / f"run.{suffix}", modes[suffix]) as tar:
        tar.add(tmp_path / "run.tar", "x.mp4")
    (tmp_path / "run.tar").unlink()
    sentence = r"a compressed archive, in which no video can be read alone: decompress it to a \.tar, as gunzip does"
    with pytest.raises(UserError, match=rf"run\.{suffix} \({sentence}\)"):
        FolderSource(root=tmp_path).listing()
    touch(tmp_path / "jump/z.mp4")
    (told,) = FolderSource(root=tmp_path).listing().unlisted
    assert told.startswith(f"run.{suffix} (a compressed")


def test_archives_without_videos_and_packed_shards_are_passed_over_in_silence(tmp_path):
    touch(tmp_path / "run/x.mp4")
    write_tar(tmp_path / "masks.tar", {"run/x.npz": b"1", "run/1.png": b"2"})
    write_tar(tmp_path / "out/shard-000000.tar", {"000000000.000.video.mp4": b"1"})
    with tarfile.open(tmp_path / "labels.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "masks.tar", "labels.csv")
    (tmp_path / "list.tar.gz").write_bytes(b"no archive")
    listing = FolderSource(root=tmp_path).listing()
    assert names(listing.clips) == ["run/x"]
    assert listing.unlisted == ()


def test_a_member_whose_archive_is_gone_says_so(tmp_path):
    member = ArchiveMember(tmp_path / "gone.tar", "x.mp4", 512, 10)
    for use in (member.stat, member.open):
        with pytest.raises(FileNotFoundError) as caught:
            use()
        assert Path(caught.value.filename) == tmp_path / "gone.tar"

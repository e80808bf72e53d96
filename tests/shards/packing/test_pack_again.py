"""Packs that are there already: when they are known again, and what is made anew."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scenebias.annotators import SceneFile, open_mask_source
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.sample import SCENE_COUNT
from shards.packing import source_files
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import pack
from shards.packing.request import Annotators
from shards.sources import Listing
from shards.system.checksums import sha256_of
from tests.shards.packing.packs import CONFIG, Progress, StopHereError, content, listing_of, mask_files, write_scenes


def test_a_second_run_returns_at_once_and_other_content_is_kept(tmp_path, videos):
    listing = listing_of(videos)
    out = tmp_path / "out"
    assert pack(listing, out, CONFIG) is not None
    before = content(out)
    assert pack(listing, out, PackConfig(height=32, samples_per_shard=3, workers=2)) is None
    with pytest.raises(UserError, match=r"holds another data set, .*--overwrite"):
        pack(listing, out, PackConfig(height=48, workers=1))
    assert content(out) == before
    assert pack(listing, out, PackConfig(height=48, workers=1), overwrite=True) is not None
    assert ShardDataset.open(out).manifest.frame_height == 48
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_data_set_that_lacks_a_shard_or_is_damaged_is_not_called_complete(tmp_path, videos):
    listing, out = listing_of(videos), tmp_path / "out"
    for damage in ("shard-000001.tar", "samples.npy", "manifest.json"):
        pack(listing, out, CONFIG, overwrite=True)
        whole = content(out)
        assert pack(listing, out, CONFIG) is None
        (out / damage).write_bytes(b"{")
        with pytest.raises(UserError, match="or a damaged one"):
            pack(listing, out, CONFIG)
        assert pack(listing, out, CONFIG, overwrite=True) is not None
        assert content(out) == whole


def test_strict_refuses_a_data_set_that_was_packed_without(tmp_path, videos):
    listing = listing_of(videos)
    pack(listing, tmp_path / "out", CONFIG)
    with pytest.raises(UserError, match="--strict: broken: jump/bad"):
        pack(listing, tmp_path / "out", CONFIG, strict=True)


def test_masks_that_are_exchanged_are_noticed(tmp_path, videos, masks):
    listing = listing_of(videos)
    pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing))
    one, other = masks / "jump" / "clip1.npz", masks / "jump" / "clip3.npz"
    one.rename(masks / "aside")
    other.rename(one)
    (masks / "aside").rename(other)
    with pytest.raises(UserError, match="annotations have changed since"):
        pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing))


def test_input_that_changes_while_packing_is_noticed_and_taken_up(tmp_path, videos, masks):
    listing = listing_of(videos)

    class Change(Progress):
        def update(self, done: int) -> None:
            np.savez(masks / "jump" / "clip1.npz", masks=np.zeros((5, 48, 64), bool))

    annotators = mask_files(masks, listing)
    with pytest.raises(UserError, match="have changed meanwhile; give the same command again"):
        pack(listing, tmp_path / "out", CONFIG, annotators=annotators, progress=Change())
    pack(listing, tmp_path / "out", CONFIG, annotators=annotators)
    pack(listing, tmp_path / "fresh", CONFIG, annotators=annotators)
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_a_shard_whose_input_has_changed_is_made_again_and_no_other(tmp_path, videos, many_clips):
    root = tmp_path / "videos"
    shutil.copytree(videos, root)
    clips = tuple(replace(e, path=root / e.path.relative_to(videos)) for e in many_clips.clips)
    listing = replace(many_clips, clips=clips)
    config = PackConfig(height=16, samples_per_shard=10, workers=1)
    with pytest.raises(StopHereError):
        pack(listing, tmp_path / "out", config, progress=Progress(stop_after=6))
    done = {path.name: path.stat().st_ino for path in (tmp_path / ".out.packing" / "dataset").glob("*.tar")}
    assert len(done) == 5  # the sixth is whole, but not finished
    (root / "jump" / "bad.mp4").write_bytes((root / "jump" / "clip1.mp4").read_bytes())
    report = pack(listing, tmp_path / "out", config)
    assert not report.broken
    shards = {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}
    assert sum(shards[name] != done[name] for name in done) <= 1
    pack(listing, tmp_path / "fresh", config)
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_masks_made_anew_are_noticed_even_where_their_size_is_the_same(tmp_path, videos, masks):
    listing = listing_of(videos)
    assert pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing)) is not None
    assert pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing)) is None
    np.savez(masks / "jump" / "clip1.npz", masks=np.zeros((5, 48, 64), bool))
    with pytest.raises(UserError, match="holds another data set"):
        pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing))


@pytest.fixture
def own_input(tmp_path, videos, masks) -> tuple[Path, Callable[[Path], tuple[Listing, Annotators]]]:
    """Videos, masks and scene labels of the test, and what to pack of such a folder."""
    root = tmp_path / "input"
    shutil.copytree(videos, root / "videos")
    shutil.copytree(masks, root / "masks")
    write_scenes(root / "scenes.npz", [entry.name for entry in listing_of(videos).clips])

    def input_in(folder: Path) -> tuple[Listing, Annotators]:
        listing = listing_of(folder / "videos")
        source = open_mask_source(folder / "masks", listing.clips)
        return listing, Annotators(mask_source=source, scene_source=SceneFile(folder / "scenes.npz"))

    return root, input_in


def is_known_again(folder: Path, out: Path, input_in: Callable[[Path], tuple[Listing, Annotators]]) -> bool:
    """Whether a pack of the folder finds that ``out`` holds its data set."""
    listing, annotators = input_in(folder)
    before = content(out)
    again = pack(listing, out, CONFIG, annotators=annotators, overwrite=True) is None
    assert not again or content(out) == before
    return again


def test_a_finished_pack_is_known_again_by_the_content_of_its_files_whatever_clocks_say(tmp_path, own_input):
    root, input_in = own_input
    out, files = tmp_path / "out", sorted(path for path in root.rglob("*") if path.is_file())
    for path in files:
        os.utime(path, (2e9, 2e9))  # in the future, by the clock of another machine
    listing, annotators = input_in(root)
    pack(listing, out, CONFIG, annotators=annotators)
    assert is_known_again(root, out, input_in)
    for path in files:
        path.chmod(0o400)
        os.utime(path, (1e9, 1e9))
    assert is_known_again(root, out, input_in)
    copied = Path(shutil.copytree(root, tmp_path / "copied", copy_function=shutil.copyfile))
    assert is_known_again(copied, Path(shutil.copytree(out, tmp_path / "elsewhere")), input_in)


def change(path: Path) -> None:
    """Give a file another content of the same size."""
    size = path.stat().st_size
    if path.suffix == ".npz":
        arrays = dict(np.load(path))
        if "masks" in arrays:
            arrays["masks"] = ~arrays["masks"]
        else:
            arrays["probs"] = np.eye(SCENE_COUNT)[: len(arrays["probs"])]
        np.savez(path, **arrays)
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert path.stat().st_size == size


@pytest.mark.parametrize("name", ["videos/run/clip2.mp4", "videos/jump/bad.mp4", "masks/jump/clip1.npz", "scenes.npz"])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_file_of_another_content_makes_another_data_set(tmp_path, own_input, name, recorded):
    """An earlier version has recorded nothing but the videos of the clips that it packed."""
    root, input_in = own_input
    listing, annotators = input_in(root)
    pack(listing, tmp_path / "out", CONFIG, annotators=annotators)
    if not recorded:
        (tmp_path / "out" / "inputs.npy").unlink()
        assert is_known_again(root, tmp_path / "out", input_in)
    change(root / name)
    assert is_known_again(root, tmp_path / "out", input_in) == (not recorded and "clip2" not in name)


def test_only_files_with_other_times_are_read_to_know_a_pack_again(tmp_path, own_input, monkeypatch):
    root, input_in = own_input
    listing, annotators = input_in(root)
    pack(listing, tmp_path / "out", CONFIG, annotators=annotators)
    read = []
    monkeypatch.setattr(source_files, "sha256_of", lambda path: read.append(path) or sha256_of(path))
    assert is_known_again(root, tmp_path / "out", input_in)
    assert read == []
    touched = [root / "videos" / "run" / "clip2.mp4", root / "scenes.npz"]
    for path in touched:
        os.utime(path, (1e9, 1e9))
    assert is_known_again(root, tmp_path / "out", input_in)
    assert read == touched


def test_a_pack_of_touched_files_differs_in_what_it_says_of_their_times_alone(tmp_path, own_input):
    root, input_in = own_input
    folders = []
    for name in ("before", "after"):
        listing, annotators = input_in(root)
        pack(listing, tmp_path / name, CONFIG, annotators=annotators)
        folders.append(content(tmp_path / name))
        for path in root.rglob("*"):
            os.utime(path, (1e9, 1e9))
    assert {name for name in folders[0] if folders[0][name] != folders[1].get(name)} == {"inputs.npy"}

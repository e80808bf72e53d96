import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenebias.annotators import JhmdbMasks, SceneFile, open_mask_source
from shards.codecs.filmstrip import decode_strip, encode_strips
from shards.codecs.masks import unpack_masks
from shards.dataset import ShardDataset
from shards.decoding.video import open_video
from shards.errors import UserError
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import REPORT_NAME, pack
from shards.packing.request import Annotators
from shards.sources import ClipEntry, FolderSource, Listing
from shards.sources.listing import MissingClip
from tests.shards.packing.packs import (
    CONFIG,
    CONFIG_16,
    Progress,
    assert_nothing_left,
    listing_of,
    mask_files,
    real_listing,
    write_scenes,
)


def test_what_is_stored_is_what_was_decoded(tmp_path, videos, masks):
    listing = listing_of(videos)
    report = pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing))
    assert report is not None
    assert list(report.broken) == ["jump/bad"]
    assert report.without_masks == ("jump/clip5",)
    counts = {name: (c.wanted, c.packed, c.missing, c.broken) for name, c in report.counts().items()}
    assert counts == {"jump": (4, 3, 0, 1), "none": (0, 0, 0, 0), "run": (3, 3, 0, 0)}

    dataset = ShardDataset.open(tmp_path / "out")
    assert list(dataset.verify()) == []
    assert [clip.name for clip in dataset.manifest.broken] == ["jump/bad"]
    assert dataset.manifest.class_counts == (3, 0, 3)
    assert sum(shard.masks for shard in dataset.manifest.shards) == 5
    for shard in dataset.manifest.shards:
        data = (tmp_path / "out" / shard.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
    entries = {entry.name: entry for entry in listing.clips}
    for i in range(len(dataset)):
        info = dataset.info(i)
        entry = entries.pop(info.name)
        assert listing.classes[dataset.labels[i]] == entry.class_name
        assert info.source_sha256 == hashlib.sha256(entry.path.read_bytes()).hexdigest()
        assert info.fps == 25
        clip = dataset.read_clip(i, np.arange(info.frame_count))
        with open_video(entry.path) as video:
            original = np.stack([frame.rgb(32) for frame in video.frames()])
        (strip,) = encode_strips(original, CONFIG.quality)
        assert np.array_equal(dataset.decode(i, clip), decode_strip(strip, 32))
        if info.name == "jump/clip5":
            assert clip.masks is None
            continue
        mask_THW = unpack_masks(clip.masks, info.mask_width)
        assert mask_THW.shape[1:] == (16, round(info.width / 2))
        assert not mask_THW[0].any()
        assert mask_THW[1:, :, :10].all()
        assert not mask_THW[:, :, 12:].any()
        assert info.person_share == (info.frame_count - 1) / info.frame_count
    assert list(entries) == ["jump/bad"]


def test_the_seed_decides_the_order(tmp_path, videos):
    listing = listing_of(videos)
    names = []
    for seed in (0, 1):
        pack(listing, tmp_path / f"{seed}", PackConfig(height=32, workers=1, seed=seed))
        dataset = ShardDataset.open(tmp_path / f"{seed}")
        names.append([dataset.info(i).name for i in range(len(dataset))])
    assert names[0] != names[1]
    assert sorted(names[0]) == sorted(names[1])
    assert names[0] != sorted(names[0])


@pytest.mark.parametrize("shape", [(9, 48, 64), (3, 48, 64), (5, 64, 48), (5, 32, 42)])
def test_a_clip_whose_masks_misfit_is_set_aside_and_named(tmp_path, videos, masks, shape):
    np.savez(masks / "jump" / "clip1.npz", masks=np.ones(shape, bool))
    listing = listing_of(videos)
    sentence = r"clip1\.npz: masks of shape .* for 5 frames of 48x64"
    report = pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing))
    assert report.broken.keys() == {"jump/bad", "jump/clip1"}
    assert re.search(sentence, report.broken["jump/clip1"])
    only = replace(listing, clips=tuple(entry for entry in listing.clips if entry.name == "jump/clip1"))
    with pytest.raises(UserError, match=f"--strict: broken: .*{sentence}"):
        pack(only, tmp_path / "strict", CONFIG, annotators=mask_files(masks, listing), strict=True)


def test_a_mistake_that_breaks_every_clip_stops_the_pack_at_once(tmp_path, videos):
    entry = ClipEntry("jump/bad", videos / "jump" / "bad.mp4", "jump")
    clips = tuple(replace(entry, name=f"jump/bad{number}") for number in range(40))
    seen = Progress()
    with pytest.raises(UserError, match=r"none of the first 16 clips could be packed: jump/bad\d+ \("):
        pack(Listing("d", "1", "all", ("jump",), clips), tmp_path / "deep" / "out", CONFIG_16, progress=seen)
    assert seen.calls == [0]
    assert_nothing_left(tmp_path)


def test_strict_makes_missing_and_broken_clips_errors(tmp_path, videos):
    listing = listing_of(videos)
    with pytest.raises(UserError, match="--strict: broken: jump/bad"):
        pack(listing, tmp_path / "broken", CONFIG, strict=True)
    assert not (tmp_path / "broken").exists()
    gone = MissingClip("run/gone", videos / "run" / "gone.mp4", "run")
    listing = Listing("d", "1", "all", ("run",), tuple(e for e in listing.clips if e.class_name == "run"), (gone,))
    with pytest.raises(UserError, match=r"--strict: missing: .*gone\.mp4"):
        pack(listing, tmp_path / "out", CONFIG, strict=True)
    assert not list(tmp_path.glob("*out*"))
    report = pack(listing, tmp_path / "out", CONFIG)
    assert report is not None
    assert [clip.name for clip in ShardDataset.open(tmp_path / "out").manifest.missing] == ["run/gone"]


def test_strict_refuses_clips_without_masks(tmp_path, videos, masks):
    listing = listing_of(videos)
    with pytest.raises(UserError, match=r"--strict: without masks: jump/clip5; .*--masks none"):
        pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing), strict=True)
    assert_nothing_left(tmp_path)


def test_clips_without_a_scene_label_are_packed_and_reported(tmp_path, videos):
    listing = listing_of(videos)
    names = [entry.name for entry in listing.clips if entry.name not in ("jump/bad", "run/clip2")]
    annotators = Annotators(scene_source=write_scenes(tmp_path / "some.npz", names))
    report = pack(listing, tmp_path / "out", CONFIG, annotators=annotators)
    assert list(report.broken) == ["jump/bad"]
    assert report.without_scenes == ("run/clip2",)
    assert ShardDataset.open(tmp_path / "out").scene_count == 5
    assert json.loads((tmp_path / "out" / REPORT_NAME).read_bytes())["without_scenes"] == ["run/clip2"]
    whole = replace(listing, clips=tuple(entry for entry in listing.clips if entry.name != "jump/bad"))
    with pytest.raises(UserError, match=r"--strict: without a scene label: run/clip2; .*--scenes none"):
        pack(whole, tmp_path / "strict", CONFIG, annotators=annotators, strict=True)


def test_a_pack_without_any_whole_clip_is_an_error_and_leaves_nothing(tmp_path, videos):
    bad = ClipEntry("jump/bad", videos / "jump" / "bad.mp4", "jump")
    with pytest.raises(UserError, match=r"none of the first 1 clips could be packed: jump/bad \("):
        pack(Listing("d", "1", "all", ("jump",), (bad,)), tmp_path / "out", CONFIG)
    with pytest.raises(UserError, match=r"none of its videos is there, for example .*bad\.mp4; check --root"):
        pack(Listing("d", "1", "all", ("jump",), (), (bad,)), tmp_path / "out", CONFIG)
    with pytest.raises(UserError, match="none of its videos is there; check --root"):
        pack(Listing("d", "1", "all", ("jump",), ()), tmp_path / "out", CONFIG)
    assert_nothing_left(tmp_path)


def test_clips_may_be_ranges_of_one_video(tmp_path, videos):
    path = videos / "run" / "clip4.mp4"
    clips = (ClipEntry("run/first", path, "run", 0, 3), ClipEntry("run/rest", path, "run", 3))
    pack(Listing("d", "1", "all", ("run",), clips), tmp_path / "out", CONFIG)
    dataset = ShardDataset.open(tmp_path / "out")
    assert {dataset.info(i).name: dataset.info(i).frame_count for i in range(2)} == {"run/first": 3, "run/rest": 5}


def test_clips_of_equal_files_are_told_by_the_checksums(tmp_path, videos):
    copied = {
        "run/a": "run/clip0",
        "run/b": "run/clip0",
        "jump/c": "run/clip0",
        "jump/bad2": "jump/bad",
        "run/d": "run/clip4",
    }
    root = tmp_path / "videos"
    shutil.copytree(videos, root)
    for new, old in copied.items():
        shutil.copy(root / f"{old}.mp4", root / f"{new}.mp4")
    (root / "run/b.mp4").unlink()
    (root / "run/b.mp4").symlink_to("a.mp4")
    listing = FolderSource(root=root).listing()
    assert listing.remarks == {}
    report = pack(listing, tmp_path / "out", CONFIG)
    same = "run/a (a.mp4), run/b (b.mp4), run/clip0 (clip0.mp4)"
    assert report.remarks == {
        "clips that are there twice": (same, "run/clip4 (clip4.mp4), run/d (d.mp4)"),
        "clips with two labels": (f"jump/c (c.mp4), {same}",),
    }
    saved = json.loads((tmp_path / "out" / REPORT_NAME).read_bytes())["remarks"]
    assert saved == {kind: list(items) for kind, items in report.remarks.items()}


def test_strict_refuses_an_empty_class_unless_the_lists_have_none_of_it(tmp_path, videos):
    clips = tuple(entry for entry in listing_of(videos).clips if entry.name != "jump/bad")
    listing = replace(listing_of(videos), clips=clips)
    with pytest.raises(UserError, match="--strict: classes without any clip: none; "):
        pack(replace(listing, may_lack_classes=False), tmp_path / "out", CONFIG, strict=True)
    assert pack(listing, tmp_path / "out", CONFIG, strict=True) is not None


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"height": 100}, "height"),
        ({"height": 65504}, "height"),
        ({"quality": 0}, "quality"),
        ({"mask_scale": 1.5}, "mask_scale"),
        ({"samples_per_shard": 0}, "samples_per_shard"),
        ({"workers": 0}, "workers"),
        ({"codec": "av1"}, "codec"),
        ({"codec": "h264", "crf": 52}, "crf"),
        ({"codec": "vp9", "crf": 0}, "crf"),
        ({"segment_frames": 0}, "segment_frames"),
        ({"network_side": 0}, "network_side"),
    ],
)
def test_options_are_checked(options, field):
    with pytest.raises(ValueError, match=field):
        PackConfig(**options)


def assert_real_clips_are_kept(listing: Listing, root: Path, out: Path) -> None:
    masks, scenes = open_mask_source(root / "masks", listing.clips), SceneFile(root / "scene_probs.npz")
    report = pack(listing, out, PackConfig(workers=2), annotators=Annotators(mask_source=masks, scene_source=scenes))
    assert report is not None
    assert report.packed_count == len(listing.clips) == 12
    dataset = ShardDataset.open(out)
    assert list(dataset.verify()) == []
    entries = {entry.name: entry for entry in listing.clips}
    for i in range(len(dataset)):
        info = dataset.info(i)
        entry = entries[info.name]
        assert (info.width, info.height, info.mask_width, info.mask_height) == (170, 128, 85, 64)
        assert np.array_equal(dataset.scenes[i], scenes.vector(entry))
        original_NHW = masks.load(entry, info.frame_count, 240, 320, info.fps)
        assert info.person_share == original_NHW.any(axis=(1, 2)).mean()
        packed = dataset.read_clip(i, np.array([0, info.frame_count - 1])).masks
        for stored, original in zip(unpack_masks(packed, 85), original_NHW[[0, -1]], strict=True):
            reference = np.asarray(Image.fromarray(original.astype(np.uint8) * 255).resize((85, 64), Image.BILINEAR))
            assert (stored == (reference >= 128)).mean() > 0.98


def test_real_clips_keep_their_frames_masks_and_scenes(tmp_path, real_data):
    root = real_data / "jhmdb"
    assert_real_clips_are_kept(real_listing(root / "videos", real_data / "labels"), root, tmp_path / "out")


def test_masks_drawn_at_another_rate_than_the_video_s_fit_once_the_rate_is_known(tmp_path, real_data, write_video):
    """As copies of JHMDB in circulation: frames are repeated to reach 30 fps; the masks were drawn at 25."""
    root = real_data / "jhmdb"
    for entry in real_listing(root / "videos", real_data / "labels").clips:
        with open_video(entry.path) as video:
            frames = [frame.rgb(240) for frame in video.frames()]
        retimed = [frames[number * 25 // 30] for number in range(len(frames) * 30 // 25)]
        write_video(tmp_path / "videos" / f"{entry.name}.mp4", retimed, fps=30)
    listing = real_listing(tmp_path / "videos", real_data / "labels", every=1)
    with pytest.raises(UserError, match=r"none of the first 12 clips .* masks of shape .*--mask-fps"):
        pack(listing, tmp_path / "out", CONFIG_16, annotators=Annotators(mask_source=JhmdbMasks(root / "masks")))
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]
    assert_real_clips_are_kept(listing, root, tmp_path / "out")

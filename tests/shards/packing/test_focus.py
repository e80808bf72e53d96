"""Data sets of squares around people: what is stored is what a hand would cut out of the video, masks alike."""

import json
import tarfile
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from scenebias.annotators import JhmdbMasks
from shards.codecs.masks import resize_masks
from shards.dataset import ShardDataset
from shards.decoding.video import open_video
from shards.errors import UserError
from shards.format.focus import WHOLE_FRAMES, Focus
from shards.format.manifest import Manifest
from shards.format.sample import Crop
from shards.packing.clip_preparation import PackConfig, prepare_clip
from shards.packing.pack import REPORT_NAME, pack
from shards.packing.request import Annotators
from shards.sources import ClipEntry, FolderSource, Listing
from tests.shards.packing.packs import (
    BatchMean,
    Progress,
    StopHereError,
    content,
    mask_files,
    pack_as_processes,
    real_listing,
)

CONFIG = PackConfig(height=32, samples_per_shard=3, workers=1, mask_scale=1, focus="person")
HEIGHT, WIDTH, FRAMES = 72, 128, 7
WITH_PEOPLE = ("a/one", "a/two", "b/three")


def person(number: int) -> np.ndarray:
    """Somebody who walks to the right, bool (N, H, W); another size for every clip."""
    mask_NHW = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for frame, mask_HW in enumerate(mask_NHW):
        mask_HW[20 : 36 + number, 40 + 3 * frame : 48 + 3 * frame] = True
    return mask_NHW


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_video) -> Path:
    """Clips with noise behind a person, whose masks are in ``masks``: of "none" they show nobody, "bare" has none."""
    folder = tmp_path_factory.mktemp("focus")
    random = np.random.default_rng(0)
    for number, name in enumerate((*WITH_PEOPLE, "a/none", "b/bare")):
        coarse = random.integers(0, 120, (FRAMES, HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
        frames_NHWC = coarse.repeat(4, axis=1).repeat(4, axis=2)
        mask_NHW = person(number)
        frames_NHWC[mask_NHW] = 255
        write_video(folder / "videos" / f"{name}.mp4", frames_NHWC)
        if number != 4:
            (folder / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
            np.savez(folder / "masks" / f"{name}.npz", masks=mask_NHW if number != 3 else np.zeros_like(mask_NHW))
    return folder


@pytest.fixture(scope="module")
def listing(folder: Path) -> Listing:
    return FolderSource(root=folder / "videos").listing()


def cut_by_hand(path: Path, crop: Crop, height: int) -> np.ndarray:
    """The planes of every frame, cut, then scaled as packing scales a smaller video: uint8 (N, height, height, 3)."""
    scaled = []
    scaler = VideoReformatter()
    kind = Interpolation.AREA if crop.height > height else Interpolation.BICUBIC
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            planes_CHW = frame.to_ndarray(channel_last=False)
            assert frame.format.name == "yuv444p"
            square = planes_CHW[:, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
            small = av.VideoFrame.from_ndarray(np.ascontiguousarray(square), format="yuv444p", channel_last=False)
            small.colorspace, small.color_range = frame.colorspace, frame.color_range
            options = kind | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
            small = scaler.reformat(small, width=height, height=height, format="gbrp", interpolation=options)
            scaled.append(small.to_ndarray())
    return np.stack(scaled)


def members(folder: Path) -> dict[str, dict[str, bytes]]:
    """The members of every clip of a packed data set, by its name."""
    samples: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, component = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                samples[key][component] = file.read()
    return {json.loads(sample["json"])["name"]: sample for sample in samples.values()}


@pytest.mark.parametrize(("component", "codec"), [("frames.jpg", "filmstrip"), ("000.video.mp4", "h264")])
@pytest.mark.parametrize("margin", [1.3, 2.0])
def test_what_is_stored_is_cut_from_the_original_pixels_and_masks_alike(
    tmp_path, folder, listing, component, codec, margin
):
    config = replace(CONFIG, codec=codec, focus_margin=margin)
    pack(listing, tmp_path / "out", config, annotators=mask_files(folder / "masks", listing))
    dataset = ShardDataset.open(tmp_path / "out")
    assert list(dataset.verify()) == []
    assert dataset.manifest.focus == Focus("person", margin)
    assert dataset.frame_sizes.tolist() == [[32, 32]] * 5
    stored = members(tmp_path / "out")
    clips = {clip.name: clip for clip in dataset}
    for number, name in enumerate(WITH_PEOPLE):
        crop = Crop(**json.loads(stored[name]["json"])["crop"])
        side = 2 * round(margin * 26 / 2)  # they walk from column 40 to 48 + 3 * 6
        assert crop.on_person
        assert crop.height == crop.width == side
        assert crop.left == pytest.approx((40 + 66 - side) / 2, abs=1)
        assert crop.top == pytest.approx((20 + 36 + number - side) / 2, abs=1.5)
        by_hand_NHWC = cut_by_hand(folder / "videos" / f"{name}.mp4", crop, 32)
        assert stored[name][component] == config.encoder().encode(by_hand_NHWC, 25.0)
        cut_NHW = person(number)[:, crop.top : crop.top + side, crop.left : crop.left + side]
        assert np.array_equal(clips[name].masks, resize_masks(cut_NHW, (32, 32)))
        # The person is white on dark: the pixels say where the mask must be.
        assert ((clips[name].frames.min(axis=-1) > 187) == clips[name].masks).mean() > 0.97


def test_clips_without_people_show_the_centre_and_are_told(tmp_path, folder, listing):
    report = pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(folder / "masks", listing))
    assert report is not None
    assert sorted(report.without_person) == ["a/none", "b/bare"]
    assert report.without_masks == ("b/bare",)
    assert json.loads((tmp_path / "out" / REPORT_NAME).read_bytes())["without_person"] == ["a/none", "b/bare"]
    stored = members(tmp_path / "out")
    centre = Crop(left=28, top=0, width=72, height=72, on_person=False)
    for name in ("a/none", "b/bare"):
        assert Crop(**json.loads(stored[name]["json"])["crop"]) == centre
        by_hand_NHWC = cut_by_hand(folder / "videos" / f"{name}.mp4", centre, 32)
        assert stored[name]["frames.jpg"] == CONFIG.encoder().encode(by_hand_NHWC, 25.0)
    assert "masks.npy" in stored["a/none"]
    assert "masks.npy" not in stored["b/bare"]


@pytest.mark.parametrize("turn", [*product((0, 90, 180, 270), (False, True), (False, True))])
def test_a_turned_video_is_cut_where_its_upright_frames_show_it(tmp_path, write_video, turn):
    degrees, left_right, top_bottom = turn
    coarse = np.random.default_rng(1).integers(0, 256, (1, 12, 16, 3), dtype=np.uint8)
    path = write_video(
        tmp_path / "turned.mp4",
        coarse.repeat(8, axis=1).repeat(8, axis=2),
        prepare=lambda stream: stream.set_display_rotation(degrees, hflip=left_right, vflip=top_bottom),
    )
    crop = Crop(left=30, top=14, width=40, height=40, on_person=True)
    with open_video(path) as video:
        frame = next(video.frames())
        whole_HWC = frame.rgb(video.info.height)
        assert np.array_equal(frame.rgb(40, crop), whole_HWC[14:54, 30:70])


def test_in_frames_of_another_size_the_same_share_is_cut(tmp_path, write_jpegs, quadrants):
    sizes = ((96, 128), (48, 64), (192, 128))
    images = [Image.fromarray(quadrants(height=height, width=width)[0]) for height, width in sizes]
    crop = Crop(left=32, top=48, width=32, height=32, on_person=True)  # below the middle and left of it: blue
    with open_video(write_jpegs(tmp_path / "changing.avi", images)) as video:
        for frame in video.frames():
            assert np.abs(frame.rgb(16, crop)[2:-2, 2:-2].astype(int) - (0, 0, 255)).max() < 12


def test_pixels_that_are_not_square_are_stretched(tmp_path, write_video):
    frames_NHWC = np.zeros((FRAMES, HEIGHT, WIDTH // 2, 3), np.uint8)
    mask_NHW = np.zeros((FRAMES, HEIGHT, WIDTH // 2), bool)
    mask_NHW[:, 20:60, 30:50] = True  # on the screen 40 x 40
    frames_NHWC[mask_NHW] = 255
    write_video(tmp_path / "videos" / "a" / "wide.mp4", frames_NHWC, pixel_aspect=Fraction(2))
    (tmp_path / "masks" / "a").mkdir(parents=True)
    np.savez(tmp_path / "masks" / "a" / "wide.npz", masks=mask_NHW)
    listing = FolderSource(root=tmp_path / "videos").listing()
    config = replace(CONFIG, focus_margin=1.6)
    pack(listing, tmp_path / "out", config, annotators=mask_files(tmp_path / "masks", listing))
    dataset = ShardDataset.open(tmp_path / "out")
    assert dataset.info(0).crop == Crop(left=24, top=8, width=32, height=64, on_person=True)
    expected_HW = np.zeros((32, 32), bool)
    expected_HW[6:26, 6:26] = True
    assert np.array_equal(dataset[0].masks[0], expected_HW)
    assert np.array_equal(dataset[0].frames[0].min(axis=-1) > 127, expected_HW)


def test_the_bytes_do_not_depend_on_workers_or_processes_or_interruptions(tmp_path, folder, listing):
    clips = [
        replace(entry, name=f"{entry.name}_{k}")
        for k in range(4)
        for entry in listing.clips
        if "bare" not in entry.name
    ]
    for entry in clips:  # a mask file for every name
        path = tmp_path / "masks" / f"{entry.name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((folder / "masks" / f"{entry.name.rpartition('_')[0]}.npz").read_bytes())
    many = replace(listing, clips=(*clips, *(entry for entry in listing.clips if "bare" in entry.name)))
    annotators = mask_files(tmp_path / "masks", many)
    config = replace(CONFIG, samples_per_shard=9)
    pack(many, tmp_path / "one", config, annotators=annotators)
    pack(many, tmp_path / "workers", replace(config, workers=2), annotators=annotators)
    pack_as_processes(2, many, tmp_path / "processes", config, annotators=annotators)
    with pytest.raises(StopHereError):
        pack(many, tmp_path / "stopped", config, annotators=annotators, progress=Progress(stop_after=1))
    report = pack(many, tmp_path / "stopped", config, annotators=annotators)
    assert report is not None
    assert sorted(report.without_person) == ["a/none_0", "a/none_1", "a/none_2", "a/none_3", "b/bare"]
    expected = content(tmp_path / "one")
    for name in ("workers", "processes", "stopped"):
        assert content(tmp_path / name) == expected
    assert pack(many, tmp_path / "one", config, annotators=annotators) is None
    with pytest.raises(UserError, match="--overwrite"):
        pack(many, tmp_path / "one", replace(config, focus_margin=1.4), annotators=annotators)


def test_the_people_must_be_known(tmp_path, folder, listing):
    with pytest.raises(UserError, match=r"--focus person: needs masks .*; give --masks"):
        pack(listing, tmp_path / "out", CONFIG)
    with pytest.raises(UserError, match="pack once without --focus, then give that data set as --masks"):
        pack(listing, tmp_path / "out", CONFIG, annotators=Annotators(mask_network=BatchMean()))
    assert list(tmp_path.iterdir()) == []


def test_whole_frames_are_stored_and_described_as_ever(tmp_path, folder, listing):
    config = replace(CONFIG, focus="frame")
    pack(listing, tmp_path / "out", config, annotators=mask_files(folder / "masks", listing))
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.focus == WHOLE_FRAMES
    assert not {"focus", "focus_margin"} & manifest.provenance["options"].keys()
    assert all("crop" not in json.loads(sample["json"]) for sample in members(tmp_path / "out").values())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"focus": "people"}, "focus must be one of frame, person, got 'people'"),
        ({"focus_margin": 0.9}, "focus_margin must be at least 1, got 0.9"),
        ({"focus_margin": float("nan")}, "focus_margin must be at least 1"),
        ({"focus_margin": float("inf")}, "focus_margin must be at least 1"),
    ],
)
def test_options_are_checked(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        PackConfig(**options)


def test_real_clips_show_their_people_in_the_middle(tmp_path, real_data):
    root = real_data / "jhmdb"
    listing = real_listing(root / "videos", real_data / "labels")
    masks = JhmdbMasks(root / "masks")
    config = PackConfig(height=96, focus="person", workers=2)
    report = pack(listing, tmp_path / "out", config, annotators=Annotators(mask_source=masks))
    assert report is not None
    assert report.without_person == ()
    entries = {entry.name: entry for entry in listing.clips}
    for clip in ShardDataset.open(tmp_path / "out"):
        assert clip.frames.shape[1:] == (96, 96, 3)
        assert clip.masks.shape[1:] == (48, 48)
        original_NHW = masks.load(entries[clip.name], len(clip.frames), 240, 320, 25.0)
        assert original_NHW is not None
        assert clip.masks.mean() > original_NHW.mean()
        # All of them but for the specks, and hardly any at the rim unless they reach that of the video.
        rows, columns = (clip.masks.any(axis=(0, axis)).nonzero()[0] for axis in (2, 1))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 >= 0.6 * 48


@pytest.mark.parametrize("focus", ["frame", "person"])
def test_the_masks_of_a_clip_are_read_once(tmp_path, write_video, quadrants, focus):
    path = write_video(tmp_path / "clip.mp4", quadrants(5))
    calls = []

    class Counted:
        def load(self, entry, frame_count, height, width, fps):
            calls.append((entry.name, frame_count))
            return np.ones((frame_count, height, width), bool)

    config = PackConfig(height=32, focus=focus)
    sample = prepare_clip(ClipEntry("a/b", path, "a"), 0, config, Counted()).sample
    assert sample.info.person_share == 1
    assert calls == [("a/b", 5)]

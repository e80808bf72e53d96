import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenebias.annotators import JhmdbMasks, SceneFile, open_mask_source
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.filmstrip import decode_strip, encode_strips
from shards.masks import unpack_masks
from shards.packing import REPORT_NAME, PackConfig, pack
from shards.sample import SCENE_COUNT
from shards.sources import ClipEntry, FolderSource, JhmdbSource, Listing
from shards.video import open_video

CONFIG = PackConfig(height=32, samples_per_shard=3, workers=1)


@pytest.fixture(scope="module")
def videos(tmp_path_factory, write_video) -> Path:
    """Six whole clips of two classes, one class without any, and one broken clip."""
    root = tmp_path_factory.mktemp("videos")
    random = np.random.default_rng(0)
    for number in range(6):
        coarse = random.integers(0, 256, (4 + number, 6, 8, 3), dtype=np.uint8)
        frames_NHWC = coarse.repeat(8, axis=1).repeat(8, axis=2)
        write_video(root / ("run", "jump")[number % 2] / f"clip{number}.mp4", frames_NHWC)
    (root / "jump" / "bad.mp4").write_bytes(b"nothing")
    (root / "none").mkdir()
    return root


@pytest.fixture
def masks(videos, tmp_path) -> Path:
    """Masks of all clips but one: the left half, and nobody in the first frame."""
    folder = tmp_path / "masks"
    for entry in FolderSource(root=videos).listing().clips:
        number = int(entry.path.stem.removeprefix("clip").replace("bad", "0"))
        mask_NHW = np.zeros((4 + number, 48, 64), bool)
        mask_NHW[1:, :, :32] = True
        if number != 5:
            (folder / entry.class_name).mkdir(parents=True, exist_ok=True)
            np.savez(folder / f"{entry.name}.npz", masks=mask_NHW)
    return folder


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def assert_nothing_left(tmp_path: Path) -> None:
    assert [path.name for path in tmp_path.iterdir() if path.name != "masks"] == []


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path, videos, masks):
    listing = FolderSource(root=videos).listing()
    source = open_mask_source(masks, listing.clips)
    folders = {}
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        config = PackConfig(height=32, samples_per_shard=3, workers=workers)
        pack(listing, out, config, mask_source=source)
        folders[workers] = content(out)
    assert folders[1] == folders[2]
    assert {"shard-000000.tar", "shard-000001.tar", "manifest.json", REPORT_NAME} <= folders[1].keys()
    assert {path.name for path in tmp_path.iterdir()} == {"masks", "out1", "out2"}


def test_what_is_stored_is_what_was_decoded(tmp_path, videos, masks):
    listing = FolderSource(root=videos).listing()
    report = pack(listing, tmp_path / "out", CONFIG, mask_source=open_mask_source(masks, listing.clips))
    assert report is not None
    assert list(report.broken) == ["jump/bad"]
    assert report.without_masks == ("jump/clip5",)
    counts = {name: (c.wanted, c.packed, c.missing, c.broken) for name, c in report.counts().items()}
    assert counts == {"jump": (4, 3, 0, 1), "none": (0, 0, 0, 0), "run": (3, 3, 0, 0)}

    dataset = ShardDataset.open(tmp_path / "out")
    assert list(dataset.verify()) == []
    assert [clip.name for clip in dataset.manifest.broken] == ["jump/bad"]
    entries = {entry.name: entry for entry in listing.clips}
    for i in range(len(dataset)):
        info = dataset.info(i)
        entry = entries.pop(info.name)
        assert listing.classes[dataset.labels[i]] == entry.class_name
        assert info.source_sha256 == hashlib.sha256(entry.path.read_bytes()).hexdigest()
        assert info.fps == 25
        clip = dataset.read_clip(i, np.arange(info.frame_count))
        with open_video(entry.path, 32) as video:
            original = np.stack(list(video.frames()))
        (strip,) = encode_strips(original, CONFIG.quality)
        assert np.array_equal(decode_strip(clip.strip, 32), decode_strip(strip, 32))
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
    listing = FolderSource(root=videos).listing()
    names = []
    for seed in (0, 1):
        pack(listing, tmp_path / f"{seed}", PackConfig(height=32, workers=1, seed=seed))
        dataset = ShardDataset.open(tmp_path / f"{seed}")
        names.append([dataset.info(i).name for i in range(len(dataset))])
    assert names[0] != names[1]
    assert sorted(names[0]) == sorted(names[1])
    assert names[0] != sorted(names[0])


def test_a_second_run_returns_at_once_and_other_content_is_kept(tmp_path, videos):
    listing = FolderSource(root=videos).listing()
    out = tmp_path / "out"
    assert pack(listing, out, CONFIG) is not None
    before = content(out)
    assert pack(listing, out, PackConfig(height=32, samples_per_shard=3, workers=2)) is None
    with pytest.raises(UserError, match=r"holds another data set; .*--overwrite"):
        pack(listing, out, PackConfig(height=48, workers=1))
    assert content(out) == before
    assert pack(listing, out, PackConfig(height=48, workers=1), overwrite=True) is not None
    assert ShardDataset.open(out).manifest.frame_height == 48
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_overwrite_keeps_the_old_data_set(tmp_path, videos):
    listing = FolderSource(root=videos).listing()
    pack(listing, tmp_path / "out", CONFIG)
    before = content(tmp_path / "out")
    with pytest.raises(UserError, match="--strict"):
        pack(listing, tmp_path / "out", PackConfig(height=48, workers=1), overwrite=True, strict=True)
    assert content(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_foreign_files_are_never_removed(tmp_path, videos):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="holds other files"):
        pack(FolderSource(root=videos).listing(), out, CONFIG, overwrite=True)
    assert content(out).keys() == {"thesis.tex"}


@pytest.mark.parametrize("shape", [(9, 48, 64), (3, 48, 64), (5, 64, 48), (5, 32, 42)])
def test_masks_that_misfit_stop_the_pack_and_leave_nothing(tmp_path, videos, masks, shape):
    np.savez(masks / "jump" / "clip1.npz", masks=np.ones(shape, bool))
    listing = FolderSource(root=videos).listing()
    with pytest.raises(UserError, match=r"clip1\.npz: masks of shape .* with 5 frames of 48x64"):
        pack(listing, tmp_path / "deep" / "out", CONFIG, mask_source=open_mask_source(masks, listing.clips))
    assert_nothing_left(tmp_path)


def test_strict_makes_missing_and_broken_clips_errors(tmp_path, videos):
    listing = FolderSource(root=videos).listing()
    with pytest.raises(UserError, match="--strict: broken: jump/bad"):
        pack(listing, tmp_path / "out", CONFIG, strict=True)
    gone = ClipEntry("run/gone", videos / "run" / "gone.mp4", "run")
    listing = Listing("d", "1", "all", ("run",), tuple(e for e in listing.clips if e.class_name == "run"), (gone,))
    with pytest.raises(UserError, match=r"--strict: missing: .*gone\.mp4"):
        pack(listing, tmp_path / "out", CONFIG, strict=True)
    assert_nothing_left(tmp_path)
    report = pack(listing, tmp_path / "out", CONFIG)
    assert report is not None
    assert [clip.name for clip in ShardDataset.open(tmp_path / "out").manifest.missing] == ["run/gone"]


def test_strict_refuses_clips_without_masks(tmp_path, videos, masks):
    listing = FolderSource(root=videos).listing()
    with pytest.raises(UserError, match=r"--strict: without a mask file: jump/clip5; .*--masks none"):
        pack(listing, tmp_path / "out", CONFIG, mask_source=open_mask_source(masks, listing.clips), strict=True)
    assert_nothing_left(tmp_path)


def write_scenes(path: Path, names: list[str]) -> SceneFile:
    np.savez(path, clips=np.array(names), probs=np.full((len(names), SCENE_COUNT), 1 / SCENE_COUNT))
    return SceneFile(path)


def test_only_a_clip_that_can_be_decoded_needs_a_scene_vector(tmp_path, videos):
    listing = FolderSource(root=videos).listing()
    names = [entry.name for entry in listing.clips if entry.name != "jump/bad"]
    report = pack(listing, tmp_path / "out", CONFIG, scene_source=write_scenes(tmp_path / "all.npz", names))
    assert list(report.broken) == ["jump/bad"]
    assert ShardDataset.open(tmp_path / "out").scene_count == 6
    fewer = write_scenes(tmp_path / "fewer.npz", names[1:])
    with pytest.raises(UserError, match=rf"no scene vector for {names[0]}, but 5 for other clips"):
        pack(listing, tmp_path / "other", CONFIG, scene_source=fewer)


def test_a_link_to_a_folder_stays_a_link(tmp_path, videos):
    listing = FolderSource(root=videos).listing()
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    for height in (32, 48):
        pack(listing, tmp_path / "out", PackConfig(height=height, workers=1), overwrite=True)
        assert (tmp_path / "out").readlink() == Path("disk")
        assert ShardDataset.open(tmp_path / "disk").manifest.frame_height == height
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "out"}


def test_places_that_cannot_be_replaced_are_refused_before_packing(tmp_path, videos, monkeypatch):
    def not_reached() -> None:
        raise AssertionError("a clip was decoded")

    listing = FolderSource(root=videos).listing()
    monkeypatch.chdir(tmp_path)
    Path("out").symlink_to("nowhere")
    for out, sentence in ((Path("out"), "a link to nothing; make nowhere"), (Path(), "the current folder")):
        with pytest.raises(UserError, match=sentence):
            pack(listing, out, CONFIG, progress=not_reached)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_pack_without_any_whole_clip_is_an_error_and_leaves_nothing(tmp_path, videos):
    bad = ClipEntry("jump/bad", videos / "jump" / "bad.mp4", "jump")
    with pytest.raises(UserError, match=r"no clip could be packed: jump/bad \("):
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


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"height": 100}, "height"),
        ({"height": 65504}, "height"),
        ({"quality": 0}, "quality"),
        ({"mask_scale": 1.5}, "mask_scale"),
        ({"samples_per_shard": 0}, "samples_per_shard"),
        ({"workers": 0}, "workers"),
    ],
)
def test_options_are_checked(options, field):
    with pytest.raises(ValueError, match=field):
        PackConfig(**options)


def test_real_clips_keep_their_frames_masks_and_scenes(tmp_path, real_data):
    """JHMDB's videos here repeat frames to reach 30 fps; their masks were drawn at 25."""
    root = real_data / "jhmdb"
    whole = JhmdbSource(root=root / "videos", labels=real_data / "labels" / "hmdb51", subset="test").listing()
    listing = Listing(whole.dataset, whole.split, whole.subset, whole.classes, whole.clips[::22])
    with pytest.raises(UserError, match=r"masks of shape .*--mask-fps"):
        pack(listing, tmp_path / "out", CONFIG, mask_source=JhmdbMasks(root / "masks"))
    assert_nothing_left(tmp_path)

    masks, scenes = open_mask_source(root / "masks", listing.clips), SceneFile(root / "scene_probs.npz")
    report = pack(listing, tmp_path / "out", PackConfig(workers=2), mask_source=masks, scene_source=scenes)
    assert report is not None
    assert report.packed_count == len(listing.clips) == 12
    dataset = ShardDataset.open(tmp_path / "out")
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

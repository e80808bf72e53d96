"""What must hold of the loaders that ours is compared with: they deliver the same clips, cut in the same way."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from dali_pipelines.windows import ClipConfig
from scenebias.benchmark.loading.ours import open_crop_only, open_decode_only, open_ours
from scenebias.benchmark.loading.peers.original_videos import find_videos, read_frames
from scenebias.benchmark.loading.peers.registry import PEERS, choose_peers, open_peers
from scenebias.benchmark.loading.setting import ClipItem, Pass, Setting
from scenebias.benchmark.loading.windows import describe_windows, plan_windows
from shards.codecs.video_segments import encode_segment
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.sample import SCENE_COUNT
from tools.trials.ready_samples import sample_from_frames, write_samples

CLASSES = ("clap", "jump")
CLIP = ClipConfig(frames=8, size=32, stride=2)
HEIGHT, WIDTH = 48, 72  # stored; the videos have twice as much
LEVELS_PER_FRAME = 8.0


def make_frames(number: int, frame_count: int) -> np.ndarray:
    """Brighter from left to right, from top to bottom and from frame to frame: any wrong cut shows."""
    rows, columns = np.mgrid[: 2 * HEIGHT, : 2 * WIDTH]
    image = 60 * columns / columns.max() + 20 * rows / rows.max()
    frames = image[None] + LEVELS_PER_FRAME * np.arange(frame_count)[:, None, None]
    return np.stack([frames, 200 - frames * 0.7, frames * 0.5 + 5 * number], axis=-1).clip(0, 255).astype(np.uint8)


def make_masks(frame_count: int) -> np.ndarray:
    masks = np.zeros((frame_count, HEIGHT // 2, WIDTH // 2), bool)
    for frame in range(frame_count):
        masks[frame, 4:-4, frame : frame + 10] = True
    return masks


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for number, frame_count in enumerate((20, 22, 9, 24)):  # the third is shorter than a window: it starts again
        path = root / CLASSES[number % 2] / f"clip{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_segment(make_frames(number, frame_count), "h264", crf=8, fps=25.0))
    return root


@pytest.fixture(scope="module")
def dataset(videos, tmp_path_factory) -> ShardDataset:
    directory = tmp_path_factory.mktemp("packed") / "dataset"
    samples = []
    for number, path in enumerate(sorted(videos.glob("*/*.mp4"))):
        frames_NHWC = np.stack(list(read_frames(path, height=HEIGHT)))
        sample = sample_from_frames(
            frames_NHWC,
            name=f"{path.parent.name}/{path.stem}",
            label=CLASSES.index(path.parent.name),
            mask_NHW=make_masks(len(frames_NHWC)) if number else None,
            scene=np.full(SCENE_COUNT, 1 / SCENE_COUNT, np.float16),
            quality=95,
            frames_per_part=16,
        )
        samples.append(sample)
    write_samples(directory, samples, CLASSES, quality=95, samples_per_shard=3)
    return ShardDataset.open(directory)


def make_setting(dataset: ShardDataset, videos: Path | None, folder: Path) -> Setting:
    batches = plan_windows(dataset, CLIP, 3, steps=2)
    windows = describe_windows(dataset, CLIP, batches)
    return Setting(
        dataset=dataset,
        clip=CLIP,
        batches=batches,
        windows=windows,
        videos=None if videos is None else find_videos(videos, windows),
        folder=folder,
        device=torch.device("cpu"),
        batch_size=3,
        workers=1,
        prefetch=1,
    )


@pytest.fixture(scope="module")
def setting(dataset, videos, tmp_path_factory) -> Setting:
    return make_setting(dataset, videos, tmp_path_factory.mktemp("peers"))


@pytest.fixture(scope="module")
def peers(setting) -> Iterator[tuple[dict[str, Pass], dict[str, str]]]:
    """The passes of those that can be measured here, and why the others cannot."""
    opened, left_out = open_peers(PEERS, setting, all_wanted=True)
    yield opened, left_out
    opened.clear()


def by_sample(run: Pass, steps: int | None = None) -> dict[int, ClipItem]:
    """The items of one pass, each once; of one that does not end, those of its first ``steps``."""
    items = [ClipItem(*values) for batch in islice(run(), steps) for values in zip(*batch, strict=True)]
    found = {int(item.sample): item for item in items}
    assert len(found) == len(items)
    return found


@pytest.fixture(scope="module")
def ours(setting) -> dict[int, ClipItem]:
    return by_sample(open_ours(setting), len(setting.batches))


@pytest.mark.parametrize("name", [peer.name for peer in PEERS])
def test_delivers_what_our_loader_does(name, peers, ours):
    passes, left_out = peers
    if name in left_out:
        pytest.skip(left_out[name])
    for _ in range(2):  # a loader is used for many passes
        theirs = by_sample(passes[name])
        assert theirs.keys() == ours.keys()
    for sample, item in theirs.items():
        mine = ours[sample]
        assert item.clip.dtype == torch.uint8
        assert item.clip.shape == mine.clip.shape
        assert item.label == mine.label
        torch.testing.assert_close(item.scene, mine.scene)
        difference = (item.clip.float() - mine.clip.float()).abs().mean()
        assert difference < LEVELS_PER_FRAME / 2, f"clip {sample}"
        if name != "frames_on_disk":
            assert item.mask.dtype == torch.bool
            assert (item.mask == mine.mask).float().mean() > 0.95, f"clip {sample}"


def test_frames_on_disk_hold_both_streams(peers, ours):
    passes, _ = peers
    for sample, item in by_sample(passes["frames_on_disk"]).items():
        masked = item.mask
        assert masked.dtype == torch.uint8
        assert masked.shape == item.clip.shape
        inside = ours[sample].mask
        same = (masked.float() - item.clip.float()).abs().mean(-1)
        assert same[~inside].mean() < 2
        if inside.any():
            assert same[inside].mean() > 2 * same[~inside].mean()


def test_the_recipe_without_scaling_cuts_squares_of_the_networks_size(setting, ours):
    cropped = by_sample(open_crop_only(setting), len(setting.batches))
    assert cropped.keys() == ours.keys()
    frame_THWC = next(iter(cropped.values())).clip.float()
    slope = (frame_THWC[:, :, -1, 0] - frame_THWC[:, :, 0, 0]).abs().mean()
    assert slope == pytest.approx(60 * 31 / (WIDTH - 1), abs=2)


def test_the_limit_decodes_as_many_clips(setting):
    run = open_decode_only(setting)
    for _ in range(2):
        assert list(run()) == [len(batch) for batch in setting.batches]


def test_peers_that_need_the_videos_are_left_out_without_them(dataset, tmp_path):
    setting = make_setting(dataset, None, tmp_path)
    passes, left_out = open_peers(choose_peers("spdl,frames_on_disk"), setting, all_wanted=True)
    assert not passes
    assert left_out.keys() == {"spdl", "frames_on_disk"}
    assert all("--videos" in reason for reason in left_out.values())
    with pytest.raises(UserError, match=r"--peers spdl.*--videos"):
        open_peers(choose_peers("spdl"), setting, all_wanted=False)


def test_peers_whose_libraries_are_absent_are_left_out(setting, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scenebias.benchmark.loading.peers.spdl_videos", None)
    passes, left_out = open_peers(choose_peers("spdl"), replace(setting, folder=tmp_path), all_wanted=True)
    assert not passes
    assert "bench" in left_out["spdl"]


def test_peers_whose_libraries_do_not_work_are_left_out(setting, monkeypatch):
    def fail(name):
        raise RuntimeError("FFmpeg is not properly installed.\nA long story follows.")

    monkeypatch.setattr("scenebias.benchmark.loading.peers.registry.import_module", fail)
    passes, left_out = open_peers(choose_peers("torchcodec"), setting, all_wanted=True)
    assert not passes
    assert left_out["torchcodec"].endswith("FFmpeg is not properly installed.")


def test_a_clip_without_a_video_is_named(setting, videos, tmp_path):
    (tmp_path / CLASSES[0]).mkdir()
    with pytest.raises(UserError, match=r"clip 'clap/clip|clip 'jump/clip"):
        find_videos(tmp_path, setting.windows)


def test_an_unknown_peer_is_refused():
    with pytest.raises(ValueError, match=r"peers must be all, none or some of .*; got decordd"):
        choose_peers("spdl,decordd")

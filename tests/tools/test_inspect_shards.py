import base64
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenebias.data.inspect_shards import COMMAND
from scenebias.data.inspection import render_page, summarize
from scenebias.data.truth_counts import Coverage, TruthCounts
from shards.codecs.filmstrip import decode_strip
from shards.dataset import ShardDataset
from shards.format.manifest import Manifest
from shards.format.sample import SCENE_COUNT
from shards.format.truth import BOX_DTYPE, Segment, Truth
from tests.commands import Result, run_here
from tests.conftest import focused_copy
from tests.project import ROOT
from tests.scenebias.browser import problems_of_page
from tools.trials.ready_samples import sample_from_frames, write_samples


def inspect_shards(*arguments) -> Result:
    return run_here(COMMAND, *arguments)


@pytest.fixture
def copied(tiny_dataset, tmp_path) -> Path:
    return shutil.copytree(tiny_dataset, tmp_path / "copy")


def test_the_numbers_are_those_of_the_clips(tiny_dataset):
    dataset = ShardDataset.open(tiny_dataset)
    summary = summarize(dataset)
    infos = [dataset.info(i) for i in range(len(dataset))]
    shares = [info.person_share for info in infos if info.person_share is not None]
    assert summary.clip_count == len(infos)
    assert summary.frame_count == sum(info.frame_count for info in infos)
    assert summary.bytes_per_frame * summary.frame_count == pytest.approx(
        sum(path.stat().st_size for path in tiny_dataset.glob("*.tar"))
    )
    assert summary.masked_count == len(shares)
    assert summary.person_share == pytest.approx(sum(shares) / len(shares))
    assert sum(count for _, _, count in summary.frame_histogram) == len(infos)
    for low, high, count in summary.frame_histogram:
        assert count == sum(low <= info.frame_count <= high for info in infos)
    assert dict(summary.scene_counts) == {
        category: int((dataset.scenes.argmax(axis=1) == category).sum()) for category in dataset.scenes.argmax(axis=1)
    }


def test_segments_and_boxes_are_counted_by_class_and_clip(tmp_path, synthetic_sample):
    """Two clips have both, one was looked at in vain, one not at all; of the last one only key frames are known."""
    rows = [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0), (2, 1, 0)]
    boxes = np.array([(*row, 1, 1, 9, 9) for row in rows], BOX_DTYPE)
    segments = (Segment(0, 0.2, 1), Segment(0.1, 0.2, None), Segment(0.1, 0.3, 1))
    truths = [Truth(segments, boxes), Truth((), boxes[:0]), Truth(), Truth(segments[:1], boxes[4:], True)]
    samples = []
    for number, truth in enumerate(truths):
        sample = synthetic_sample(number)
        info = replace(sample.info, key_frames_only=truth.key_frames_only)
        samples.append(replace(sample, info=info, truth=truth))
    write_samples(tmp_path / "data", samples, ("clap", "jump", "wave"))
    counts = TruthCounts.of(ShardDataset.open(tmp_path / "data"))
    assert counts.segments_C.tolist() == [0, 3, 0]
    assert counts.ambiguous_count == 1
    assert counts.boxes_C.tolist() == [5, 1, 0]
    assert counts.tubes_C.tolist() == [3, 1, 0]
    assert (counts.segment_clips, counts.box_clips) == (Coverage(2, 1, 1), Coverage(2, 1, 1))
    printed = inspect_shards(tmp_path / "data").stdout
    for line in (
        "3 and 1 ambiguous ones in 2 clips, 1 without any, 1 not looked at",
        "6, of 4 tubes, in 2 clips, 1 without any, 1 not looked at; only key frames in 1 of them",
    ):
        assert line in " ".join(printed.split())
    assert re.search(r"class +┃ clips ┃ segments ┃ boxes ┃ tubes ┃", printed)
    assert re.search(r"jump +│ +1 │ +3 │ +1 │ +1 │", printed)


def test_without_segments_and_boxes_there_is_no_word_of_them(tiny_dataset):
    assert TruthCounts.of(ShardDataset.open(tiny_dataset)) is None
    printed = inspect_shards(tiny_dataset).stdout
    assert not [word for word in ("segments", "boxes", "tubes") if word in printed]


class Page(HTMLParser):
    """Collects images and the tags that were opened and closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_in_itself_and_shows_clips_of_every_class(tiny_dataset):
    dataset = ShardDataset.open(tiny_dataset)
    text = render_page(dataset, samples_per_class=2)
    page = Page(text)
    assert page.open == []
    assert len(page.images) == 2 * len(dataset.manifest.classes)
    for image in page.images:
        data = base64.b64decode(image.removeprefix("data:image/jpeg;base64,"), validate=True)
        with Image.open(io.BytesIO(data)) as strip:
            assert strip.height == 48
            assert strip.width > 4 * 48
    without_images = re.sub(r'src="data:[^"]*"', "", text)
    assert not re.search(r"https?:|src=|@import|url\(", without_images)
    assert "viewport" in text


def test_people_are_tinted(tmp_path, synthetic_sample):
    strips = []
    for masks in (True, False):
        directory = tmp_path / str(masks)
        write_samples(directory, [synthetic_sample(0, masks=masks)], ("clap",))
        (image,) = Page(render_page(ShardDataset.open(directory), 1)).images
        with Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))) as strip:
            strips.append(np.asarray(strip).astype(int))
    changed = np.abs(strips[0] - strips[1]).max(axis=2) > 24
    assert 0.01 < changed.mean() < 0.3


def test_clips_that_are_stored_as_video_are_shown(tmp_path, synthetic_sample):
    images = []
    for codec in ("filmstrip", "h264"):
        write_samples(tmp_path / codec, [synthetic_sample(0, width=64, codec=codec)], ("clap",))
        (image,) = Page(render_page(ShardDataset.open(tmp_path / codec), 1)).images
        with Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))) as strip:
            images.append(np.asarray(strip).astype(int))
    assert np.abs(images[0] - images[1]).mean() < 16  # other frames of this noise differ by 70
    assert "no problems" in inspect_shards(tmp_path / "h264", "--verify").stdout


def test_names_are_escaped(tmp_path, synthetic_sample):
    evil = '<script>alert("x")</script>'
    sample = synthetic_sample(0)
    sample = replace(sample, info=replace(sample.info, name=f"{evil}/{evil}", class_name=evil))
    classes = (evil, "[red]none")
    write_samples(tmp_path / "d", [sample], classes, dataset=evil)
    page = render_page(ShardDataset.open(tmp_path / "d"), 1, scene_names=[evil] * SCENE_COUNT)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "no clip!" in page


def test_the_command_prints_the_summary_and_writes_the_page(tiny_dataset, tmp_path):
    arguments = [str(tiny_dataset), "--html", str(tmp_path / "page.html"), "--verify"]
    command = [sys.executable, str(ROOT / "tools" / "inspect_shards.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    manifest = Manifest.load(tiny_dataset)
    for text in (manifest.digest, "12 in 3 shards", "verified 12 clips: no problems", *manifest.classes):
        assert text in result.stdout
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_scenes_are_shown_by_their_names_unless_others_are_given(tmp_path, synthetic_sample):
    scene = np.zeros(SCENE_COUNT, np.float16)
    scene[364], scene[0] = 0.75, 0.25
    write_samples(tmp_path / "d", [replace(synthetic_sample(0), scene=scene)], ("clap",))
    result = inspect_shards(tmp_path / "d", "--html", tmp_path / "page.html")
    assert "zen_garden 75%, airfield 25%" in result.stdout
    assert "1 categories; zen_garden: 1" in result.stdout
    assert "zen_garden 75% · airfield 25%" in (tmp_path / "page.html").read_text()
    (tmp_path / "names.txt").write_text("".join(f"place{364 - k} {k}\n" for k in range(SCENE_COUNT)))
    result = inspect_shards(tmp_path / "d", "--scene-names", tmp_path / "names.txt")
    assert "place0 75%, place364 25%" in result.stdout


@pytest.fixture
def copies(tmp_path, synthetic_sample) -> Path:
    """Clip 4 of `tiny_dataset` as it is, clip 6 mirrored and poorly stored from another file, and two other clips."""

    def altered(sample, name, source, **stored):
        frames = np.concatenate([decode_strip(part, sample.info.height) for part in sample.parts])
        mirrored = stored.pop("mirrored", False)
        return sample_from_frames(
            np.ascontiguousarray(frames[:, :, ::-1]) if mirrored else frames,
            name=f"clap/{name}",
            source_sha256=source,
            **stored,
        )

    width = {4: 64, 6: 71}
    mirrored = altered(synthetic_sample(6, 26, width=width[6]), "mirrored", "f" * 64, quality=20, mirrored=True)
    same = altered(synthetic_sample(4, 24, width=width[4]), "same", f"{4:064x}")
    directory = tmp_path / "copies"
    write_samples(directory, [synthetic_sample(90), mirrored, same, synthetic_sample(91)], ("clap", "jump", "wave"))
    return directory


def test_duplicates_are_told_with_their_names_and_stand_side_by_side_on_the_page(tiny_dataset, copies, tmp_path):
    page, pairs = tmp_path / "page.html", tmp_path / "pairs.json"
    arguments = ("--duplicates", copies, "--html", page, "--duplicates-json", pairs, "--samples-per-class", 1)
    result = inspect_shards(tiny_dataset, *arguments)
    assert result.returncode == 0, result.stderr
    assert f"1 of its 12 clips (jump/clip04) are of frames of video files that {copies} has too" in result.stdout
    assert f"2 pairs of clips look alike here and in {copies}, of 2 of our clips" in result.stdout
    assert "same video file" in result.stdout
    assert "mirrored" in result.stdout
    found = {pair["ours"]: pair for pair in json.loads(pairs.read_text())[str(copies)]}
    assert found.keys() == {"jump/clip04", "clap/clip06"}
    expected = {"jump/clip04": ("clap/same", False, True), "clap/clip06": ("clap/mirrored", True, False)}
    for name, pair in found.items():
        assert (pair["theirs"], pair["mirrored"], pair["same_video"]) == expected[name]
        assert 0 <= pair["distance"] <= 10
    text = page.read_text()
    shown = Page(text)
    assert shown.open == []
    assert len(shown.images) == 2 * 2 + 3
    assert f"Also in {copies}" in text
    for name in ("jump/clip04", "clap/same", "clap/clip06", "clap/mirrored", "Distance"):
        assert name in text
    assert problems_of_page(page) == []


def test_a_data_set_is_compared_with_itself_and_with_data_of_another_part_of_the_frames(tiny_dataset, copies, tmp_path):
    focused = focused_copy(copies, tmp_path / "focused")
    result = inspect_shards(tiny_dataset, "--duplicates", tiny_dataset, focused)
    assert result.returncode == 0, result.stderr
    assert f"0 pairs of clips look alike here and in {tiny_dataset}" in result.stdout
    assert f"{focused} shows squares around people" in result.stdout


def test_verify_names_every_damaged_clip(copied):
    for shard in sorted(copied.glob("*.tar"))[:2]:
        data = bytearray(shard.read_bytes())
        data[2500] ^= 0x10
        shard.write_bytes(data)
    result = inspect_shards(copied, "--verify")
    assert result.returncode == 1
    assert "shard-000000.tar" in result.stdout
    assert "shard-000001.tar" in result.stdout
    assert "4 problems" in result.stdout  # each shard, and a clip of each


def test_verify_of_a_shard_of_zeros_reports_and_rebuilding_does_not_advise_itself(copied):
    shard = copied / "shard-000001.tar"
    shard.write_bytes(bytes(shard.stat().st_size))
    result = inspect_shards(copied, "--verify")
    assert result.returncode == 1
    assert result.stderr == ""
    assert "verified 12 clips: 6 problems" in result.stdout
    result = inspect_shards(copied, "--rebuild-index")
    assert result.returncode == 2
    assert "shard-000001.tar is damaged" in result.stderr
    assert "--rebuild-index" not in result.stderr


def test_names_in_brackets_are_printed_as_they_are(tmp_path, synthetic_sample):
    sample = synthetic_sample(0)
    sample = replace(sample, info=replace(sample.info, class_name="[/]"))
    directory = tmp_path / "[bold]"
    write_samples(directory, [sample], ("[/]",), dataset="[/x]")
    result = inspect_shards(directory, "--html", directory / "page.html")
    assert result.returncode == 0, result.stderr
    for text in ("[/x]", "[/]", f"wrote {directory}/page.html"):
        assert text in result.stdout


def test_a_lost_index_is_made_again(copied):
    before = (copied / "samples.npy").read_bytes()
    (copied / "samples.npy").unlink()
    assert inspect_shards(copied).returncode == 2
    assert inspect_shards(copied, "--rebuild-index", "--verify").returncode == 0
    assert (copied / "samples.npy").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere is not a packed data set"),
        (["{data}", "--duplicates", "nowhere"], "nowhere is not a packed data set"),
        (["{data}", "--duplicates-json", "pairs.json"], "--duplicates-json needs duplicates"),
        (["{data}", "--scene-names", "nowhere.txt"], "--scene-names nowhere.txt: cannot be read"),
        (["{data}", "--html", "no/such/folder/page.html"], "no/such/folder/page.html cannot be written"),
    ],
)
def test_mistakes_are_one_sentence(tiny_dataset, arguments, sentence):
    result = inspect_shards(*(part.format(data=tiny_dataset) for part in arguments))
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["samples.npy", "strips.npy"])
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_index_is_one_sentence_in_the_plain_summary(tmp_path, tiny_dataset, name, seed):
    """Whatever became of it: cut short, emptied, other bytes anywhere."""
    shutil.copytree(tiny_dataset, tmp_path / "data")
    path = tmp_path / "data" / name
    data = path.read_bytes()
    random = np.random.default_rng(seed)
    versions = [b"", data[: len(data) // 2], random.bytes(len(data))]
    for position in random.integers(0, len(data) - 8, 40).tolist():
        versions.append(data[:position] + random.bytes(8) + data[position + 8 :])
    outcomes = set()
    for version in versions:
        path.write_bytes(version)
        result = inspect_shards(tmp_path / "data")
        outcomes.add(result.returncode)
        assert result.returncode in (0, 2)  # 0: a checksum, which only --verify compares
        if result.returncode:
            assert result.stderr.startswith("error: ")
            assert result.stderr.count("\n") == 1
            assert "tools/inspect_shards.py --" in result.stderr
    assert 2 in outcomes


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shard", 2**32 - 1),
        ("label", -1),
        ("label", 3),
        ("frame_count", 0),
        ("frame_count", -5),
        ("strip_count", 2**31),
    ],
)
def test_a_row_of_the_index_that_cannot_be_is_named(tmp_path, tiny_dataset, field, value):
    shutil.copytree(tiny_dataset, tmp_path / "data")
    rows = np.lib.format.open_memmap(tmp_path / "data" / "samples.npy", mode="r+")
    rows[field][2] = value
    rows.flush()
    result = inspect_shards(tmp_path / "data")
    assert result.returncode == 2
    assert "samples.npy cannot be read (what it says of clip 2 cannot be); run tools/inspect" in result.stderr
    assert inspect_shards(tmp_path / "data", "--rebuild-index").returncode == 0
    assert inspect_shards(tmp_path / "data").returncode == 0

"""What a detection is worth: numbers that can be told beforehand, on rectangles and on JHMDB's own boxes."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from scenebias.detect.box_file import load_boxes, save_boxes
from scenebias.detect.controls import every_class_found, median_box, median_box_found, truth_found, video_sizes
from scenebias.detect.evaluating import BoxEvaluation, DetectorTestConfig, VideoBoxes, gathered, joined
from scenebias.detect.key_frames import KeyFrames
from scenebias.detection.instances import FrameBoxes
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.truth import BOX_DTYPE
from tests.scenebias.detect.rectangles import CLASSES, FRAMES, HEIGHT, WIDTH, write_rectangles


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write_rectangles(tmp_path_factory.mktemp("rectangles"), 6)


def nothing_found(dataset: ShardDataset, every: int = 1) -> BoxEvaluation:
    return gathered(KeyFrames.of(dataset, every), [])


@pytest.mark.parametrize("every", [1, 5])
def test_the_truth_as_prediction_is_perfect(dataset: ShardDataset, every: int) -> None:
    summary = truth_found(nothing_found(dataset, every)).summary()
    boxed = -(-FRAMES // every)
    assert {summary.pop(name) for name in ("videos", "key_frames")} == {7, 7 * boxed}
    without = 2 if every == 1 else 1  # of the last clip's frames
    assert summary.pop("boxes_per_frame") == pytest.approx(1 - without / (7 * boxed))
    assert summary == dict.fromkeys(summary, 1.0)


def test_nothing_found_is_worth_nothing(dataset: ShardDataset) -> None:
    summary = nothing_found(dataset).summary()
    del summary["videos"], summary["key_frames"]
    assert summary == dict.fromkeys(summary, 0.0)


def test_where_alone_is_worth_one_of_the_classes_and_finds_all() -> None:
    rows = [(frame, 0, frame // 2 % 3, 0, 0, 10, 10) for frame in range(0, 1200, 2)]
    where = every_class_found(one_video(rows, [], frames=1200))
    assert where.frame_matches().mean_average_precision == pytest.approx(1 / 3, abs=0.05)
    assert where.recall() == where.recall(most=1) == 1


def test_the_median_box_is_that_of_all_boxes_and_has_the_true_class(dataset: ShardDataset) -> None:
    key_frames = KeyFrames.of(dataset)
    share_4 = median_box(key_frames)
    corners = np.concatenate(
        [[[row[side] for side in ("x1", "y1", "x2", "y2")] for row in r] for r in key_frames.rows if len(r)]
    )
    np.testing.assert_allclose(share_4, np.median(corners, axis=0) / [WIDTH, HEIGHT, WIDTH, HEIGHT], rtol=1e-6)
    found = median_box_found(nothing_found(dataset), video_sizes(key_frames), share_4)
    for video in found.videos:
        assert torch.equal(video.found.label_N, video.truth.label_N)
        assert torch.equal(video.found.frame_N, video.truth.frame_N)
    assert found.recall() == found.recall(most=1) < 1


def one_video(rows: list[tuple], found: list[tuple], frames: int = 10) -> BoxEvaluation:
    """``rows`` of `BOX_DTYPE`; ``found``: frame, label, score, then corners."""
    columns = list(zip(*found, strict=True)) or [()] * 7
    boxes = FrameBoxes(
        frame_N=torch.tensor(columns[0], dtype=torch.int64),
        label_N=torch.tensor(columns[1], dtype=torch.int64),
        score_N=torch.tensor(columns[2], dtype=torch.float32),
        box_N4=torch.tensor(columns[3:], dtype=torch.float32).T.reshape(-1, 4),
    )
    video = VideoBoxes(0, "red/a", np.arange(0, frames, 2), np.array(rows, BOX_DTYPE), boxes)
    return BoxEvaluation([video], CLASSES)


def test_tubes_go_from_key_frame_to_key_frame() -> None:
    """Every other frame is looked at; two actors do one thing each, and one of them stops."""
    rows = [(f, 0, 0, 0, 0, 10, 10) for f in (0, 2, 4, 6, 8)] + [(f, 1, 2, 30, 0, 40, 20) for f in (0, 2)]
    found = [(f, 0, 0.9, 0, 0, 10, 10) for f in (0, 2, 4, 6, 8)] + [(f, 2, 0.8, 30, 0, 40, 20) for f in (0, 2)]
    evaluation = one_video(sorted(rows), found)
    assert sorted((tube.label, tube.frame_T.tolist()) for tube in evaluation.videos[0].true_tubes) == [
        (0, [0, 1, 2, 3, 4]),
        (2, [0, 1]),
    ]
    assert evaluation.video_matches().mean_average_precision == 1


def test_recall_counts_actors_whatever_they_do_and_the_best_boxes_of_each_frame() -> None:
    rows = [(0, 0, 0, 0, 0, 10, 10), (0, 0, 1, 0, 0, 10, 10), (2, 0, 0, 0, 0, 10, 10), (4, 0, 0, 0, 0, 10, 10)]
    found = [(0, 2, 0.1, 0, 0, 10, 10), (2, 1, 0.9, 50, 0, 60, 10), (2, 1, 0.3, 0, 0, 10, 10)]
    evaluation = one_video(rows, found)
    assert evaluation.recall() == pytest.approx(2 / 3)
    assert evaluation.recall(most=1) == pytest.approx(1 / 3)
    assert evaluation.frame_matches().mean_average_precision == 0


def test_what_was_found_comes_back_from_its_file(dataset: ShardDataset, tmp_path: Path) -> None:
    before = every_class_found(nothing_found(dataset, 4))
    save_boxes(tmp_path / "boxes.npz", before)
    after = load_boxes(tmp_path / "boxes.npz")
    assert after.classes == before.classes
    assert after.summary() == before.summary()
    for one, other in zip(after.videos, before.videos, strict=True):
        assert (one.sample, one.name) == (other.sample, other.name)
        assert np.array_equal(one.frame_K, other.frame_K)
        assert np.array_equal(one.rows, other.rows)
        assert torch.equal(one.found.box_N4, other.found.box_N4)
        assert torch.equal(one.found.scores, other.found.scores)


def test_files_that_are_missing_damaged_or_of_something_else_are_refused(dataset: ShardDataset, tmp_path: Path) -> None:
    path = tmp_path / "boxes.npz"
    save_boxes(path, truth_found(nothing_found(dataset)))
    whole = path.read_bytes()
    with np.load(path) as file:
        arrays = dict(file)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"boxes\.npz is missing or damaged"):
        load_boxes(path)
    for other in ({"found_V": arrays["found_V"] + 1}, {"true_M": arrays["frame_N"]}, {"name_V": np.array([object()])}):
        np.savez(path, **arrays | other)
        with pytest.raises(UserError, match=r"boxes\.npz is missing or damaged"):
            load_boxes(path)
    path.unlink()
    with pytest.raises(UserError, match=r"boxes\.npz is missing"):
        load_boxes(path)


def test_options_out_of_range_are_refused() -> None:
    for options in ({"key_frame_every": 0}, {"test_batch_size": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            DetectorTestConfig(**options)


def jhmdb_test_boxes(real_data: Path, classes: list[str]) -> BoxEvaluation:
    """Every fifth frame of the test clips of JHMDB's own split 1, by its official boxes, nothing found."""
    of_clip: dict[str, list[tuple]] = {}
    with zipfile.ZipFile(real_data / "labels/jhmdb/groundtruths_split1_test.zip") as file:
        for name in file.namelist():
            clip, _, frame = Path(name).stem.rpartition("_")
            if not name.endswith(".txt") or int(frame) % 5:
                continue
            label, x1, y1, x2, y2 = map(int, file.read(name).split())  # all count from 1
            of_clip.setdefault(clip, []).append((int(frame), 0, label - 1, x1 - 1, y1 - 1, x2, y2))
    rows = {clip: np.array(sorted(values), BOX_DTYPE) for clip, values in of_clip.items()}
    nothing = joined([])
    videos = [VideoBoxes(i, clip, r["frame"].astype(np.int64), r, nothing) for i, (clip, r) in enumerate(rows.items())]
    return BoxEvaluation(videos, tuple(classes))


def jhmdb_median_box(real_data: Path, test_clips: set[str]) -> torch.Tensor:
    """Of every other training clip, as the extent of its masks: shares of the frame."""
    masks = sorted((real_data / "jhmdb/masks").rglob("*.mat"))
    training = [path for path in masks if _plain(f"{path.parent.name}_{path.stem}") not in map(_plain, test_clips)]
    shares = []
    for path in training[::2]:
        mask_HWN = loadmat(path)["part_mask"].astype(bool)
        for frame in range(0, mask_HWN.shape[2], 5):
            rows, columns = np.nonzero(mask_HWN[:, :, frame])
            if len(rows):
                corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                shares.append(corners / np.tile(mask_HWN.shape[1::-1], 2))
    return torch.from_numpy(np.median(shares, axis=0)).float()


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def test_controls_have_their_known_values_on_jhmdb(real_data: Path) -> None:
    classes = sorted(path.name for path in (real_data / "jhmdb/masks").iterdir())
    nothing = jhmdb_test_boxes(real_data, classes)
    assert len(nothing.videos) == 268
    truth = truth_found(nothing)
    assert truth.frame_matches().mean_average_precision == truth.recall() == 1
    where = every_class_found(nothing)
    assert where.frame_matches().mean_average_precision == pytest.approx(1 / 21, abs=0.015)
    share_4 = jhmdb_median_box(real_data, {video.name for video in nothing.videos})
    what = median_box_found(nothing, [(240, 320)] * 268, share_4)
    assert what.recall() == pytest.approx(0.395, abs=0.02)
    assert what.frame_matches().mean_average_precision == pytest.approx(0.196, abs=0.03)

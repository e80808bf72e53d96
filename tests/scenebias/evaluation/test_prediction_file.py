"""Predictions come back as they were written, or not at all."""

from pathlib import Path

import numpy as np
import pytest

from scenebias.evaluation.accuracy import Evaluation
from scenebias.evaluation.prediction_file import load_predictions, save_predictions
from shards.dataset import ShardDataset
from shards.errors import UserError


@pytest.fixture
def dataset(tiny_test_dataset: Path) -> ShardDataset:
    return ShardDataset.open(tiny_test_dataset)


@pytest.fixture
def evaluation(dataset: ShardDataset) -> Evaluation:
    return Evaluation(np.random.default_rng(0).dirichlet(np.ones(3), len(dataset)), np.asarray(dataset.labels))


def test_predictions_come_back_with_the_names_of_clips_and_classes(
    dataset: ShardDataset, evaluation: Evaluation, tmp_path: Path
) -> None:
    save_predictions(tmp_path / "p.npz", evaluation, dataset)
    found = load_predictions(tmp_path / "p.npz")
    np.testing.assert_allclose(found.evaluation.probability_NA, evaluation.probability_NA, rtol=1e-6)
    assert found.evaluation.label_N.tolist() == dataset.labels.tolist()
    assert found.evaluation.top1 == evaluation.top1
    assert found.clip_names == tuple(dataset.info(clip).name for clip in range(7))
    assert found.classes == ("clap", "jump", "wave")


def test_the_file_holds_plain_arrays_and_the_same_predictions_make_the_same_file(
    dataset: ShardDataset, evaluation: Evaluation, tmp_path: Path
) -> None:
    one, other = tmp_path / "one.npz", tmp_path / "other.npz"
    for path in (one, other):
        save_predictions(path, evaluation, dataset)
    assert one.read_bytes() == other.read_bytes()
    with np.load(one, allow_pickle=False) as file:
        assert file["probability_NA"].dtype == np.float32
        assert file["label_N"].dtype == np.int64


@pytest.mark.parametrize("damage", ["missing", "empty", "short", "text", "one array", "other arrays", "other shapes"])
def test_what_cannot_be_read_is_refused_by_name(
    dataset: ShardDataset, evaluation: Evaluation, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "predictions.npz"
    save_predictions(path, evaluation, dataset)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "other arrays":
        np.savez(path, label_N=np.arange(3))
    elif damage == "one array":
        with open(path, "wb") as file:
            np.save(file, np.arange(3))
    elif damage == "other shapes":
        names = np.array(["a"] * 3)
        np.savez(path, label_N=np.arange(2), probability_NA=np.ones((3, 2)), clip_name_N=names, class_A=names)
    else:
        path.write_bytes({"empty": b"", "short": whole[: len(whole) // 2], "text": b"no predictions"}[damage])
    with pytest.raises(UserError, match=r"predictions\.npz is missing or damaged"):
        load_predictions(path)


def test_pickled_predictions_are_never_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    arrays = {name: np.array([{}], dtype=object) for name in ("probability_NA", "label_N", "clip_name_N", "class_A")}
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="damaged"):
        load_predictions(path)


def test_predictions_that_cannot_be_written_are_a_user_s_error(
    dataset: ShardDataset, evaluation: Evaluation, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        save_predictions(tmp_path / "no-folder" / "p.npz", evaluation, dataset)

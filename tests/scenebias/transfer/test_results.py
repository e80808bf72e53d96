"""The table of a transfer command against numbers made by hand, and what is shown of it.

Shape suffixes: R runs, N clips, A actions.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from scenebias.evaluation.prediction_file import PREDICTIONS_NAME
from scenebias.statistics.intervals import paired_bootstrap, seed_interval
from scenebias.transfer.published import CLASS_COUNTS, PUBLISHED, TEST_CLIP_COUNTS, published_results
from scenebias.transfer.report import as_json, as_page, report_results
from scenebias.transfer.results import FinishedRun, TransferResults
from tests.scenebias.browser import problems_of_page

CLASSES = ("clap", "jump", "wave")
LABELS = {"1": np.array([0, 0, 1, 1, 2, 2]), "2": np.array([0, 1, 1, 1])}
PREDICTED = {
    ("from scratch", 0, "1"): [0, 1, 0, 0, 2, 1],
    ("from scratch", 0, "2"): [0, 0, 0, 0],
    ("baseline", 0, "1"): [0, 0, 1, 0, 2, 1],
    ("baseline", 0, "2"): [0, 1, 0, 0],
    ("baseline", 1, "1"): [0, 1, 1, 0, 2, 1],
    ("baseline", 1, "2"): [0, 1, 0, 1],
    ("debias", 0, "1"): [0, 0, 1, 1, 2, 2],
    ("debias", 0, "2"): [0, 1, 1, 0],
    ("debias", 1, "1"): [0, 0, 1, 1, 2, 1],
    ("debias", 1, "2"): [0, 1, 1, 1],
}


def finish_run(folder: Path, predicted: list[int], label_N: np.ndarray, classes: tuple[str, ...] = CLASSES) -> None:
    """What a run leaves of its predictions and its log."""
    folder.mkdir(parents=True)
    probability_NA = np.full((len(predicted), len(classes)), 0.1, np.float32)
    probability_NA[np.arange(len(predicted)), predicted] = 0.8
    names = np.array([f"clip {clip}" for clip in range(len(predicted))])
    np.savez(
        folder / PREDICTIONS_NAME,
        probability_NA=probability_NA, label_N=label_N, clip_name_N=names, class_A=np.array(classes),
    )  # fmt: skip
    step = {"kind": "step", "global_step": 0, "action_loss": 1.0}
    epoch = {"kind": "epoch", "epoch": 0, "top1": 0.5}
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (step, epoch)))


@pytest.fixture
def results(tmp_path: Path) -> TransferResults:
    runs = []
    for (row, number, split), predicted in PREDICTED.items():
        folder = tmp_path / f"{row}-{number}-{split}"
        finish_run(folder, predicted, LABELS[split])
        runs.append(FinishedRun(row, number, "hmdb51", split, folder))
    return TransferResults(runs)


def right(row: str, number: int, split: str) -> np.ndarray:
    return np.array(PREDICTED[row, number, split]) == LABELS[split]


def test_a_cell_is_the_mean_over_splits_and_then_over_seeds(results: TransferResults) -> None:
    wanted = seed_interval([(4 / 6 + 2 / 4) / 2, (3 / 6 + 3 / 4) / 2])
    assert vars(results.measure("baseline", "hmdb51", "top1")) == pytest.approx(vars(wanted))
    scratch = results.measure("from scratch", "hmdb51", "top1")
    assert scratch.mean == pytest.approx((2 / 6 + 1 / 4) / 2)
    assert math.isnan(scratch.low)
    by_class = [np.mean([1, 1 / 2, 1 / 2]), np.mean([1, 1 / 3]), np.mean([1 / 2, 1 / 2, 1 / 2]), np.mean([1, 2 / 3])]
    assert results.measure("baseline", "hmdb51", "mean_class_accuracy").mean == pytest.approx(np.mean(by_class))


def test_a_difference_is_that_of_the_pairs_of_clips_split_by_split(results: TransferResults) -> None:
    splits_a, splits_b = (
        [np.stack([right(row, number, split) for number in (0, 1)]) for split in LABELS]
        for row in ("debias", "baseline")
    )
    found = results.differences["debias", "hmdb51"]
    assert found == paired_bootstrap(splits_a, splits_b)
    assert found.mean == pytest.approx(
        results.measure("debias", "hmdb51", "top1").mean - results.measure("baseline", "hmdb51", "top1").mean
    )


def test_classes_are_counted_over_all_runs(results: TransferResults) -> None:
    confusion_AA = results.confusion_AA("baseline", "hmdb51")
    assert confusion_AA.sum() == 2 * (6 + 4)
    assert confusion_AA.sum(axis=1).tolist() == [6, 10, 4]
    assert confusion_AA.tolist() == [[5, 1, 0], [5, 5, 0], [0, 2, 2]]
    np.testing.assert_allclose(results.class_accuracy_A("baseline", "hmdb51"), [5 / 6, 1 / 2, 1 / 2])


def test_the_row_that_others_are_compared_with_is_the_baseline_or_else_the_first(results: TransferResults) -> None:
    assert results.reference == "baseline"
    assert TransferResults([run for run in results.runs if run.row != "baseline"]).reference == "from scratch"


def test_the_json_has_all_numbers_and_no_nan(results: TransferResults) -> None:
    plain = json.loads(json.dumps(as_json(results), allow_nan=False))
    assert [(cell["row"], cell["target"], cell["seeds"], cell["splits"]) for cell in plain["table"]] == [
        ("from scratch", "hmdb51", 1, ["1", "2"]),
        ("baseline", "hmdb51", 2, ["1", "2"]),
        ("debias", "hmdb51", 2, ["1", "2"]),
    ]
    assert plain["table"][0]["top1"] == {"mean": pytest.approx(7 / 24), "low": None, "high": None}
    assert [(d["row"], d["reference"]) for d in plain["differences"]] == [
        ("from scratch", "baseline"),
        ("debias", "baseline"),
    ]
    assert len(plain["runs"]) == len(PREDICTED)
    assert {(run["split"], run["clips"]) for run in plain["runs"]} == {("1", 6), ("2", 4)}
    assert plain["published"] == []
    assert [c["accuracy"] for c in plain["classes"] if c["row"] == "baseline"] == pytest.approx([5 / 6, 1 / 2, 1 / 2])


def test_what_is_printed_and_the_page_hold_the_same_table_and_the_page_curves_and_matrices(
    results: TransferResults, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report_results(tmp_path, results)
    printed = capsys.readouterr().out
    page = (tmp_path / "results.html").read_text()
    for words in ("baseline", "debias", "from scratch", "60.4 ±", "29.2"):
        assert words in printed
        assert words in page
    assert page.count("<img") == 2 + 3
    assert "Test clips: hmdb51 6 + 4 of 3 classes." in page


def test_the_page_is_shown_whole_in_a_browser(results: TransferResults, tmp_path: Path) -> None:
    report_results(tmp_path, results)
    assert problems_of_page(tmp_path / "results.html") == []


def test_published_results_stand_beside_ours_where_the_whole_data_set_is_the_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = []
    for target, count in (("hmdb51", 51), ("diving48", 48), ("ucf101", 2)):
        classes = tuple(f"class {number}" for number in range(count))
        finish_run(tmp_path / target, 40 * list(range(count)), np.tile(np.arange(count), 40), classes)
        runs.append(FinishedRun("debias", 0, target, "1", tmp_path / target))
    results = TransferResults(runs)
    report_results(tmp_path, results)
    lines = capsys.readouterr().out.replace("│", "").splitlines()
    paper = next(line.split() for line in lines if "debias, Choi" in line)
    assert paper[-4:] == ["–", "56.7", "20.5", "–"]
    assert {found["target"] for found in as_json(results)["published"]} == {"hmdb51", "diving48"}
    assert "Choi et al." in as_page(results)


def test_what_was_published_is_complete_and_gains_from_debiasing() -> None:
    for target, classes in CLASS_COUNTS.items():
        found = published_results(target, classes, TEST_CLIP_COUNTS[target])
        assert len(found) == 4
        for source in {result.source for result in found}:
            top1 = {result.objective: result.top1 for result in found if result.source == source}
            assert 0 < top1["baseline"] < top1["debias"] < 1
    assert len(PUBLISHED) == 4 * len(CLASS_COUNTS)
    assert published_results("hmdb51", 50, 1530) == published_results("other", 51, 1530) == []
    assert published_results("hmdb51", 51, 1000) == []

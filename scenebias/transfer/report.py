"""The results of a transfer command: a table on the screen, results.json, and a page with all there is to see."""

import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from scenebias.commands import null_for_nan, write_output
from scenebias.reports.curves import loss_curves
from scenebias.reports.figures import confusion_matrix
from scenebias.reports.html import Section, charts, page, paragraph, table
from scenebias.reports.result_rows import NONE, Cells, by_target, differences
from scenebias.reports.terminal import number_table
from scenebias.transfer.results import MEASURES, TransferResults

RESULTS_NAME = "results.json"


def report_results(out: Path, results: TransferResults) -> None:
    """Print the results, and write ``results.json`` and ``results.html`` into ``out``."""
    console = Console()
    console.print(
        number_table("top-1 %: mean over splits and seeds ± half of its 95 % interval over seeds", *_top1(results))
    )
    if len(results.rows) > 1:
        title = f"top-1 compared with {results.reference}, in percentage points, with its 95 % interval over test clips"
        console.print(number_table(title, *differences(results, results.differences)))
    write_output(out / RESULTS_NAME, as_json(results))
    write_output(out / "results.html", as_page(results))
    console.print(f"confusion matrices and classes: {escape(str(out / 'results.html'))}", soft_wrap=True)


def _top1(results: TransferResults) -> Cells:
    """Ours, and what was published of the same targets below."""
    header, rows = by_target(results, "top1")
    published = [found for target in results.targets for found in results.published(target)]
    for source, objective in dict.fromkeys((found.source, found.objective) for found in published):
        top1 = {
            found.target: found.top1 for found in published if (found.source, found.objective) == (source, objective)
        }
        cells = (f"{100 * top1[target]:.1f}" if target in top1 else NONE for target in results.targets)
        rows = [*rows, [f"{objective}, {source}", NONE, *cells]]
    return header, rows


def as_json(results: TransferResults) -> dict[str, Any]:
    """All numbers; shares are 0 to 1, and null where there is none."""
    pairs = [(row, target) for target in results.targets for row in results.rows]
    return {
        "runs": [
            {"row": run.row, "number": run.number, "target": run.target, "split": run.split, "folder": str(run.folder)}
            | run.summary
            for run in results.runs
        ],
        "table": [
            {"row": row, "target": target, "seeds": results.seeds(row), "splits": results.splits(target)}
            | {name: null_for_nan(vars(results.measure(row, target, name))) for name in MEASURES}
            for row, target in pairs
        ],
        "differences": [
            {"row": row, "reference": results.reference, "target": target, "top1": null_for_nan(vars(difference))}
            for (row, target), difference in results.differences.items()
        ],
        "classes": [
            {"row": row, "target": target, "class": name, "accuracy": None if math.isnan(accuracy) else accuracy}
            for row, target in pairs
            for name, accuracy in zip(
                results.classes(target), results.class_accuracy_A(row, target).tolist(), strict=True
            )
        ],
        "published": [vars(found) for target in results.targets for found in results.published(target)],
    }


def as_page(results: TransferResults) -> str:
    """The tables, the curves, and for every target its confusion matrices and classes."""
    sections = [
        Section(
            "Top-1 accuracy (%)",
            table(*_top1(results))
            + paragraph(
                "Mean over the splits of a target, then over seeds; ± is half of the 95 % interval over seeds"
                " (Student's t), where there is more than one. A clip's prediction is the mean of those of its windows,"
                " and every test clip counts once. What was published of the same target stands below our own."
            )
            + paragraph(f"Test clips: {'; '.join(map(results.describe, results.targets))}."),
        )
    ]
    if len(results.rows) > 1:
        sections.append(
            Section(
                f"Top-1 accuracy compared with {results.reference} (percentage points)",
                table(*differences(results, results.differences))
                + paragraph(
                    "In brackets the 95 % interval of a paired bootstrap over the test clips: all runs of a clip stay"
                    " together, and every split is drawn by itself. It holds for these runs; what other seeds would"
                    " change is in the table above."
                ),
            )
        )
    sections += [
        Section(f"{title[0].upper()}{title[1:]} (%)", table(*by_target(results, name)))
        for name, title in MEASURES.items()
        if name != "top1"
    ]
    for target in results.targets:
        sections += [_curves(results, target), _confusion(results, target), _classes(results, target)]
    return page("scenebias: transfer", sections)


def _curves(results: TransferResults, target: str) -> Section:
    first = {row: results.runs_of(row, target)[0].folder for row in results.rows}
    return Section(f"{target}: training", paragraph("The first run of every row.") + charts(loss_curves(first)))


def _confusion(results: TransferResults, target: str) -> Section:
    classes = results.classes(target)
    figures = {row: confusion_matrix(results.confusion_AA(row, target), classes) for row in results.rows}
    return Section(f"{target}: confusion", charts(figures))


def _classes(results: TransferResults, target: str) -> Section:
    clips_A = results.confusion_AA(results.rows[0], target).sum(axis=1) // results.seeds(results.rows[0])
    accuracies_RA = [results.class_accuracy_A(row, target) for row in results.rows]
    rows = [
        [name, str(clips), *(NONE if math.isnan(share) else f"{100 * share:.1f}" for share in shares)]
        for name, clips, *shares in zip(results.classes(target), clips_A.tolist(), *accuracies_RA, strict=True)
    ]
    return Section(f"{target}: accuracy by class (%)", table(("class", "clips", *results.rows), rows))

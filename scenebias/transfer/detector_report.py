"""The results of a command that trains detectors: tables on the screen, results.json, and a page with pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape

from scenebias.commands import null_for_nan, write_output
from scenebias.detection.results import DetectionResults
from scenebias.reports.html import Section, page, paragraph, table
from scenebias.reports.result_rows import NONE, Cells, by_measure, differences
from scenebias.reports.terminal import number_table

RESULTS_NAME = "results.json"
PAGE_NAME = "results.html"


class PublishedRow(Protocol):
    """What others have published of a target."""

    @property
    def objective(self) -> str:
        """How the backbone was pretrained."""

    @property
    def summary(self) -> Mapping[str, float]:
        """By the names of measures, 0 to 1; those that are missing were not published."""


@dataclass(frozen=True)
class Reporting:
    """How the results of one command are told."""

    name: str
    """Of the command."""
    average_precision: str
    """Which AP it is, for tables."""
    measures: Mapping[str, str]
    """The titles of measures, by name."""
    on_screen: Sequence[str]
    """As many of them as fit beside the names of the rows."""
    compared: str
    """By which measure rows are compared, as a text."""
    published: Callable[[str, int, int], Sequence[PublishedRow]]
    """Of a target's name, number of classes, and of test videos in its smallest split."""
    source: str
    """Of what was published."""
    controls: str
    """What the numbers are to be seen beside, as sentences."""
    pictures: Callable[[DetectionResults, str], Section]
    """Of some test videos of a target."""

    def title(self, target: str) -> str:
        """Of the table of a target."""
        return f"{target}: {self.name}, % ({self.average_precision}) ± half of the 95 % interval over seeds"

    def difference_title(self, results: DetectionResults) -> str:
        """Of the table of differences."""
        return (
            f"{self.compared} compared with {results.reference}, in percentage points, with its 95 % interval over test"
            " videos"
        )

    def cells(self, results: DetectionResults, target: str, names: Sequence[str]) -> Cells:
        """Ours, and below what was published of the same target."""
        header, rows = by_measure(results, target, {name: self.measures[name] for name in names})
        published = self.published(target, len(results.classes(target)), min(results.video_counts(target)))
        others = [
            [f"{found.objective}, {self.source}", NONE]
            + [f"{100 * found.summary[name]:.1f}" if name in found.summary else NONE for name in names]
            for found in published
        ]
        return header, [*rows, *others]


def report_results(out: Path, results: DetectionResults, reporting: Reporting) -> None:
    """Print the results, and write ``results.json`` and ``results.html`` into ``out``."""
    console = Console()
    for target in results.targets:
        console.print(number_table(reporting.title(target), *reporting.cells(results, target, reporting.on_screen)))
    if len(results.rows) > 1:
        console.print(number_table(reporting.difference_title(results), *differences(results, results.differences)))
    write_output(out / RESULTS_NAME, as_json(results, reporting))
    write_output(out / PAGE_NAME, as_page(results, reporting))
    console.print(f"pictures: {escape(str(out / PAGE_NAME))}", soft_wrap=True)


def as_json(results: DetectionResults, reporting: Reporting) -> dict[str, Any]:
    """All numbers; shares are 0 to 1, and null where there is none."""
    return {
        "average_precision": reporting.average_precision,
        "runs": [
            {"row": run.row, "number": run.number, "target": run.target, "split": run.split, "folder": str(run.folder)}
            | null_for_nan(dict(run.summary))
            for run in results.runs
        ],
        "table": [
            {"row": row, "target": target, "seeds": results.seeds(row), "splits": results.splits(target)}
            | {name: null_for_nan(vars(results.measure(row, target, name))) for name in reporting.measures}
            for target in results.targets
            for row in results.rows
        ],
        "differences": [
            {"row": row, "reference": results.reference, "target": target, "of": reporting.compared}
            | null_for_nan(vars(difference))
            for (row, target), difference in results.differences.items()
        ],
    }


def as_page(results: DetectionResults, reporting: Reporting) -> str:
    """The tables, and pictures of some videos of every target."""
    sections = [
        Section(
            reporting.title(target),
            table(*reporting.cells(results, target, list(reporting.measures)))
            + paragraph(
                f"{results.describe(target)}. Mean over the splits, then over seeds; ± is half of the 95 % interval"
                " over seeds (Student's t), where there is more than one."
            )
            + paragraph(reporting.controls),
        )
        for target in results.targets
    ]
    if len(results.rows) > 1:
        sections.append(
            Section(
                reporting.difference_title(results),
                table(*differences(results, results.differences))
                + paragraph(
                    "In brackets the 95 % interval of a paired bootstrap over the test videos: all runs of a video stay"
                    " together, and every split is drawn by itself. It holds for these runs; what other seeds would"
                    " change is in the table above."
                ),
            )
        )
    pictures = [reporting.pictures(results, target) for target in results.targets]
    return page(f"scenebias: {reporting.name}", [*sections, *pictures])

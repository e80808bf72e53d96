"""The results of localising: tables on the screen, results.json, and a page with pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from scenebias.commands import null_for_nan, write_output
from scenebias.detection.matching import PROTOCOL_NAMES, Protocol
from scenebias.detection.results import DetectionResults, DetectionRun
from scenebias.localize.found_segments import (
    HEADLINE,
    MEASURES,
    SEGMENTS_NAME,
    TODAY,
    FoundSegments,
    summary_of,
)
from scenebias.localize.published import SOURCE, published_maps
from scenebias.localize.timelines import LEAST_SHOWN_SCORE, timelines
from scenebias.reports.html import Section, chart, page, paragraph, table, wide
from scenebias.reports.result_rows import NONE, Cells, by_measure, differences
from scenebias.reports.terminal import number_table
from scenebias.transfer.plan import PlannedRun

RESULTS_NAME = "results.json"
ON_SCREEN = {name: MEASURES[name] for name in ("map@0.3", "map@0.5", "map@0.7", "map@0.1:0.7", HEADLINE)}
"""As many measures as fit beside the names of the rows."""


def finished_run(run: PlannedRun, protocol: Protocol) -> DetectionRun:
    """What a complete run came to. UserError where its file cannot be read."""
    found = FoundSegments.load(run.folder / SEGMENTS_NAME)
    matches = found.matches(protocol)
    return DetectionRun(
        row=run.start.row,
        number=run.start.number,
        target=run.pair.target,
        split=run.pair.split,
        folder=run.folder,
        summary=summary_of(matches),
        compared=matches.at(*TODAY),
        classes=found.classes,
    )


def report_results(out: Path, results: DetectionResults, protocol: Protocol) -> None:
    """Print the results, and write ``results.json`` and ``results.html`` into ``out``."""
    console = Console()
    for target in results.targets:
        console.print(number_table(_title(target, protocol), *maps(results, target, ON_SCREEN)))
    if len(results.rows) > 1:
        console.print(number_table(_difference_title(results), *differences(results, results.differences)))
    write_output(out / RESULTS_NAME, as_json(results, protocol))
    write_output(out / "results.html", as_page(results, protocol))
    console.print(f"timelines: {escape(str(out / 'results.html'))}", soft_wrap=True)


def _title(target: str, protocol: Protocol) -> str:
    return f"{target}: mAP in % by temporal IoU ({PROTOCOL_NAMES[protocol]}) ± half of its 95 % interval over seeds"


def _difference_title(results: DetectionResults) -> str:
    return (
        f"mAP, mean of {TODAY[0]} to {TODAY[-1]}, compared with {results.reference}, in percentage points, with its"
        " 95 % interval over test videos"
    )


def maps(results: DetectionResults, target: str, titles: Mapping[str, str] = MEASURES) -> Cells:
    """Ours, and below what was published of the same target."""
    header, rows = by_measure(results, target, titles)
    published = published_maps(target, len(results.classes(target)), min(results.video_counts(target)))
    others = [
        [f"{found.objective}, {SOURCE}", NONE, *(f"{100 * found.summary[name]:.1f}" for name in titles)]
        for found in published
    ]
    return header, [*rows, *others]


def as_json(results: DetectionResults, protocol: Protocol) -> dict[str, Any]:
    """All numbers; shares are 0 to 1, and null where there is none."""
    return {
        "average_precision": protocol,
        "runs": [
            {"row": run.row, "number": run.number, "target": run.target, "split": run.split, "folder": str(run.folder)}
            | null_for_nan(dict(run.summary))
            for run in results.runs
        ],
        "table": [
            {"row": row, "target": target, "seeds": results.seeds(row), "splits": results.splits(target)}
            | {name: null_for_nan(vars(results.measure(row, target, name))) for name in MEASURES}
            for target in results.targets
            for row in results.rows
        ],
        "differences": [
            {"row": row, "reference": results.reference, "target": target, HEADLINE: null_for_nan(vars(difference))}
            for (row, target), difference in results.differences.items()
        ],
    }


def as_page(results: DetectionResults, protocol: Protocol) -> str:
    """The tables, and timelines of some videos of every target."""
    sections = [
        Section(
            _title(target, protocol),
            table(*maps(results, target))
            + paragraph(
                f"{results.describe(target)}. Mean over the splits, then over seeds; ± is half of the 95 % interval"
                " over seeds (Student's t), where there is more than one. For comparison: the truth as prediction has"
                f" 100; true segments with random scores for every class {_chance(results, target)}."
            ),
        )
        for target in results.targets
    ]
    if len(results.rows) > 1:
        sections.append(
            Section(
                _difference_title(results),
                table(*differences(results, results.differences))
                + paragraph(
                    "In brackets the 95 % interval of a paired bootstrap over the test videos: all runs of a video stay"
                    " together, and every split is drawn by itself. It holds for these runs; what other seeds would"
                    " change is in the table above."
                ),
            )
        )
    return page("scenebias: localize", [*sections, *(_pictures(results, target) for target in results.targets)])


def _chance(results: DetectionResults, target: str) -> str:
    return f"about {100 / len(results.classes(target)):.1f}, where classes are equally frequent"


def _pictures(results: DetectionResults, target: str) -> Section:
    """Of the first run of every row."""
    runs: Sequence[DetectionRun] = [results.runs_of(row, target)[0] for row in results.rows]
    found = {run.row: FoundSegments.load(run.folder / SEGMENTS_NAME) for run in runs}
    drawn = "".join(wide(chart(figure, name)) for name, figure in timelines(found).items())
    told = paragraph(
        f"The first run of every row; segments of a probability of {LEAST_SHOWN_SCORE} or more, the surer the higher."
        " Grey: nobody can tell whether it happens."
    )
    return Section(f"{target}: some test videos", told + drawn)

"""How the results of localising are told."""

from pathlib import Path

from scenebias.detection.matching import PROTOCOL_NAMES, Protocol
from scenebias.detection.results import DetectionResults, DetectionRun
from scenebias.localize.cuts import read_cuts, spans_found
from scenebias.localize.found_segments import HEADLINE, MEASURES, SEGMENTS_NAME, TODAY, FoundSegments, summary_of
from scenebias.localize.published import SOURCE, published_maps
from scenebias.localize.timelines import LEAST_SHOWN_SCORE, timelines
from scenebias.reports.html import Section, chart, paragraph, wide
from scenebias.transfer.detector_report import Reporting
from scenebias.transfer.plan import Pair, PlannedRun

CUTS_FOLDER, CUTS_ROW = "cuts", "cuts alone, class by chance"
CONTROLS = (
    "Beside these: the truth as prediction has 100, and true segments with a random score for every class about 1 /"
    " classes, where classes are equally frequent."
)


def finished_run(run: PlannedRun, protocol: Protocol) -> DetectionRun:
    """What a complete run came to. UserError where its file cannot be read."""
    return _as_run(run.pair, run.folder, run.start.row, run.start.number, protocol)


def cut_control(out: Path, run: PlannedRun, cuts: Path, protocol: Protocol) -> DetectionRun:
    """What the spans between the cuts of a run's test videos come to, with classes by chance; kept below ``out``.

    UserError where ``cuts`` are not of these videos.
    """
    folder = out / CUTS_FOLDER / run.pair.name
    folder.mkdir(parents=True, exist_ok=True)
    found = FoundSegments.load(run.folder / SEGMENTS_NAME)
    spans_found(found, read_cuts(cuts), f"--cuts {cuts}").save(folder / SEGMENTS_NAME)
    return _as_run(run.pair, folder, CUTS_ROW, 0, protocol)


def _as_run(pair: Pair, folder: Path, row: str, number: int, protocol: Protocol) -> DetectionRun:
    found = FoundSegments.load(folder / SEGMENTS_NAME)
    matches = found.matches(protocol)
    return DetectionRun(
        row=row,
        number=number,
        target=pair.target,
        split=pair.split,
        folder=folder,
        summary=summary_of(matches),
        compared=matches.at(*TODAY),
        classes=found.classes,
    )


def reporting(protocol: Protocol) -> Reporting:
    """With AP as ``protocol`` has it."""
    return Reporting(
        name="mAP by temporal IoU",
        average_precision=PROTOCOL_NAMES[protocol],
        measures=MEASURES,
        on_screen=("map@0.3", "map@0.5", "map@0.7", "map@0.1:0.7", HEADLINE),
        compared=f"mAP, mean of {TODAY[0]} to {TODAY[-1]},",
        published=published_maps,
        source=SOURCE,
        controls=CONTROLS,
        pictures=_pictures,
    )


def _pictures(results: DetectionResults, target: str) -> Section:
    """Of the first run of every row."""
    runs = [results.runs_of(row, target)[0] for row in results.rows]
    found = {run.row: FoundSegments.load(run.folder / SEGMENTS_NAME) for run in runs}
    drawn = "".join(wide(chart(figure, name)) for name, figure in timelines(found).items())
    told = paragraph(
        f"The first run of every row; segments of a probability of {LEAST_SHOWN_SCORE} or more, the surer the higher."
        " Grey: nobody can tell whether it happens."
    )
    return Section(f"{target}: some test videos", told + drawn)

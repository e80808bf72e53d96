"""How the results of localising are told."""

from scenebias.detection.matching import PROTOCOL_NAMES, Protocol
from scenebias.detection.results import DetectionResults, DetectionRun
from scenebias.localize.found_segments import HEADLINE, MEASURES, SEGMENTS_NAME, TODAY, FoundSegments, summary_of
from scenebias.localize.published import SOURCE, published_maps
from scenebias.localize.timelines import LEAST_SHOWN_SCORE, timelines
from scenebias.reports.html import Section, chart, paragraph, wide
from scenebias.transfer.detector_report import Reporting
from scenebias.transfer.plan import PlannedRun

CONTROLS = (
    "Beside these: the truth as prediction has 100, and true segments with a random score for every class about 1 /"
    " classes, where classes are equally frequent."
)


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

"""How the results of detecting are told."""

from scenebias.detect.box_file import BOXES_NAME, load_boxes
from scenebias.detect.pictures import key_frame_strips
from scenebias.detect.published import SOURCE, published_maps
from scenebias.detection.linking import LinkingConfig
from scenebias.detection.matching import PROTOCOL_NAMES
from scenebias.detection.results import DetectionResults, DetectionRun
from scenebias.reports.html import Section, paragraph
from scenebias.transfer.detector_report import Reporting
from scenebias.transfer.plan import Pair, PlannedRun

MEASURES = {
    "frame_map_50": "frame-mAP .5",
    "video_map_20": "video-mAP .2",
    "video_map_50": "video-mAP .5",
    "video_map_50_95": "video-mAP .5:.95",
    "recall_50": "recall .5, any class",
    "recall_50_of_best": "of the best box",
}
CONTROLS = (
    "Beside these: the truth as prediction has 100, and true boxes with a random score for every class about 1 /"
    " classes of frame-mAP, where classes are equally frequent. All frames of the test videos are looked at, unless"
    " --key-frame-every says otherwise."
)


def finished_run(run: PlannedRun, linking: LinkingConfig) -> DetectionRun:
    """What a complete run came to. UserError where its file cannot be read."""
    found = load_boxes(run.folder / BOXES_NAME)
    return DetectionRun(
        row=run.start.row,
        number=run.start.number,
        target=run.pair.target,
        split=run.pair.split,
        folder=run.folder,
        summary=found.summary(linking),
        compared=found.frame_matches(),
        classes=found.classes,
    )


def reporting(pairs: list[Pair]) -> Reporting:
    """With pictures of the test videos of these."""

    def pictures(results: DetectionResults, target: str) -> Section:
        return _pictures(results, target, next(pair for pair in pairs if pair.target == target))

    return Reporting(
        name="boxes of actors",
        average_precision=PROTOCOL_NAMES["voc"],
        measures=MEASURES,
        on_screen=("frame_map_50", "video_map_20", "video_map_50", "recall_50"),
        compared="frame-mAP at .5",
        published=published_maps,
        source=SOURCE,
        controls=CONTROLS,
        pictures=pictures,
    )


def _pictures(results: DetectionResults, target: str, pair: Pair) -> Section:
    """Of the first run of every row on the first split."""
    body = paragraph(
        "The first run of every row: the best box of some frames, with its score in percent. White: the truth; green:"
        " of its class; red: of another."
    )
    for row in results.rows:
        run = next(run for run in results.runs_of(row, target) if run.split == pair.split)
        found = load_boxes(run.folder / BOXES_NAME)
        body += key_frame_strips(found, pair.val_data, title=f"{row}: ")
    return Section(f"{target}: some test videos", body)

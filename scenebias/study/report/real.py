"""What the report says of real videos: whether they can tell anything of scenes, and what they tell."""

from collections.abc import Sequence
from math import isnan

from scenebias.reports.html import Section, paragraph, table
from scenebias.study.arms import BASELINE
from scenebias.study.data.jhmdb import PARTS, SPLITS
from scenebias.study.measured import (
    ALL_MEASURES,
    AT_CLEAN_BN,
    CONFLICTING,
    COSTS,
    HEAD_TRANSFERRED,
    TIED_MEASURES,
    TRANSFERRED,
    USUAL,
)
from scenebias.study.plan import JHMDB_ARMS, JHMDB_STARTS, SCRATCH, TIED_WORLD, Plan, jhmdb_world
from scenebias.study.report.cells import points, spread, titled, unit_of
from scenebias.study.results import DATA, Results

HUMAN_ALONE = "human_only_top1"
JHMDB_MEASURES = (
    HUMAN_ALONE,
    "clean_top1",
    "swapped_top1",
    "swap_to_scene_rate",
    "contrasted_accuracy",
    "hidden_pixels_frame_mean_top1",
    "outline_top1",
    "scene_probe",
)
JHMDB_GAINS = ("clean_top1", "swapped_top1", HUMAN_ALONE)
TIED_GAINS = (CONFLICTING, USUAL, HUMAN_ALONE)
TIMES_CHANCE = 3
"""How often the human alone must be recognised, in multiples of chance, before real clips say anything of scenes."""
LEAST_CONFLICTING = 100
"""Fewer test clips than this say nothing of arms that differ by ten points."""
INTERVALS = (
    "Accuracies are means over seeds ± half the width of their 95 % interval (Student’s t). Differences, in points,"
    " have two 95 % intervals: over seeds, in pairs, and over the source videos of the test clips (bootstrap; all clips"
    " of a video are drawn together, as clips of one video are no independent evidence). What holds, holds under both."
)


class RealVideos:
    """Texts and tables on JHMDB, from the results."""

    def __init__(self, plan: Plan, results: Results) -> None:
        self.plan, self.results = plan, results
        self.splits = [jhmdb_world(split) for split in SPLITS]

    def sections(self) -> list[Section]:
        """The sections of the report, of what was measured."""
        sections = [Section("Real videos: JHMDB", self._transfer())]
        if self.results.has(TIED_WORLD, BASELINE):
            sections.append(Section("Real videos with a real confound: JHMDB, scene and action tied", self._tied()))
        return sections

    def is_conclusive(self, worlds: Sequence[str]) -> bool:
        """Whether these networks see people at all in these clips: before that, nothing here is about scenes."""
        alone, needed = self._human_alone(worlds)
        return max(alone.values()) >= needed

    def precondition(self, worlds: Sequence[str]) -> str:
        """One sentence or two that say whether `is_conclusive`, and by which numbers."""
        alone, needed = self._human_alone(worlds)
        best = max(alone, key=lambda arm: alone[arm])
        numbers = (
            f"A claim about scenes needs networks that recognise the human alone at {TIMES_CHANCE} times chance"
            f" ({100 * needed:.1f} %): “{best}” reaches {100 * alone[best]:.1f} %."
        )
        if self.is_conclusive(worlds):
            return numbers
        return f"Inconclusive. {numbers} What the arms do here, they do mostly without the people."

    def _human_alone(self, worlds: Sequence[str]) -> tuple[dict[str, float], float]:
        """The accuracy of each arm on humans alone, a share (0 where it is not known), and the share that is needed."""
        alone = {arm: self.results.interval(worlds, arm, HUMAN_ALONE).mean for arm in JHMDB_ARMS}
        chance = self.results.interval(worlds, DATA, "chance").mean
        return {arm: 0.0 if isnan(mean) else mean for arm, mean in alone.items()}, TIMES_CHANCE * chance

    def _table(self, worlds: Sequence[str], measures: Sequence[str]) -> str:
        """A row a measure as saved, then those with clean statistics, then what it cost; a column an arm."""
        rows = [
            [
                f"{titled(name)}{', clean statistics' if suffix else ''}",
                *(self._cell(worlds, arm, name + suffix) for arm in JHMDB_ARMS),
            ]
            for suffix in ("", AT_CLEAN_BN)
            for name in measures
            if not (suffix and name == "outline_top1")
        ]
        rows += [[title, *(self._cell(worlds, arm, name) for arm in JHMDB_ARMS)] for name, title in COSTS.items()]
        return table(["", *JHMDB_ARMS], rows)

    def _cell(self, worlds: Sequence[str], arm: str, measure: str) -> str:
        return spread(self.results.interval(worlds, arm, measure), unit_of(measure))

    def _gains(self, worlds: Sequence[str], measures: Sequence[str], arms: Sequence[str]) -> str:
        """A row an arm and measure: the difference to the baseline with both intervals."""
        rows = [
            [
                arm,
                ALL_MEASURES[name].title,
                points(self.results.gain_over(worlds, arm, name)),
                points(self.results.bootstrap_gain(worlds, arm, name)),
            ]
            for arm in arms
            if arm != BASELINE
            for name in measures
        ]
        return table(["against the baseline", "", "over seeds", "over source videos"], rows)

    def _transfer(self) -> str:
        config = self.plan.config.jhmdb
        before, after = (len(PARTS[part]) for part in ("pretrain", "transfer"))
        accuracies = [
            [start, *(self._cell(self.splits, start, name) for name in (TRANSFERRED, HEAD_TRANSFERRED))]
            for start in JHMDB_STARTS
        ]
        return (
            paragraph(self.precondition(self.splits))
            + paragraph(
                "Squares around the people, cut out by their masks. Pretrained from random weights on the first"
                f" {before} classes in the order of their names for {config.jhmdb_epochs} epochs, transferred to the"
                f" {after} others for {config.transfer_epochs} (chance {100 / after:.1f} %): HMDB51’s three splits with"
                f" {config.jhmdb_seeds} seeds each, the weights of the losses as in the demo world. {INTERVALS}"
            )
            + table(["start", "all layers tuned (%)", "a new head alone (%)"], accuracies)
            + self._gains(self.splits, [TRANSFERRED], [SCRATCH, *JHMDB_ARMS])
            + self._gains(self.splits, [HEAD_TRANSFERRED], JHMDB_ARMS)
            + paragraph(f"Before the transfer, on the test clips of the {before} classes.")
            + self._table(self.splits, JHMDB_MEASURES)
            + self._gains(self.splits, JHMDB_GAINS, JHMDB_ARMS)
        )

    def _tied(self) -> str:
        world = [TIED_WORLD]
        models = self.results.models[TIED_WORLD, BASELINE]
        measured = next(iter(models.values()))
        conflicting = len(measured.labels[CONFLICTING])
        videos = len(set(measured.source_videos[CONFLICTING]))
        train, usual = (self.results.interval(world, DATA, name).mean for name in ("train_clips", "test_clips"))
        few = "" if conflicting >= LEAST_CONFLICTING else " Inconclusive: these are too few to tell arms apart."
        return (
            paragraph(self.precondition(world))
            + paragraph(
                "The clips’ scenes are of two kinds, found as the two sides of the first principal component of their"
                " scene probabilities; on JHMDB they are mostly indoors and outdoors. Each class is trained in the kind"
                f" that its clips are in on average: {train:.0f} clips. Tested on {conflicting} clips in the other"
                f" kind, whose scene speaks for other classes, of {videos} source videos; and on the {usual:.0f} usual"
                f" clips of these videos. No video is both trained and tested on.{few} {INTERVALS}"
            )
            + self._table(world, tuple(TIED_MEASURES))
            + self._gains(world, TIED_GAINS, JHMDB_ARMS)
        )

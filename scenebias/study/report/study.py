"""The report of the study: what was asked, the answer, and the numbers and pictures that it rests on."""

from collections.abc import Mapping, Sequence
from math import isnan

from scenebias.evaluation.statistics import Interval
from scenebias.reports.figures import bars
from scenebias.reports.html import Section, charts, page, paragraph, table
from scenebias.study.arms import ARMS, BASELINE, LONGER, MOST_LOST, Trial, arm_named, choose, long
from scenebias.study.demo_world import BALANCED
from scenebias.study.jhmdb import SPLITS
from scenebias.study.measuring_jobs import ALL_MEASURES, COSTS, IN_DISTRIBUTION, PROBE, SWAPPED, TRANSFERRED
from scenebias.study.plan import JHMDB_STARTS, ORACLE, OTHER_RHOS, RHO_ARMS, SCRATCH, USUAL_RHO, Plan, jhmdb_world
from scenebias.study.results import DATA, SWAPPED_GAIN, Results

MAIN_MEASURES = (
    IN_DISTRIBUTION,
    SWAPPED,
    "world_swap_to_scene_rate",
    "world_human_only_top1",
    "world_scene_only_top1",
    PROBE,
    "swapped_top1",
    "contrasted_accuracy",
    "background_error",
    "hidden_pixels_frame_mean_top1",
    "hidden_pixels_frame_mean_entropy",
)
FILL_MEASURES = (
    SWAPPED,
    "hidden_pixels_frame_mean_top1",
    "hidden_pixels_white_top1",
    "hidden_pixels_noise_top1",
    "hidden_pixels_background_top1",
    "hidden_boxes_frame_mean_top1",
    "hidden_boxes_background_top1",
    "outline_top1",
)
JHMDB_MEASURES = (
    IN_DISTRIBUTION,
    "swapped_top1",
    "swap_to_scene_rate",
    "human_only_top1",
    "hidden_pixels_frame_mean_top1",
    "hidden_pixels_frame_mean_entropy",
    "outline_top1",
    "scene_probe",
)


def titled(measure: str) -> str:
    """What a measure is called, with an arrow to where less of the scene is used."""
    return f"{ALL_MEASURES[measure].title} {ALL_MEASURES[measure].arrow}"


def scaled(interval: Interval, unit: str) -> Interval:
    """Shares as percentages; other units as they are."""
    factor = 100 if unit == "share" else 1
    return Interval(factor * interval.mean, factor * interval.low, factor * interval.high)


def spread(interval: Interval, unit: str) -> str:
    """A mean with the half width of its interval: shares as percentages."""
    if isnan(interval.mean):
        return "–"
    factor, digits = {"share": (100, 1), "nats": (1, 2), "seconds": (1, 0), "clips": (1, 0)}[unit]
    text = f"{factor * interval.mean:.{digits}f}"
    half = factor * (interval.high - interval.low) / 2
    return text if isnan(half) else f"{text} ± {half:.{digits}f}"


def points(interval: Interval) -> str:
    """A difference of shares with its interval, in percentage points."""
    if isnan(interval.low):
        return f"{100 * interval.mean:+.1f}"
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


class Report:
    """Texts and tables from the results.

    ``headline`` is the debiased arm whose chosen setting did best where it was tuned, by the rule of `choose`; no
    other number of the report has a part in that.
    """

    def __init__(self, plan: Plan, results: Results, trials: Mapping[str, Sequence[Trial]]) -> None:
        self.plan, self.results, self.trials = plan, results, trials
        self.usual = plan.usual_world.name
        self.compared = [arm.name for arm in ARMS if not arm.changes]
        (baseline,) = trials[BASELINE]
        tuned = [arm for arm in trials if arm != BASELINE]
        chosen = {choose(trials[arm], baseline): arm for arm in tuned}
        self.headline = chosen[choose(list(chosen), baseline)]

    @property
    def pictured(self) -> tuple[str, str]:
        """The two arms that pictures show: the baseline and the headline, trained long where both were."""
        pair = BASELINE, self.headline
        return (long(BASELINE), long(self.headline)) if self.headline in LONGER else pair

    def page(self, pictures: Sequence[Section]) -> str:
        """The page; ``pictures`` follow the numbers."""
        sections = [
            Section("The question", self._question()),
            Section("The answer", "".join(map(paragraph, self.answer())) + self._gains_table()),
            Section("Every arm", self._measures_table([self.usual], self.compared, MAIN_MEASURES)),
            Section("Side by side", self._bars()),
            Section("Can it be learned at all, and how much does the scene tell?", self._rho_table()),
            Section("Which fill?", self._fill_table()),
            Section("How the weights of the losses were chosen", self._tuning_table()),
        ]
        if self.plan.jhmdb_packs():
            sections.append(Section("Real videos: JHMDB", self._jhmdb()))
        return page("scenebias: does debiasing help?", [*sections, *pictures])

    def _question(self) -> str:
        config = self.plan.config
        return paragraph(
            "Choi et al. (NeurIPS 2019) make a video model unlearn the scene while it is pretrained. Does it then"
            " recognise the action where the scene misleads, and what does that cost where it helps? The demo world"
            " knows the truth: eight actions of rendered figures, each in its usual scene with probability ρ;"
            f" {config.world.clips_train} clips to train on, {config.world.clips_test} to test on of every kind,"
            f" {config.epochs} epochs of a small network, {config.seeds} seeds an arm. Numbers are means over seeds ±"
            " half the width of their 95 % interval (Student's t)."
        )

    def answer(self) -> list[str]:
        """What was found, whatever it is."""
        arm = self.headline
        twice = [self._compared("Both trained twice as long", long(arm), long(BASELINE))] if arm in LONGER else []
        return [
            f"The setting that tuning liked best is “{arm}” ({arm_named(arm).what}).",
            self._compared("In as many epochs as the baseline", arm, BASELINE),
            *twice,
            self._compared("Against a baseline of twice the epochs", arm, long(BASELINE)),
            "An arm with masked clips makes two updates a batch, one for the clean and one for the masked clips, as the"
            " released code does: against the baseline of twice the epochs it has made as many updates, on as many"
            " clips.",
            self._who_reaches_it(),
        ]

    def _compared(self, how: str, arm: str, reference: str) -> str:
        """One sentence on one comparison, and whether the target is reached in it."""
        swapped, usual, probe = self._gain(arm, reference)
        over_clips = self.results.bootstrap_gain([self.usual], arm, SWAPPED, reference)
        return (
            f"{how} it gains, in points: {points(swapped)} on swapped scenes ({points(over_clips)} by the choice of"
            f" test clips), {points(usual)} on usual ones, {points(probe)} for the scene probe. The target, at least"
            f" {100 * SWAPPED_GAIN:.0f} points gained on swapped scenes, at most {100 * MOST_LOST:.0f} lost on usual"
            f" ones and a probe that reads less of the scene, is"
            f" {'reached' if self._reaches_target(arm, reference) else 'not reached'}."
        )

    def _gain(self, arm: str, reference: str) -> list[Interval]:
        return [self.results.gain(self.usual, arm, name, reference) for name in (SWAPPED, IN_DISTRIBUTION, PROBE)]

    def _reaches_target(self, arm: str, reference: str) -> bool:
        swapped, usual, probe = (gain.mean for gain in self._gain(arm, reference))
        return swapped >= SWAPPED_GAIN and usual >= -MOST_LOST and probe < 0

    def _who_reaches_it(self) -> str:
        """What does, of everything that was trained, with and without debiasing."""
        arms = [arm.name for arm in ARMS if arm.name != BASELINE and self._reaches_target(arm.name, BASELINE)]
        found = ", ".join(f"“{arm}”" for arm in arms) or "none"
        return f"Of all arms, these reach it against “{BASELINE}”: {found}."

    def gains(self) -> list[list[str]]:
        """A row a comparison: an arm, what it is compared with, and what it gains, in points."""
        pairs = [(arm.name, BASELINE) for arm in ARMS if not arm.as_tuned and arm.name != BASELINE]
        pairs += [(long(BASELINE), BASELINE)] + [(long(arm), long(BASELINE)) for arm in LONGER if arm != BASELINE]
        pairs += [(arm.name, long(BASELINE)) for arm in ARMS if not arm.as_tuned and arm.candidates[0].uses_masks]
        return [[arm, reference, *map(points, self._gain(arm, reference))] for arm, reference in pairs]

    def _gains_table(self) -> str:
        header = ["gain, in points", "over", *map(titled, (SWAPPED, IN_DISTRIBUTION, PROBE))]
        return table(header, self.gains()) + paragraph(
            "In brackets: the 95 % interval over seeds of the difference between two runs of one seed, which begin from"
            " the same weights; those of as many epochs see the same clips in the same order."
        )

    def _cells(self, worlds: Sequence[str], arms: Sequence[str], measure: str) -> list[str]:
        unit = "seconds" if measure in COSTS else ALL_MEASURES[measure].unit
        return [spread(self.results.interval(worlds, arm, measure), unit) for arm in arms]

    def _measures_table(self, worlds: Sequence[str], arms: Sequence[str], measures: Sequence[str]) -> str:
        """A row a measure, a column an arm, and the time that each takes."""
        rows = [[titled(name), *self._cells(worlds, arms, name)] for name in measures]
        costs = [[title, *self._cells(worlds, arms, name)] for name, title in COSTS.items()]
        return table(["", *arms], rows + costs)

    def _bars(self) -> str:
        shown = {
            titled(name): {
                arm: scaled(self.results.interval([self.usual], arm, name), ALL_MEASURES[name].unit)
                for arm in self.compared
            }
            for name in MAIN_MEASURES
        }
        return charts(bars(shown))

    def _rho_table(self) -> str:
        measures = (IN_DISTRIBUTION, SWAPPED, PROBE)
        compared = [(BALANCED, ORACLE)] + [(rho, arm) for rho in sorted((*OTHER_RHOS, USUAL_RHO)) for arm in RHO_ARMS]
        rows = []
        for rho, arm in compared:
            world = self.plan.world(rho).name
            cells = [self._cells([world], [arm], name)[0] for name in measures]
            rows.append([f"{rho:g}", *self._scene_biases([world]), arm, *cells])
        return paragraph(
            "The oracle is a baseline in a world where every scene is as likely with every action: what this network"
            " can learn of the actions in that time. The more surely the scene goes with the action, the less there is"
            " to win by unlearning it."
        ) + table(["ρ", "B_scene", "arm", *map(titled, measures)], rows)

    def _fill_table(self) -> str:
        arms = [BASELINE, "both", *(arm.name for arm in ARMS if arm.changes)]
        return paragraph(
            "“both” is trained with people filled by the mean of their frame, the others by what their names say. Each"
            " is tested with fills that it has not seen in training: a model that stays sure of the action behind those"
            " has learned the fill."
        ) + self._measures_table([self.usual], arms, FILL_MEASURES)

    def _tuning_table(self) -> str:
        rows = [
            [
                arm,
                f"{trial.objective.alpha_scene:g}" if trial.objective.uses_scenes else "–",
                f"{trial.objective.alpha_mask:g}" if trial.objective.uses_masks else "–",
                f"{100 * trial.in_distribution:.1f}",
                f"{100 * trial.swapped:.1f}",
            ]
            for arm, trials in self.trials.items()
            for trial in trials
        ]
        return paragraph(
            "On a world of other people, scenes and clips, with a seed of its own. Of the candidates of an arm that"
            f" lose at most {100 * MOST_LOST:.0f} points on usual scenes, the one that is right most often on swapped"
            " scenes is taken; where all lose more, the one that loses least. “both-published” is not tuned, and the"
            " fills take over the weights of “both”. One seed and one world: differences of a few points are within"
            " the noise, and where the largest weight that was offered is taken, a larger one might do better."
        ) + table(["arm", "α scene", "α mask", "usual scenes (%)", "swapped scenes (%)"], rows)

    def _jhmdb(self) -> str:
        """Accuracy after transfer over the three splits, and the measures of bias before it."""
        worlds = [jhmdb_world(split) for split in SPLITS]
        accuracies = self._cells(worlds, JHMDB_STARTS, TRANSFERRED)
        gains = [
            "–" if start == BASELINE else points(self.results.bootstrap_gain(worlds, start, TRANSFERRED))
            for start in JHMDB_STARTS
        ]
        starts = [list(row) for row in zip(JHMDB_STARTS, accuracies, gains, strict=True)]
        return (
            paragraph(
                "Pretrained from random weights on the first twelve classes in the order of their names, transferred to"
                f" the nine others (chance {100 / 9:.1f} %): HMDB51's three splits with"
                f" {self.plan.config.jhmdb.jhmdb_seeds} seeds each. The weights of “both” are those chosen in the demo"
                " world. Intervals of accuracies are over seeds, of the mean of the splits; those of differences, in"
                " points, by the paired bootstrap over test clips, as if the splits shared none (they share about one"
                " in ten)."
            )
            + paragraph(f"B_scene of the twelve classes: {', '.join(self._scene_biases(worlds))} on the three splits.")
            + table(["start", "accuracy after transfer (%)", "against the baseline"], starts)
            + paragraph("Before the transfer, on the test clips of the twelve classes; the time is that of both.")
            + self._measures_table(worlds, [start for start in JHMDB_STARTS if start != SCRATCH], JHMDB_MEASURES)
        )

    def _scene_biases(self, worlds: Sequence[str]) -> list[str]:
        return [f"{value:.2f}" for world in worlds for value in self.results.values(world, DATA, "scene_bias")]

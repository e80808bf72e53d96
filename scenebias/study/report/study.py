"""The report of the study: what was asked, the answer, and the numbers and pictures that it rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from matplotlib.figure import Figure

from scenebias.reports.html import Section, chart, page, paragraph, table
from scenebias.study.arms import BASELINE, BASELINE_LONG, BEST, MOST_LOST, Trial, Tuned, Weights
from scenebias.study.data.demo_world import BALANCED
from scenebias.study.endpoints import ENDPOINTS, Endpoint
from scenebias.study.measured import AT_CLEAN_BN, COSTS, HIDDEN, PROBE, SCENE_ALONE, SWAPPED, TAKES_MEASURES, USUAL
from scenebias.study.plan import (
    ORACLE,
    OTHER_RHOS,
    RHO_ARMS,
    TAKES_ARMS,
    TAKES_WORLD,
    USUAL_RHO,
    USUAL_WORLD,
    Plan,
    world_name,
)
from scenebias.study.report.cells import points, spread, titled, unit_of
from scenebias.study.report.overview import overview
from scenebias.study.report.real import RealVideos
from scenebias.study.results import DATA, Results

MAIN_MEASURES = (
    USUAL,
    SWAPPED,
    "scene_action_rate",
    SCENE_ALONE,
    "human_alone",
    HIDDEN,
    "hidden_entropy",
    "clean_entropy",
    PROBE,
)
SHORT_MEASURES = (USUAL, SWAPPED, SCENE_ALONE, HIDDEN, PROBE)


@dataclass(frozen=True)
class Tuning:
    """How the weights of the losses were chosen."""

    weights: Weights
    baseline: Trial | None
    """What the candidates may not lose much against; None where the weights were taken over."""
    trials: Mapping[Tuned, Mapping[float, Trial]]


class Report:
    """Texts and tables from the results."""

    def __init__(self, plan: Plan, results: Results, tuning: Tuning) -> None:
        self.plan, self.results, self.tuning = plan, results, tuning
        self.usual = USUAL_WORLD
        self.compared = [arm.name for arm in plan.arms]

    @property
    def pictured(self) -> tuple[str, str]:
        """The two arms that pictures show."""
        return BASELINE, BEST

    def page(self, pictures: Sequence[Section]) -> str:
        """The page; ``pictures`` follow the numbers."""
        sections = [
            Section("The question", self._question()),
            Section("The answer", self._endpoint_table()),
            Section("Side by side", chart(self.overview(), "means and 95 % intervals over seeds; small: every seed")),
            Section("Every arm", self._arms_table()),
            Section("Against the baseline of the same compute", self._gains_table()),
            Section("Which statistics?", self._statistics_table()),
            Section("Can it be learned at all, and how much does the scene tell?", self._rho_table()),
            Section("How the weights of the losses were chosen", self._tuning_table()),
        ]
        if self.results.has(TAKES_WORLD, BASELINE_LONG):
            sections.append(Section("Long takes: actions localised and detected", self._takes_table()))
        real = RealVideos(self.plan, self.results).sections() if self.plan.real_packs() else []
        return page("scenebias: does debiasing help?", [*sections, *real, *pictures])

    def _question(self) -> str:
        config = self.plan.config
        return paragraph(
            "Does a video model that is debiased while it is pretrained recognise the action where the scene misleads,"
            " and what does that cost where the scene helps? The demo world knows the truth: eight actions of rendered"
            f" figures, each in its usual scene with probability ρ = {USUAL_RHO:g}; {config.world.clips_train} clips to"
            f" train on, {config.world.clips_test} to test on of every kind, {config.epochs} epochs of a small network."
            f" {config.seeds} seeds an arm; the world's people, places and clips vary with the seed. Numbers are means"
            " over seeds ± half the width of their 95 % interval (Student's t)."
        )

    def _outcome(self, endpoint: Endpoint) -> str:
        if any(isnan(interval.mean) for interval in endpoint.intervals(self.results.gain)):
            return "not run"
        return "reached" if endpoint.is_reached(self.results.gain) else "not reached"

    def answer(self) -> list[str]:
        """One sentence an endpoint: what was to come out, what did, and whether that is it."""
        return [
            f"{self._outcome(endpoint)}: {endpoint.says}"
            f" ({' and '.join(map(points, endpoint.intervals(self.results.gain)))} points)"
            for endpoint in ENDPOINTS
        ]

    def _endpoint_table(self) -> str:
        rows = []
        for endpoint in ENDPOINTS:
            intervals = dict(zip(endpoint.statistics, endpoint.intervals(self.results.gain), strict=True))
            cells = [points(intervals[suffix]) if suffix in intervals else "" for suffix in ("", AT_CLEAN_BN)]
            bound = f"{endpoint.bound} {100 * endpoint.value:+g}"
            rows.append(
                [endpoint.says, f"{endpoint.arm} − {endpoint.reference}", bound, *cells, self._outcome(endpoint)]
            )
        header = ["written down before the runs", "compared", "bound", "as saved", "clean statistics", "outcome"]
        return table(header, rows) + paragraph(
            "Differences in points, seed by seed, with their 95 % interval over seeds. As saved: with the BatchNorm"
            " statistics that the weights carry, re-estimated over training batches composed as in training. Clean"
            " statistics: re-estimated over clean training clips. An arm that passes masked clips too is compared with"
            f" the baseline of twice the epochs, which has had as much compute; “{BEST}” was named the best arm before"
            " any of these runs, by trials on another world."
        )

    def _cells(self, worlds: Sequence[str], arms: Sequence[str], measure: str) -> list[str]:
        return [spread(self.results.interval(worlds, arm, measure), unit_of(measure)) for arm in arms]

    def _arms_table(self) -> str:
        """A row an arm, a column a measure."""
        described = {arm.name: arm.what for arm in self.plan.arms}
        rows = [
            [arm, described[arm], *(self._cells([self.usual], [arm], name)[0] for name in (*MAIN_MEASURES, *COSTS))]
            for arm in self.compared
        ]
        rows.append([ORACLE, "actions alone, in a world whose scenes say nothing of the action"])
        rows[-1] += [self._cells([world_name(BALANCED)], [ORACLE], name)[0] for name in (*MAIN_MEASURES, *COSTS)]
        return table(["arm", "", *map(titled, MAIN_MEASURES), *COSTS.values()], rows)

    def gains(self) -> list[list[str]]:
        """A row an arm: the baseline of its compute, and what it gains over that, in points, as saved and clean."""
        return [
            [arm.name, arm.of_the_same_compute]
            + [
                points(self.results.gain(name + suffix, arm.name, arm.of_the_same_compute))
                for name in (SWAPPED, USUAL, SCENE_ALONE, PROBE)
                for suffix in ("", AT_CLEAN_BN)
            ]
            for arm in self.plan.arms
            if not arm.name.startswith(BASELINE)
        ]

    def _gains_table(self) -> str:
        measures = [
            f"{titled(name)}{where}"
            for name in (SWAPPED, USUAL, SCENE_ALONE, PROBE)
            for where in ("", ", clean statistics")
        ]
        return table(["arm", "gain, in points, over", *measures], self.gains())

    def _statistics_table(self) -> str:
        arms = self.compared
        rows = [
            [f"{titled(name)}{', clean statistics' if suffix else ''}", *self._cells([self.usual], arms, name + suffix)]
            for name in (*SHORT_MEASURES, "clean_entropy")
            for suffix in ("", AT_CLEAN_BN)
        ]
        return paragraph(
            "What a network does under statistics that it was not trained with says nothing of its weights. Where the"
            " two lines of a measure differ, the measure is of the statistics; an arm has learned what it shows under"
            " both. Masked clips in passes of their own (“released”) are normalised by their own statistics in"
            " training, so that the loss on them can be met by these alone."
        ) + table(["", *arms], rows)

    def overview(self) -> Figure:
        """All arms, in one picture."""
        return overview(self.results, self.usual, self.compared)

    def _rho_table(self) -> str:
        compared = [(BALANCED, ORACLE)] + [(rho, arm) for rho in sorted((*OTHER_RHOS, USUAL_RHO)) for arm in RHO_ARMS]
        rows = []
        for rho, arm in compared:
            world = world_name(rho)
            if self.results.has(world, arm):
                cells = [self._cells([world], [arm], name)[0] for name in SHORT_MEASURES]
                rows.append([f"{rho:g}", self._scene_bias(world), arm, *cells])
        return paragraph(
            "The oracle is a baseline in a world where every scene is as likely with every action: what this network"
            " can learn of the actions in that time."
        ) + table(["ρ", "B_scene", "arm", *map(titled, SHORT_MEASURES)], rows)

    def _scene_bias(self, world: str) -> str:
        return spread(self.results.interval([world], DATA, "scene_bias"), "nats")

    def _takes_table(self) -> str:
        rows = [
            [arm, *(self._cells([TAKES_WORLD], [arm], name)[0] for name in TAKES_MEASURES)]
            + [points(self.results.gain(name, arm, BASELINE_LONG, TAKES_WORLD)) for name in TAKES_MEASURES]
            for arm in TAKES_ARMS
        ]
        size = self.plan.config.takes
        return paragraph(
            f"Long takes of other people and places, {size.takes_train} to train on and {size.takes_test} to test on of"
            " either kind, with scenes and actions tied as in pretraining. Heads that localise learn on the frozen"
            " features; detectors train the network too. All saw the same takes: what differs is what the weights"
            f" hold. One world of takes, {len(self.results.models[TAKES_WORLD, BASELINE_LONG])} seeds of the models."
        ) + table(
            [
                "arm",
                *map(titled, TAKES_MEASURES),
                *(f"over {BASELINE_LONG}: {titled(name)}" for name in TAKES_MEASURES),
            ],
            rows,
        )

    def _tuning_table(self) -> str:
        weights, baseline = self.tuning.weights, self.tuning.baseline
        taken = f"mask loss {weights.mask:g}, scene adversary {weights.scene:g}, conditional {weights.conditional:g}"
        if baseline is None:
            return paragraph(f"The weights of the reported study were taken over: {taken}.")
        rows = [
            [name, f"{value:g}", f"{100 * trial.in_distribution:.1f}", f"{100 * trial.swapped:.1f}"]
            for name, trials in self.tuning.trials.items()
            for value, trial in trials.items()
        ]
        rows.append([BASELINE, "–", f"{100 * baseline.in_distribution:.1f}", f"{100 * baseline.swapped:.1f}"])
        return paragraph(
            f"On other worlds, at the schedule that is reported, means of {self.plan.config.tuning_seeds} seeds. Of the"
            f" values that lose at most {100 * MOST_LOST:.0f} points on usual scenes, the one that is right most often"
            f" on swapped scenes is taken; where all lose more, the one that loses least. Taken: {taken}."
        ) + table(["weight of", "value", titled(USUAL), titled(SWAPPED)], rows)

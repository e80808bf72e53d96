"""The report of the demo: a page for a newcomer, and its table for the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from scenebias.demo.actions import TARGET_ACTIONS
from scenebias.reports.curves import loss_curves
from scenebias.reports.figures import bars
from scenebias.reports.html import Section, charts, page, paragraph, table
from scenebias.reports.terminal import number_table
from scenebias.statistics.intervals import Interval, clip_interval
from scenebias.study.arms import BEST, PAPER, arm_named
from scenebias.study.measured import ALL_MEASURES, AT_CLEAN_BN, HIDDEN, PROBE, SCENE_ALONE, SWAPPED, TRANSFERRED, USUAL
from scenebias.study.plan import SCRATCH, Run
from scenebias.study.report.cells import scaled
from scenebias.study.report.pictures import said_of_swapped_clips
from scenebias.study.results import DATA, Results

TITLES = {
    USUAL: "usual scenes: accuracy",
    SWAPPED: "swapped scenes: accuracy",
    SWAPPED + AT_CLEAN_BN: "the same, clean statistics",
    "scene_action_rate": "swapped: says scene's action",
    SCENE_ALONE: "scene alone: its usual action",
    "human_alone": "human alone: accuracy",
    HIDDEN: "human hidden: accuracy",
    PROBE: "scene probe on the features",
    TRANSFERRED: "new actions, after transfer",
}
"""The measures that are shown, in fewer words than those of `ALL_MEASURES`."""
CHARTED = (USUAL, SWAPPED, SCENE_ALONE, HIDDEN, TRANSFERRED)


@dataclass(frozen=True)
class DemoReport:
    """Texts and tables from the results of one demo world and one seed."""

    results: Results
    scratch: Run
    pretrained: Sequence[Run]
    """The baseline first."""

    @property
    def header(self) -> list[str]:
        return ["", *(run.arm for run in self._runs)]

    @property
    def rows(self) -> list[list[str]]:
        """A row a measure, with an arrow to where less of the scene is used; a column a model."""
        measures = [[f"{title} {ALL_MEASURES[name].arrow}", *self._cells(name)] for name, title in TITLES.items()]
        return [*measures, ["training: time", *self._cells("wall_s")]]

    @property
    def _runs(self) -> list[Run]:
        return [self.scratch, *self.pretrained]

    def _cells(self, measure: str) -> list[str]:
        return [self._cell(run, measure) for run in self._runs]

    def _cell(self, run: Run, measure: str) -> str:
        found = list(self.results.values(run.world, run.arm, measure).values())
        if not found:
            return "–"
        return ALL_MEASURES[measure].cell(found[0]) if measure in ALL_MEASURES else f"{found[0]:.0f} s"

    def _of_data(self, name: str) -> float:
        (value,) = self.results.values(self.scratch.world, DATA, name).values()
        return value

    def printed(self) -> Table:
        """The table for the terminal."""
        return number_table(f"The demo world, B_scene {self._of_data('scene_bias'):.2f}", self.header, self.rows)

    def answer(self) -> str:
        """What was found, whatever it is."""
        swapped, usual = (
            ", ".join(f"“{run.arm}” {self._cell(run, name)}" for run in self.pretrained) for name in (SWAPPED, USUAL)
        )
        return (
            f"Where the scene misleads, the models name the action of so many clips: {swapped}. Where it helps:"
            f" {usual}. A step of the debiased models passes every clip twice; so the baseline is trained for twice the"
            " epochs. This is one run of each, and others scatter by many points: tools/study.sh trains as many as a"
            " comparison needs."
        )

    def page(self) -> str:
        """The page."""
        trained = {run.arm: run.pretraining for run in self.pretrained if run.pretraining is not None}
        return page(
            "scenebias: the demo world",
            [
                Section("What each model says of three clips", said_of_swapped_clips(self.pretrained)),
                Section("How often they are right, and what misleads them", self._bars()),
                Section("What was asked", self._question()),
                Section("Results", paragraph(self.answer()) + table(self.header, self.rows) + self._explanation()),
                Section(
                    "Training",
                    paragraph("Losses by step, and accuracy on usual scenes by epoch.")
                    + charts(loss_curves({arm: job.run_folder for arm, job in trained.items()})),
                ),
            ],
        )

    def _bars(self) -> str:
        shown = {
            TITLES[name]: {
                run.arm: self._interval(run, name) for run in self._runs if run.arm != SCRATCH or name == TRANSFERRED
            }
            for name in CHARTED
        }
        return charts(bars(shown)) + paragraph(
            "In per cent, with the 95 % interval over the choice of test clips: another seed of the same training may"
            " differ by more."
        )

    def _interval(self, run: Run, measure: str) -> Interval:
        (measured,) = self.results.models[run.world, run.arm].values()
        return scaled(clip_interval(measured.correct(measure)), "share")

    def _question(self) -> str:
        world = self.pretrained[0].demo_world
        assert world is not None, "the demo is of a demo world"
        return paragraph(
            f"Rendered people act in places, and {100 * world.config.rho:.0f} % of the time an action happens in its"
            " usual scene: from the scene alone a linear classifier tells"
            f" {100 * self._of_data('scene_accuracy'):.0f} % of the actions (chance"
            f" {100 * self._of_data('chance'):.0f} %), so B_scene = {self._of_data('scene_bias'):.2f}. Does a model"
            " learn the action or the scene?"
        ) + paragraph(
            f"The baseline learns the actions alone; “{PAPER}” is trained with {arm_named(PAPER).what} (Choi et al.,"
            f" NeurIPS 2019); “{BEST}” with {arm_named(BEST).what}. All are then tuned to new actions, beside a model"
            " from scratch."
        )

    def _explanation(self) -> str:
        (chance,) = self.results.values(self.scratch.world, self.pretrained[0].arm, "probe_chance").values()
        others = len(TARGET_ACTIONS)
        return paragraph(
            "All clips are of people and places not seen in training. Swapped scenes: every action happens in the"
            " usual scene of another. Scene alone: nobody is there. Human alone: the action in front of a grey wall."
            " Human hidden: people are filled with the mean colour of their frame, so that a model which still names"
            " the action has it from elsewhere. Clean statistics: BatchNorm's, estimated anew on clean training clips;"
            " where they change a number, it is not of the weights alone. Scene probe: how often a linear classifier"
            f" tells the scene from the model's features of new actions (chance {100 * chance:.0f} %). New actions:"
            f" {others} others, few clips of each (chance {100 / others:.0f} %). Arrows point to where a model leans"
            " less on the scene. Time: of all training of a model, while others train beside it."
        )

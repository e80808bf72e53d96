"""The report of the demo: a page for a newcomer, and its table for the terminal."""

from dataclasses import dataclass

from rich.table import Table

from scenebias.demo.actions import TARGET_ACTIONS
from scenebias.reports.curves import loss_curves
from scenebias.reports.html import Section, charts, page, paragraph, table
from scenebias.reports.terminal import number_table
from scenebias.study.measuring_jobs import ALL_MEASURES, IN_DISTRIBUTION, PROBE, SWAPPED, TRANSFERRED
from scenebias.study.plan import Run
from scenebias.study.report.pictures import hidden_humans
from scenebias.study.results import DATA, Results

TITLES = {
    IN_DISTRIBUTION: "usual scenes: accuracy",
    SWAPPED: "swapped scenes: accuracy",
    "world_swap_to_scene_rate": "swapped: says scene's action",
    "world_scene_only_top1": "scene alone: its usual action",
    "world_human_only_top1": "human alone: accuracy",
    "hidden_pixels_frame_mean_top1": "human hidden: accuracy",
    "hidden_pixels_frame_mean_entropy": "human hidden: entropy",
    PROBE: "scene probe on the features",
    TRANSFERRED: "new actions, after transfer",
}
"""The measures that are shown, in fewer words than those of `ALL_MEASURES`."""


@dataclass(frozen=True)
class DemoReport:
    """Texts and tables from the results of one demo world and one seed."""

    results: Results
    scratch: Run
    baseline: Run
    debiased: Run

    @property
    def header(self) -> list[str]:
        return ["", *(run.arm for run in self._runs)]

    @property
    def rows(self) -> list[list[str]]:
        """A row a measure, with an arrow to where less of the scene is used; a column a model."""
        measures = [[f"{title} {ALL_MEASURES[name].arrow}", *self._cells(name)] for name, title in TITLES.items()]
        return [*measures, ["training: time", *self._cells("wall_s")]]

    @property
    def _runs(self) -> tuple[Run, Run, Run]:
        return self.scratch, self.baseline, self.debiased

    def _cells(self, measure: str) -> list[str]:
        return [self._cell(run, measure) for run in self._runs]

    def _cell(self, run: Run, measure: str) -> str:
        found = self.results.values(run.world, run.arm, measure)
        if not found:
            return "–"
        return ALL_MEASURES[measure].cell(found[0]) if measure in ALL_MEASURES else f"{found[0]:.0f} s"

    def _of_data(self, name: str) -> float:
        (value,) = self.results.values(self.baseline.world, DATA, name)
        return value

    def printed(self) -> Table:
        """The table for the terminal."""
        return number_table(f"The demo world, B_scene {self._of_data('scene_bias'):.2f}", self.header, self.rows)

    def answer(self) -> str:
        """What was found, whatever it is."""
        swapped, usual = ([self._cell(run, name) for run in self._runs[1:]] for name in (SWAPPED, IN_DISTRIBUTION))
        return (
            f"Where the scene misleads, the debiased model recognises {swapped[1]} of the actions and the baseline"
            f" {swapped[0]}; where it helps, {usual[1]} and {usual[0]}. This is one run of each: others scatter by many"
            " points, and tools/study.sh trains as many as a comparison needs."
        )

    def page(self) -> str:
        """The page."""
        trained = {run.arm: run.pretraining for run in (self.baseline, self.debiased) if run.pretraining is not None}
        return page(
            "scenebias: the demo world",
            [
                Section("What was asked", self._question()),
                Section("Results", paragraph(self.answer()) + table(self.header, self.rows) + self._explanation()),
                Section(
                    "Training",
                    paragraph("Losses by step, and accuracy on usual scenes by epoch.")
                    + charts(loss_curves({arm: job.run_folder for arm, job in trained.items()})),
                ),
                Section("What the debiased model is shown", hidden_humans(trained[self.debiased.arm])),
            ],
        )

    def _question(self) -> str:
        assert self.baseline.demo_world is not None, "the demo is of a demo world"
        rho = self.baseline.demo_world.config.rho
        return paragraph(
            f"Rendered people act in places, and {100 * rho:.0f} % of the time an action happens in its usual scene:"
            f" from the scene alone a linear classifier tells {100 * self._of_data('scene_accuracy'):.0f} % of the"
            f" actions (chance {100 * self._of_data('chance'):.0f} %), so B_scene ="
            f" {self._of_data('scene_bias'):.2f}. Does a model learn the action or the scene?"
        ) + paragraph(
            "The baseline learns the actions alone. The debiased model also has to hide the scene from a second head,"
            " and to be unsure of the action where the people are masked out (Choi et al., NeurIPS 2019). Both are then"
            " tuned to new actions, beside a model from scratch."
        )

    def _explanation(self) -> str:
        (chance,) = self.results.values(self.baseline.world, self.baseline.arm, "world_scene_probe_chance")
        others = len(TARGET_ACTIONS)
        return paragraph(
            "All clips are of people and places not seen in training. Swapped scenes: every action happens in the"
            " usual scene of another. Scene alone: nobody is there. Human alone: the action in front of a grey wall."
            " Human hidden: people are filled with the mean colour of their frame, so that a model which still names"
            " the action has it from elsewhere. Scene probe: how often a linear classifier"
            f" tells the scene from the model's features of new actions (chance {100 * chance:.0f} %). New actions:"
            f" {others} others, few clips of each (chance {100 / others:.0f} %). Arrows point to where a model leans"
            " less on the scene. Time: of all training of a model, while others train beside it."
        ) + paragraph(
            "Read the debiased model's numbers with care: the statistics of its BatchNorm mix clean clips with masked"
            " ones. Re-estimated on clean clips alone they take away much of its difference to the baseline, as"
            " scenebias/study/README.md tells."
        )

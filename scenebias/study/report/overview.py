"""The study in one picture: every arm's main measures, seed by seed, under both kinds of BatchNorm statistics."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from scenebias.study.measured import ALL_MEASURES, AT_CLEAN_BN, HIDDEN, SCENE_ALONE, SWAPPED, USUAL
from scenebias.study.plan import BALANCED_WORLD, ORACLE
from scenebias.study.report.cells import titled
from scenebias.study.results import Results

SHOWN = (USUAL, SWAPPED, SCENE_ALONE, HIDDEN)
PANEL_INCHES, ARM_INCHES, NAMES_INCHES, REST_INCHES = 2.1, 0.3, 1.4, 1.1
FONT_POINTS = 8
STATISTICS = {"": ("as saved", -0.14, "tab:blue", "tab:blue"), AT_CLEAN_BN: ("clean statistics", 0.14, "white", "0.25")}
"""By the suffix of a measure: its name, how far below the middle of the row it stands, its filling and its outline."""


def overview(results: Results, world: str, arms: Sequence[str]) -> Figure:
    """A panel a measure, a row an arm and one for the oracle: mean and 95 % interval over seeds, and every seed."""
    assert all(ALL_MEASURES[name].unit == "share" for name in SHOWN)
    rows = [*((arm, world) for arm in arms), (ORACLE, BALANCED_WORLD)]
    size = NAMES_INCHES + PANEL_INCHES * len(SHOWN), REST_INCHES + ARM_INCHES * len(rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(SHOWN), sharex=True, sharey=True)
    for axis, measure in zip(axes, SHOWN, strict=True):
        for row, (arm, of_world) in enumerate(rows):
            for suffix, (name, offset, face, edge) in STATISTICS.items():
                place = row + offset
                values = [100 * value for value in results.values(of_world, arm, measure + suffix).values()]
                axis.scatter(values, [place] * len(values), s=5, color=edge, alpha=0.35, linewidths=0)
                interval = results.interval([of_world], arm, measure + suffix)
                axis.plot([100 * interval.low, 100 * interval.high], [place] * 2, color=edge, linewidth=1)
                label = name if row == 0 and measure == SHOWN[0] else None
                axis.scatter(100 * interval.mean, place, s=22, color=face, edgecolors=edge, zorder=3, label=label)
        axis.set_title(titled(measure), fontsize=FONT_POINTS, wrap=True)
        axis.set_xlim(0, 102)  # an interval of few seeds goes beyond what a share can be
        axis.set_xlabel("%", fontsize=FONT_POINTS)
        axis.tick_params(labelsize=FONT_POINTS)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.axhline(len(arms) - 0.5, color="0.7", linewidth=0.8, linestyle=":")
    axes[0].set_yticks(range(len(rows)), [arm for arm, _ in rows])
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    figure.legend(loc="outside lower center", ncols=2, fontsize=FONT_POINTS, frameon=False)
    return figure

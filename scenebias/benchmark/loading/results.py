"""The measured rates as JSON values, as a table and as a chart."""

import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from scenebias.benchmark.measuring import Rates
from scenebias.reports.terminal import number_table
from shards.errors import UserError
from shards.system.atomic import atomic_write

OURS, OURS_CROP, LIMIT = "ours", "ours_crop", "decode_only"
PLOT_FORMATS = (".pdf", ".png", ".svg")
Result = dict[str, Any]


def summarise(rates: Mapping[str, Rates], notes: Mapping[str, str]) -> list[Result]:
    """One entry a loader, in the order of ``rates``."""
    return [
        {
            "name": name,
            "clips_per_s_median": measured.median,
            "clips_per_s_min": min(measured.clips_per_s),
            "clips_per_s_max": max(measured.clips_per_s),
            "clips_per_s_of_passes": list(measured.clips_per_s),
            "cpu_ms_per_clip_median": statistics.median(measured.cpu_ms_per_clip),
            "engines": measured.engines,
            "ours_to_this": rates[OURS].median / measured.median,
            "note": notes[name],
        }
        for name, measured in rates.items()
    ]


def results_table(results: Sequence[Result]) -> Table:
    """One line a loader."""
    rows = [
        (
            result["name"],
            *(f"{result[f'clips_per_s_{which}']:.0f}" for which in ("median", "min", "max")),
            *(f"{result[name]:.2f}" for name in ("ours_to_this", "cpu_ms_per_clip_median")),
        )
        for result in results
    ]
    header = ("loader", "median", "lowest", "highest", "ours / this", "CPU ms a clip")
    return number_table("training clips a second", header, rows)


def save_plot(path: Path, results: Sequence[Result], title: str) -> None:
    """Draw a bar a loader, with its spread, and the limit as a line; UserError where it cannot be written."""
    bars = [result for result in results if result["name"] != LIMIT]
    limit = next(result["clips_per_s_median"] for result in results if result["name"] == LIMIT)
    medians = [bar["clips_per_s_median"] for bar in bars]
    below = [bar["clips_per_s_median"] - bar["clips_per_s_min"] for bar in bars]
    above = [bar["clips_per_s_max"] - bar["clips_per_s_median"] for bar in bars]
    # A Figure of its own needs no display and leaves no state behind.
    figure = Figure(figsize=(8, 0.5 * len(bars) + 1.5), layout="constrained")
    axes = figure.subplots()
    colours = ["tab:blue" if bar["name"] in (OURS, OURS_CROP) else "tab:gray" for bar in bars]
    drawn = axes.barh([bar["name"] for bar in bars], medians, xerr=[below, above], color=colours, capsize=3)
    axes.bar_label(drawn, [f"{median:.0f}" for median in medians], padding=6)
    axes.axvline(limit, color="tab:red", linestyle="--", label=f"limit: decoding alone, {limit:.0f}")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("clips a second")
    axes.set_title(title)
    axes.legend(loc="lower right")
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix("."), dpi=150)
    try:
        with atomic_write(path) as file:
            file.write(picture.getvalue())
    except OSError as error:
        raise UserError(f"--plot {path} cannot be written ({error.strerror}): choose another place") from error

"""Our loader alone, with one option after another changed: what each is worth on this machine."""

import os
import statistics
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rich.table import Table

from scenebias.benchmark.loading.ours import open_ours
from scenebias.benchmark.loading.setting import Setting, counted
from scenebias.benchmark.measuring import Rates, measure
from scenebias.reports.terminal import number_table

AS_ASKED = "as asked"
PREFETCHES = (1, 2, 4, 8)
GPU_DECODING: Mapping[str, tuple[Any, ...]] = {
    "hw_decoder_load": (0.0, 0.25, 0.5, 0.65, 0.8, 0.9, 1.0),
    "hybrid_huffman_threshold": (0, 1_000_000),
    "preallocate": (True, False),
    "loader_device": ("gpu", "cpu"),
}


def variations(setting: Setting, cores: int) -> dict[str, Setting]:
    """``setting``, and all that differ from it in one option that matters on its device, by what differs."""
    found = {AS_ASKED: setting}
    threads = (1 << power for power in range(cores.bit_length()))
    found |= {f"threads {count}": replace(setting, workers=count) for count in threads if count != setting.workers}
    found |= {
        f"prefetch {depth}": replace(setting, prefetch=depth) for depth in PREFETCHES if depth != setting.prefetch
    }
    if setting.device.type == "cuda":
        for name, values in GPU_DECODING.items():
            for value in values:
                decoding = replace(setting.decoding, **{name: value})
                if decoding != setting.decoding:
                    found[f"{name} {value}"] = replace(setting, decoding=decoding)
    return found


def measure_sweep(setting: Setting, *, repeats: int, least_pass_s: float) -> dict[str, Rates]:
    """The rates of all variations, measured in turns."""
    settings = variations(setting, len(os.sched_getaffinity(0)))
    return measure(
        {name: counted(open_ours(varied), setting.device) for name, varied in settings.items()},
        endless=settings,
        steps=len(setting.batches),
        repeats=repeats,
        least_pass_s=least_pass_s,
        device=setting.device,
    )


def sweep_as_json(rates: Mapping[str, Rates]) -> dict[str, Any]:
    """JSON values, by variation."""
    return {
        name: {
            "clips_per_s_median": measured.median,
            "clips_per_s_of_passes": list(measured.clips_per_s),
            "cpu_ms_per_clip_median": statistics.median(measured.cpu_ms_per_clip),
            "to_as_asked": measured.median / rates[AS_ASKED].median,
            "engines": measured.engines,
        }
        for name, measured in rates.items()
    }


def sweep_table(rates: Mapping[str, Rates]) -> Table:
    """One line a variation, the fastest first."""
    fastest_first = sorted(rates.items(), key=lambda item: -item[1].median)
    rows = [
        (
            name,
            f"{measured.median:.0f}",
            f"{measured.median / rates[AS_ASKED].median:.2f}",
            f"{statistics.median(measured.cpu_ms_per_clip):.2f}",
            ", ".join(
                f"{engine.removesuffix('_busy_share')} {share:.0%}" for engine, share in measured.engines.items()
            ),
        )
        for name, measured in fastest_first
    ]
    header = ("option", "clips/s", "to as asked", "CPU ms a clip", "busy")
    return number_table("our loader, one option changed", header, rows)

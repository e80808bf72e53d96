"""A report as one HTML file: it carries its pictures, needs no network and fits a phone.

Shape suffixes: T frames, H rows, W columns.
"""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

STYLE = """
:root { color-scheme: light dark; --line: #8884; --accent: #2b6cb0; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
img { max-width: 100%; height: auto; } figure { margin: 1rem 0; } img.chart { background: #fff; border-radius: 6px; }
figcaption, .note { opacity: .75; font-size: .9rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
"""


@dataclass(frozen=True)
class Section:
    """A part of the report: a heading and ready HTML."""

    title: str
    body: str


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of plain texts."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _image(data: bytes, kind: str, caption: str, css_class: str = "") -> str:
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    text = html.escape(caption)
    return f'<figure><img class="{css_class}" src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def picture(image_HW3: np.ndarray, caption: str) -> str:
    """An RGB uint8 picture."""
    buffer = io.BytesIO()
    Image.fromarray(image_HW3).save(buffer, "JPEG", quality=90, subsampling="4:4:4")
    return _image(buffer.getvalue(), "jpeg", caption)


def chart(figure: Figure, caption: str) -> str:
    """A matplotlib figure, as SVG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return _image(buffer.getvalue(), "svg+xml", caption, "chart")


def frame_rows(rows_THW3: Sequence[np.ndarray], gap: int = 4, scale: int = 1) -> np.ndarray:
    """Rows of frames below each other, every row uint8 (T, H, W, 3) laid out in time; enlarged ``scale`` times."""
    rows = []
    for frames_THW3 in rows_THW3:
        row_HW3 = np.concatenate(list(frames_THW3), axis=1).repeat(scale, axis=0).repeat(scale, axis=1)
        rows += [row_HW3, np.full((gap, *row_HW3.shape[1:]), 255, np.uint8)]
    return np.concatenate(rows[:-1], axis=0)


def read_log(run: Path, kind: str) -> list[dict[str, float]]:
    """The lines of a run's ``log.jsonl`` of one kind ("step" or "epoch")."""
    entries = (json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [entry for entry in entries if entry["kind"] == kind]


def smooth(values: Sequence[float], width: int) -> np.ndarray:
    """Moving average over ``width`` values, shorter at both ends."""
    kernel = np.ones(min(width, len(values)))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def loss_curves(runs: Mapping[str, Path]) -> Figure:
    """Losses by step and validation accuracy by epoch, one line a run; a loss that a run has not is left out."""
    names = {
        "action_loss": "action loss (nats)",
        "scene_loss": "scene loss (nats)",
        "masked_entropy": "entropy on masked clips (nats)",
    }
    steps = {run: read_log(path, "step") for run, path in runs.items()}
    shown = [name for name in names if any(name in entries[0] for entries in steps.values())]
    figure = Figure(figsize=(3.6 * (len(shown) + 1), 2.8), layout="constrained")
    axes = figure.subplots(1, len(shown) + 1)
    for axis, name in zip(axes, shown, strict=False):
        for colour, (run, entries) in enumerate(steps.items()):
            points = [(entry["global_step"], entry[name]) for entry in entries if name in entry]
            if points:
                at, values = zip(*points, strict=True)
                axis.plot(at, smooth(values, 25), color=f"C{colour}", label=run)
        axis.set(title=names[name], xlabel="step")
    for run, path in runs.items():
        epochs = read_log(path, "epoch")
        axes[-1].plot([e["epoch"] + 1 for e in epochs], [100 * e["top1"] for e in epochs], marker=".", label=run)
    axes[-1].set(title="validation top-1 (%)", xlabel="epoch", ylim=(0, 100))
    axes[-1].legend(frameon=False)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def page(title: str, sections: Sequence[Section]) -> str:
    """The whole page."""
    body = "".join(f"<section><h2>{html.escape(s.title)}</h2>{s.body}</section>" for s in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )

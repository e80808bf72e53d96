"""A report as one HTML file: it carries its pictures, needs no network and fits a phone.

Shape suffixes: T frames, H rows, W columns.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

STYLE = """
:root { color-scheme: light dark; --line: #8884; --accent: #2b6cb0; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
img { max-width: 100%; height: auto; } figure { margin: 1rem 0; } img.chart { background: #fff; border-radius: 6px; }
@media (prefers-color-scheme: dark) { img.chart { filter: invert(.92) hue-rotate(180deg); } }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--least)), 1fr)); }
.grid figure { margin: 0; display: flex; flex-direction: column; align-items: flex-start; }
.grid figcaption { order: -1; opacity: 1; } .wide img { max-width: none; }
figcaption, .note { opacity: .75; font-size: .9rem; }
h1, h2, h3, p, figcaption { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; min-width: 9rem; } td:not(:first-child) { white-space: nowrap; }
.clip { display: grid; grid-template-columns: 3fr 2fr; gap: .5rem 1.2rem; align-items: end; margin: 1.2rem 0; }
.clip figure { margin: 0; display: grid; gap: .4rem; } .clip img { width: 100%; border-radius: 8px; }
.clip figcaption { order: -1; opacity: 1; font-size: 1rem; }
.clip ul { list-style: none; margin: 0; padding: 0; display: grid; gap: .4rem; }
.answer { display: grid; grid-template-columns: 6.5rem 1fr; gap: 0 .8rem; padding: .3rem .8rem; border-radius: 8px; }
.answer small { grid-column: 2; opacity: .75; } .answer span { font-weight: 600; }
.answer.right { background: #2da44e33; } .right span { color: light-dark(#116329, #6fdd8b); }
.answer.wrong { background: #cf222e33; } .wrong span { color: light-dark(#a40e26, #ff9492); }
@media (max-width: 40rem) { .clip { grid-template-columns: 1fr; } }
@media (max-width: 30rem) { th, td { padding: .35rem .3rem; } }
"""
PHONE_REM = 24
"""The width of a phone, in the page's letter heights of 1/6 inch; what is a little wider may be shrunk."""


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
    return _image(jpeg(image_HW3), "jpeg", caption)


def jpeg(image_HW3: np.ndarray) -> bytes:
    """An RGB uint8 picture as a file."""
    buffer = io.BytesIO()
    Image.fromarray(image_HW3).save(buffer, "JPEG", quality=90, subsampling="4:4:4")
    return buffer.getvalue()


def chart(figure: Figure, caption: str) -> str:
    """A matplotlib figure, as SVG."""
    return _image(svg(figure), "svg+xml", caption, "chart")


def svg(figure: Figure) -> bytes:
    """The figure, cut to what is drawn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()


def grid(items: Sequence[str], least_width_rem: float = 18) -> str:
    """Ready HTML in as many columns as the page is wide enough for; one on a phone."""
    return f'<div class="grid" style="--least: {least_width_rem}rem">{"".join(items)}</div>'


def charts(figures: Mapping[str, Figure]) -> str:
    """A grid of charts by title, in columns that hold the widest of them as it is."""
    width_rem = 6 * max((figure.get_figwidth() for figure in figures.values()), default=0)
    items = [chart(figure, title) for title, figure in figures.items()]
    return grid([wide(item) for item in items] if width_rem > PHONE_REM else items, width_rem)


def wide(item: str) -> str:
    """Ready HTML whose pictures keep their size; where the page is narrower, they scroll within themselves."""
    return f'<div class="scroll wide">{item}</div>'


def some_frames(count: int, shown: int) -> np.ndarray:
    """Numbers of ``shown`` out of ``count`` frames, spread evenly from the first to the last, int64."""
    return np.linspace(0, count - 1, shown).round().astype(np.int64)


def frame_rows(rows_THW3: Sequence[np.ndarray], gap: int = 4, scale: int = 1) -> np.ndarray:
    """Rows of frames below each other, every row uint8 (T, H, W, 3) laid out in time; enlarged ``scale`` times."""
    rows = []
    for frames_THW3 in rows_THW3:
        row_HW3 = np.concatenate(list(frames_THW3), axis=1).repeat(scale, axis=0).repeat(scale, axis=1)
        rows += [row_HW3, np.full((gap, *row_HW3.shape[1:]), 255, np.uint8)]
    return np.concatenate(rows[:-1], axis=0)


def page(title: str, sections: Sequence[Section]) -> str:
    """The whole page."""
    body = "".join(f"<section><h2>{html.escape(s.title)}</h2>{s.body}</section>" for s in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )

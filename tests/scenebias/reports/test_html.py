"""The report is one file that needs nothing else, and shows what it was given."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from scenebias.reports.curves import loss_curves, read_log, smooth
from scenebias.reports.html import Section, charts, frame_rows, page, paragraph, picture, table


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def write_log(run: Path, with_scene: bool) -> Path:
    run.mkdir()
    entries: list[dict] = [{"kind": "step", "global_step": i, "action_loss": 2 - i / 10} for i in range(10)]
    if with_scene:
        entries = [{**entry, "scene_loss": 5.0} for entry in entries]
    entries.append({"kind": "epoch", "global_step": 10, "epoch": 0, "top1": 0.5})
    (run / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return run


def test_the_page_carries_its_pictures_and_loads_nothing(tmp_path: Path) -> None:
    curves = loss_curves({"a": write_log(tmp_path / "a", False), "b": write_log(tmp_path / "b", True)})
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    body = charts(curves) + picture(pixels, "frames")
    elements = Elements(page("A & B", [Section("Training <1>", paragraph("x < y") + body)]))
    sources = [attributes["src"] for tag, attributes in elements.found if tag == "img"]
    assert len(sources) == len(curves) + 1
    assert all(source is not None and source.startswith("data:image/") for source in sources)
    assert not [a for _, attributes in elements.found for a in attributes if a in ("href", "srcset")]
    assert "script" not in {tag for tag, _ in elements.found}
    svg = base64.b64decode(sources[0].split(",")[1]).decode()  # type: ignore[union-attr]
    assert not re.search(r'href="(?!#)', svg)
    assert "Training <1>" in elements.text
    assert "x < y" in elements.text


def test_a_table_shows_every_cell_as_text() -> None:
    elements = Elements(table(["a", "<b>"], [["1", "2 & 3"], ["<i>", "–"]]))
    assert elements.text == "a<b>12 & 3<i>–"
    assert "i" not in {tag for tag, _ in elements.found}


def test_runs_share_charts_and_a_loss_that_none_has_gets_none(tmp_path: Path) -> None:
    runs = {"a": write_log(tmp_path / "a", False), "b": write_log(tmp_path / "b", True)}
    curves = loss_curves(runs)
    assert list(curves) == ["action loss (nats)", "scene loss (nats)", "validation top-1 (%)"]
    assert [len(figure.axes[0].lines) for figure in curves.values()] == [2, 1, 2]
    assert "scene loss (nats)" not in loss_curves({"a": tmp_path / "a"})


def test_the_widest_chart_decides_the_columns_and_too_wide_ones_scroll() -> None:
    small, large = Figure(figsize=(3, 2)), Figure(figsize=(6, 2))
    assert '<div class="grid" style="--least: 18' in charts({"a": small, "b": small})
    assert "scroll" not in charts({"a": small})
    html = charts({"a": small, "b": large})
    assert '<div class="grid" style="--least: 36' in html
    assert html.count('<div class="scroll wide">') == 2


def test_log_lines_are_told_apart(tmp_path: Path) -> None:
    run = write_log(tmp_path / "run", True)
    assert len(read_log(run, "step")) == 10
    assert [entry["top1"] for entry in read_log(run, "epoch")] == [0.5]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.integers(1, 40))
def test_smoothing_averages_and_keeps_the_length(values: list[float], width: int) -> None:
    smoothed = smooth(values, width)
    assert len(smoothed) == len(values)
    assert smoothed.min() >= min(values) - 1e-6
    assert smoothed.max() <= max(values) + 1e-6


def test_frames_stand_side_by_side_and_rows_below_each_other() -> None:
    first_THW3 = np.stack([np.full((4, 5, 3), value, np.uint8) for value in (10, 20)])
    second_THW3 = first_THW3 + 100
    image_HW3 = frame_rows([first_THW3, second_THW3], gap=2, scale=3)
    assert image_HW3.shape == (12 + 2 + 12, 30, 3)
    assert (image_HW3[:12, :15] == 10).all()
    assert (image_HW3[:12, 15:] == 20).all()
    assert (image_HW3[12:14] == 255).all()
    assert (image_HW3[14:, 15:] == 120).all()

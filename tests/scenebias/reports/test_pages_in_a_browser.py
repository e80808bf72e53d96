"""Pages look right in a real browser, on a desk and on a phone; and the check finds what is wrong with a page."""

from pathlib import Path

import numpy as np

from scenebias.reports.figures import bars, confusion_matrix, embedding
from scenebias.reports.html import Section, charts, page, paragraph, picture, table
from scenebias.statistics.intervals import Interval
from tests.scenebias.browser import problems_of_page


def test_a_page_with_every_kind_of_figure_is_shown_whole(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    classes = [f"a_class_with_a_long_name_{number}" for number in range(40)]
    measures = {f"measure {n} (%)": {"baseline": Interval(40.0, 30.0, 52.0)} for n in range(5)}
    groupings = {"action": (random.integers(0, 40, 50), classes)}
    points = embedding({"baseline": random.normal(size=(50, 4))}, groupings)
    sections = [
        Section("Text_" * 30, paragraph("word " * 80 + "path/" * 60) + table(classes[:12], [["1.0"] * 12] * 3)),
        Section("Bars", charts(bars(measures))),
        Section("Confusion", charts({"40 classes": confusion_matrix(random.integers(0, 9, (40, 40)), classes)})),
        Section("Features", charts(points)),
        Section("Frames", picture(random.integers(0, 256, (60, 2000, 3), dtype=np.uint8), "a_clip_name_" * 20)),
    ]
    path = tmp_path / "page.html"
    path.write_text(page("Everything & more", sections), encoding="utf-8")
    assert problems_of_page(path) == []


def test_the_check_finds_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "wrong.html"
    path.write_text(
        '<meta name="viewport" content="width=device-width">'
        '<img alt="lost" src="data:image/png;base64,AAAA"><div style="width: 1000px">wide</div>'
        '<img alt="far" src="http://127.0.0.1:9/far.png"><script>console.log("talk"); missing();</script>'
    )
    problems = "\n".join(problems_of_page(path))
    assert "desk: the image 'lost' is not shown" in problems
    assert "it asks for http://127.0.0.1:9/far.png" in problems
    assert "console: ['talk']" in problems
    assert "phone: error: Uncaught" in problems
    assert "phone: the page is 10" in problems
    assert "desk: the page is" not in problems

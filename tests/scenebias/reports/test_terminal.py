"""Tables on the terminal show what they are given, whatever it looks like."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from scenebias.reports.terminal import number_table


def printed(table: object, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


@given(st.text(st.sampled_from("abc[]/\\"), min_size=1, max_size=20))
def test_texts_that_look_like_markup_are_shown_as_they_are(text: str) -> None:
    shown = printed(number_table(text, (text, "n"), [(text, "1")], caption=text))
    assert shown.count(text) >= 4


def test_numbers_stand_at_the_right_and_stay_whole_where_a_name_is_long() -> None:
    shown = printed(number_table("t", ("name", "clips/s"), [("x" * 90, "12345.6"), ("y", "7")]), width=60)
    assert "12345.6" in shown
    assert shown.replace("\n", "").count("x") == 90
    (line,) = (line for line in shown.splitlines() if " 7 " in line)
    assert line.rstrip("│ ").endswith("7")


def test_several_columns_of_texts_come_before_the_numbers() -> None:
    shown = printed(number_table("t", ("name", "arrow", "value"), [("a", "↑", "1"), ("bbb", "↓", "100")], texts=2))
    (line,) = (line for line in shown.splitlines() if "│ a " in line)
    assert line.index("↑") == next(line for line in shown.splitlines() if "│ bbb" in line).index("↓")

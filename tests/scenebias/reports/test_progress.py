"""Progress says rate and time left, on a terminal and elsewhere."""

import pytest

from scenebias.reports import progress
from scenebias.reports.progress import ProgressDisplay


def test_elsewhere_than_on_a_terminal_lines_say_rate_numbers_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_s = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock_s[0])
    with ProgressDisplay("packing", 50, "clips", done=10) as display:
        for _ in range(20):
            clock_s[0] += 0.5
            display.advance()
        clock_s[0] += 10
        display.update(40, {"loss": 0.25})
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "packing: 20/50 clips, 2 clips/s, 15 s left",
        "packing: 30/50 clips, 2 clips/s, 10 s left",
        "packing: 40/50 clips, 1.5 clips/s, loss 0.25, 7 s left",
    ]


def test_an_invisible_one_prints_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.0)
    with ProgressDisplay("packing", 2, "clips", visible=False) as display:
        display.advance()
        display.say("hello")
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""

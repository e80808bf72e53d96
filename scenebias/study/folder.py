"""The folder of a study, which is of one configuration alone: what it begins and ends with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from scenebias.commands import write_output
from scenebias.run_folder.record import RECORD_NAME, RunRecord
from scenebias.study.results import Results

RESULTS_NAME, REPORT_NAME = "results.json", "report.html"


class StudyOptions(Protocol):
    """A configuration that says where the study is to lie."""

    @property
    def out(self) -> Path:
        """Its folder."""


def begin_or_continue(config: StudyOptions, settings: Mapping[str, Any], may_change: Sequence[str]) -> None:
    """Write down in the folder what was asked for in it.

    ``settings`` are those that no option is for; of the options, ``may_change`` change nothing that has been done.

    Raises:
        UserError: the folder is of another configuration.
    """
    record = RunRecord.of(config, dict(settings), {})
    if (config.out / RECORD_NAME).exists():
        record.changes_since(config.out, tuple(may_change))
    record.write(config.out)


def write_results(out: Path, results: Results, page: str) -> None:
    """Write the numbers and the report, and say where."""
    write_output(out / RESULTS_NAME, results.records())
    write_output(out / REPORT_NAME, page)
    print(f"numbers: {out / RESULTS_NAME}; report: {out / REPORT_NAME}")

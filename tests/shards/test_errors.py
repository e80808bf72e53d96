"""What is said of an error of the system: the cause is named, and nothing else is blamed."""

import errno
import os
from pathlib import Path

import pytest

from shards.errors import fault_while_writing, system_fault


def fault(number: int, name: Path | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([str(name)] if name else []))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO])
def test_a_write_that_fails_is_one_of_the_output(tmp_path: Path, number: int) -> None:
    said = f"--out {tmp_path / 'out'}: cannot be written ({os.strerror(number)})"
    assert fault_while_writing(fault(number), tmp_path / "out", "--out") == said


@pytest.mark.parametrize("name", ["out", "out/x/y", ".out.packing/journals/x", ".out.partial", "."])
def test_a_file_of_the_output_is_one_of_the_output(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for out, named in ((tmp_path / "out", tmp_path / name), (Path("out"), Path(name))):
        assert fault_while_writing(fault(errno.EACCES, named), out, "--out") == (
            f"--out {out}: cannot be written (Permission denied)"
        )


def test_another_file_is_named_and_what_is_no_write_is_not_called_one(tmp_path: Path) -> None:
    video = tmp_path / "videos" / "a.mp4"
    assert fault_while_writing(fault(errno.EACCES, video), tmp_path / "out", "--out") == f"{video}: Permission denied"
    assert fault_while_writing(fault(errno.EMFILE), tmp_path / "out", "--out") == "Too many open files"


def test_what_the_system_has_not_said_is_no_fault_of_it(tmp_path: Path) -> None:
    for error in (OSError("AF_UNIX path too long"), fault(errno.EINVAL), ValueError("x")):
        assert system_fault(error) is None
    assert fault_while_writing(OSError("AF_UNIX path too long"), tmp_path, "--out") is None
    assert system_fault(fault(errno.EACCES)) == "Permission denied"

import os
import tempfile
from pathlib import Path

import pytest

from shards.system.home import usable_folder

WANTED = Path("~/.cache/scenebias")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"scenebias-{os.getuid()}" / ".cache" / "scenebias"


def test_a_folder_below_home_is_made_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert usable_folder(WANTED) == tmp_path / "home" / ".cache" / "scenebias"
    assert (tmp_path / "home" / ".cache" / "scenebias").is_dir()


def test_where_home_is_unknown_or_cannot_be_written_it_lies_among_the_temporary_files(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert usable_folder(WANTED) == temporary
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert usable_folder(WANTED) == temporary
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])  # as in a container with a user of its own
    assert usable_folder(WANTED) == temporary


def test_a_folder_that_somebody_has_chosen_stays(tmp_path: Path) -> None:
    assert usable_folder(tmp_path / "file" / "cache") == tmp_path / "file" / "cache"
    assert usable_folder(Path("cache")) == Path("cache")

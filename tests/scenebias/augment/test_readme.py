"""The Python of the room's README runs."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.project import ROOT
from tests.readmes import python_of


def test_the_readme_s_python_augments_clips(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "jhmdb").mkdir(parents=True)
    (tmp_path / "data" / "jhmdb" / "train").symlink_to(tiny_dataset)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(python_of(ROOT / "scenebias" / "augment" / "README.md"), names)
    before, after = names["batch"].clip_BTHWC, names["augmented"].clip_BTHWC
    assert after.shape == before.shape
    assert not torch.equal(before, after)

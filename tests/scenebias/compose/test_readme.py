"""The Python of the room's README runs."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.project import ROOT
from tests.readmes import python_of


def test_the_readme_s_python_composes_clips(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "jhmdb").mkdir(parents=True)
    (tmp_path / "data" / "jhmdb" / "train").symlink_to(tiny_dataset)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(python_of(ROOT / "scenebias" / "compose" / "README.md"), names)
    composed = names["composed"]
    assert composed.clip_BTHWC.shape == names["batch"].clip_BTHWC.shape
    torch.testing.assert_close(composed.target_BA.sum(dim=1), torch.ones(12))
    assert 0 < composed.composed_B.sum() < 12

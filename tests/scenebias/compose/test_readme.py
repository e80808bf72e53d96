"""The Python of the room's README runs."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.project import ROOT


def test_the_readme_s_python_composes_clips(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "jhmdb").mkdir(parents=True)
    (tmp_path / "data" / "jhmdb" / "train").symlink_to(tiny_dataset)
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "scenebias" / "compose" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    composed = names["composed"]
    assert composed.clip_BTHWC.shape == names["batch"].clip_BTHWC.shape
    torch.testing.assert_close(composed.target_BA.sum(dim=1), torch.ones(12))
    assert 0 < composed.composed_B.sum() < 12

"""Pretrain video models that recognise the action, not the scene.

The commands are modules, such as ``python -m scenebias.pretrain``; `load` gives their results to other programs; see
README.md.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenebias.models.pretrained import Pretrained

__all__ = ["load"]


def load(weights: Path | str) -> "Pretrained":
    """The model of a weight file in evaluation mode on the CPU, its classes, and what makes its input from frames.

    Raises:
        shards.errors.UserError: the file is missing, damaged, or does not say how its clips were cut.
    """
    from scenebias.models.pretrained import load_pretrained  # PyTorch, which not every command of the package needs

    return load_pretrained(Path(weights))

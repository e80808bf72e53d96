"""The Python that READMEs show."""

import re
from pathlib import Path


def python_of(readme: Path) -> str:
    """The one block of Python in it."""
    (block,) = re.findall(r"^```python\n(.*?)^```", readme.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return block

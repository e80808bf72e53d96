"""Folders below the home folder, which need not be known, there or writable: as in containers, and on many clusters."""

import os
import tempfile
from pathlib import Path


def usable_folder(folder: Path) -> Path:
    """``folder`` with its ``~`` replaced, where it can be made and written; else one for this user's temporary files.

    A folder without ``~`` is somebody's choice, and stays.
    """
    if folder.parts[:1] != ("~",):
        return folder
    try:
        expanded = folder.expanduser()
        expanded.mkdir(parents=True, exist_ok=True)
    except (RuntimeError, OSError):  # RuntimeError: nobody knows where home is
        return _temporary(folder)
    return expanded if os.access(expanded, os.W_OK) else _temporary(folder)


def _temporary(folder: Path) -> Path:
    own = Path(tempfile.gettempdir()) / f"scenebias-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    return own / folder.relative_to("~")

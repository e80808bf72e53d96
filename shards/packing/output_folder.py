"""A folder that appears under its final name only when it is complete."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.errors import UserError, fault_while_writing
from shards.format.manifest import MANIFEST_NAME
from shards.system.atomic import made_folder, sync_folder
from shards.system.locks import LOCK_NAME, locked_file


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give an empty folder beside ``out`` to fill; on success it becomes ``out``, on failure nothing is left of it.

    Where ``out`` is a link to a folder, that folder is the one filled, and the link stays.

    Raises:
        UserError: ``out`` is not empty, or cannot be written.
    """
    final = out.resolve()
    partial = final.with_name(f".{final.name}.partial")
    try:
        with made_folder(final.parent), locked_file(final, f"--out {out}"):
            refuse_other_content(out, overwrite=False)
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
            try:
                partial.mkdir()
                yield partial
                partial.rename(final)
                sync_folder(final.parent)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except OSError as error:
        if (fault := fault_while_writing(error, out, "--out")) is None:
            raise
        raise UserError(f"{fault}; mend that, or choose another folder") from error


def refuse_other_content(out: Path, overwrite: bool) -> None:
    """Raise a UserError unless ``out`` may be made or, with ``overwrite``, is a data set that may be replaced."""
    if out.is_symlink() and not out.exists():
        raise UserError(f"--out {out}: is a link to nothing; make {out.readlink()}, or remove the link")
    if Path.cwd().is_relative_to(out.resolve()):
        raise UserError(f"--out {out}: the current folder cannot be replaced; choose another, or run from elsewhere")
    if not out.exists():
        return
    if out.is_mount():
        raise UserError(f"--out {out}: a disk is mounted there, and cannot be replaced; choose a folder in it")
    if not out.is_dir():
        raise UserError(f"--out {out}: is a file; choose a folder")
    if all(path.name == LOCK_NAME for path in out.iterdir()):
        return
    if not (out / MANIFEST_NAME).is_file():
        raise UserError(f"--out {out}: holds other files and no finished data set; choose an empty folder")
    if not overwrite:
        raise UserError(
            f"--out {out}: holds another data set, or a damaged one, or its videos or annotations have changed "
            "since; choose another folder, or add --overwrite to replace it"
        )

"""The indexes of a remote data set, copied once to the local disk, where they are mapped like any others:

SHA256 of the URL/lock                      held by the process that fetches
                  manifest.json.part        on its way
                  SHA256 of the manifest/   the manifest, its indexes, and .part files on their way
"""

import fcntl
import hashlib
import os
from pathlib import Path
from tokenize import TokenError

import numpy as np

from shards.errors import UserError
from shards.format.clip_sources import SOURCES_NAME
from shards.format.index import SAMPLES_NAME, SCENES_NAME, STRIPS_NAME, TRUTHS_NAME
from shards.format.manifest import MANIFEST_NAME, Manifest
from shards.storage.downloads import RemoteFiles
from shards.system.atomic import sync_folder
from shards.system.checksums import sha256_of
from shards.system.home import usable_folder


def fetch_indexes(files: RemoteFiles, cache: Path) -> tuple[Path, Manifest]:
    """Return a local folder of the indexes, and the manifest as it is now.

    Raises:
        UserError: a file cannot be fetched, or the cache cannot be written.
    """
    folder = usable_folder(cache) / "indexes" / hashlib.sha256(files.url.encode()).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                return _fetch(files, folder)
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)  # closing would not do, had another thread forked the process
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another cache directory") from error


def forget_indexes(directory: Path) -> None:
    """Remove fetched indexes that turned out not to be those of the data set, so that they are fetched again."""
    for name in (SAMPLES_NAME, STRIPS_NAME, SCENES_NAME, TRUTHS_NAME, SOURCES_NAME):
        (directory / name).unlink(missing_ok=True)


def _fetch(files: RemoteFiles, folder: Path) -> tuple[Path, Manifest]:
    part = folder / f"{MANIFEST_NAME}.part"
    files.download(MANIFEST_NAME, part, lambda path: None)
    directory = folder / sha256_of(part)
    directory.mkdir(exist_ok=True)
    part.replace(directory / MANIFEST_NAME)
    try:
        manifest = Manifest.load(directory)
    except UserError as error:
        raise UserError(f"{files.url}: {error}") from error
    scenes = [SCENES_NAME] if manifest.scene_count else []
    truths = [TRUTHS_NAME] if manifest.has_truth else []
    sources = [SOURCES_NAME] if manifest.has_sources else []
    for name in (SAMPLES_NAME, STRIPS_NAME, *scenes, *truths, *sources):
        if not (directory / name).exists():
            part = directory / f"{name}.part"
            files.download(name, part, _problem)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.rename(directory / name)
    sync_folder(directory)
    return directory, manifest


def _problem(path: Path) -> str | None:
    """What is wrong with a fetched index as such; it may still be that of another data set."""
    try:
        np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, SyntaxError, TokenError) as error:
        return f"it is no whole array: {error}"
    return None

"""Files that lie far away, behind any URL that fsspec knows: fetched whole, watched while they come, and tried again.

Nothing is listed and nothing is asked but the file itself, so a plain web server will do.
"""

import asyncio
import concurrent.futures
import errno
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec.config import apply_config

from shards.errors import UserError
from shards.storage.cache_config import CacheConfig

_LONGEST_PAUSE_S = 60.0
_POLL_S = 0.1
_SETTINGS = "the environment (such as AWS_PROFILE) or fsspec's files (~/.config/fsspec/*.json)"


class CancelledDownloadError(Exception):
    """Nobody wants the file any more."""


def never() -> bool:
    """Tell of a download that it is wanted to the end."""
    return False


def local_path(location: Path | str) -> Path | None:
    """The folder that a location names, or None where it is the URL of a place far away."""
    if isinstance(location, Path) or "://" not in location:
        return Path(location)
    parts = urlsplit(location)
    return Path(unquote(parts.path)) if parts.scheme in ("file", "local") else None


class RemoteFiles:
    """The files of one folder behind a URL; safe to use from several threads and after a fork."""

    def __init__(self, url: str, config: CacheConfig) -> None:
        self.url = url.rstrip("/")
        self._config = config
        self._file_systems: dict[int, tuple[Any, str]] = {}

    def url_of(self, name: str) -> str:
        """Where a file lies."""
        return f"{self.url}/{name}"

    def download(
        self,
        name: str,
        target: Path,
        problem_of: Callable[[Path], str | None],
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Fetch a file to ``target``, which is overwritten in place.

        Args:
            name: The file.
            target: Where to; on an error, it holds anything.
            problem_of: Says what is wrong with a fetched file, or None; a wrong one is fetched again.
            cancelled: Asked again and again whether to give up.

        Raises:
            UserError: the file does not exist or may not be read; or every attempt has failed.
            CancelledDownloadError: as ``cancelled`` says.
        """
        url = self.url_of(name)
        last: Exception | None = None
        for attempt in range(self._config.download_retries + 1):
            if attempt:
                self._pause(attempt, cancelled)
            try:
                self._fetch(name, target, cancelled)
                problem = problem_of(target)
                if problem is None:
                    return
                last = ValueError(problem)
            except (CancelledDownloadError, UserError):
                raise
            except Exception as error:  # each file system, and each library under it, has errors of its own
                _raise_if_final(url, target, error)
                last = error
        assert last is not None
        raise UserError(
            f"{url} cannot be fetched: {self._config.download_retries + 1} attempts have failed, the last one because "
            f"{_describe(last)}; check the network and that the file is whole there, or allow more with "
            "--download-retries or --download-timeout-s"
        ) from last

    def _fetch(self, name: str, target: Path, cancelled: Callable[[], bool]) -> None:
        """Try once."""
        file_system, root = self._file_system()
        watch = _Watch(cancelled)
        path = f"{root}/{name}"
        if not file_system.async_impl:
            file_system.get_file(path, str(target), callback=watch)
            return
        ended = threading.Event()

        async def get() -> None:
            try:
                await file_system._get_file(path, str(target), callback=watch)
            finally:
                ended.set()

        running = asyncio.run_coroutine_threadsafe(get(), file_system.loop)
        try:
            while not concurrent.futures.wait([running], timeout=_POLL_S).done:
                watch.raise_if_cancelled()
                if watch.silence_s() > self._config.download_timeout_s:
                    raise TimeoutError(f"no byte has come for {self._config.download_timeout_s:g} s")
            running.result()
        finally:
            if running.cancel():
                ended.wait(timeout=1)  # or it might still write to the file

    def _pause(self, attempt: int, cancelled: Callable[[], bool]) -> None:
        longest_s = min(self._config.backoff_s * 2 ** (attempt - 1), _LONGEST_PAUSE_S)
        end_s = time.monotonic() + random.uniform(0.5, 1.0) * longest_s  # or all would come back at once
        while (left_s := end_s - time.monotonic()) > 0:
            if cancelled():
                raise CancelledDownloadError
            time.sleep(min(left_s, _POLL_S))

    def _file_system(self) -> tuple[Any, str]:
        """The file system and the folder in it; one for each process, as neither loops nor sockets outlive a fork."""
        process = os.getpid()
        if process not in self._file_systems:
            try:
                options = _with_defaults(self.url, self._config.storage_options)
                file_system, root = fsspec.url_to_fs(self.url, **options)
            except (ImportError, TypeError, ValueError) as error:
                raise UserError(
                    f"{self.url} cannot be reached ({error}); install what is missing, or mend the address or "
                    f"what {_SETTINGS} say of it"
                ) from error
            self._file_systems[process] = file_system, root.rstrip("/")
        return self._file_systems[process]


class _Watch(fsspec.Callback):
    """Learns of every piece that comes."""

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        super().__init__()
        self._cancelled = cancelled
        self._last_s = time.monotonic()

    def relative_update(self, inc: int = 1) -> None:
        self.raise_if_cancelled()
        if inc:
            self._last_s = time.monotonic()

    def raise_if_cancelled(self) -> None:
        if self._cancelled():
            raise CancelledDownloadError

    def silence_s(self) -> float:
        """For how long nothing has come."""
        return time.monotonic() - self._last_s


def _with_defaults(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Add to the options of a file system what we want otherwise than fsspec, where nobody has said anything of it."""
    protocol = url.partition("://")[0]
    if protocol in ("http", "https"):
        import aiohttp  # fsspec itself needs it for no other protocol

        configured = apply_config(fsspec.get_filesystem_class(protocol), dict(options))
        timeout = aiohttp.ClientTimeout(total=None)  # else all is over after 5 minutes
        return {**options, "client_kwargs": {"timeout": timeout, **configured.get("client_kwargs", {})}}
    if protocol in ("s3", "s3a"):
        configured = apply_config(fsspec.get_filesystem_class(protocol), dict(options))
        # Else it holds 10 pieces of 50 MiB in memory, and tells of none until all came.
        return {"max_concurrency": configured.get("max_concurrency", 1), **options}
    return dict(options)


def _raise_if_final(url: str, target: Path, error: Exception) -> None:
    """Raise a UserError where no further attempt can help."""
    status = getattr(error, "status", None)
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        raise UserError(f"{url} does not exist; check the address, or copy the data set there again") from error
    if isinstance(error, PermissionError) or status in (401, 403) or "Credential" in kind or "Authentication" in kind:
        raise UserError(f"{url} may not be read ({_describe(error)}); check the credentials in {_SETTINGS}") from error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        raise UserError(f"{target.parent}: {error.strerror}; free space, or choose another cache directory") from error


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ") if not isinstance(error, ValueError) else str(error)

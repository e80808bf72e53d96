"""How shards that lie far away are fetched and kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.checks import require_at_least


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """The local cache of remote data sets; of no effect where a data set lies in a local folder.

    Several processes may share a cache, whatever they read from it.
    """

    directory: Path = Path("~/.cache/scenebias")
    """Folder of the cache, on a disk of this machine; made where it is absent. Where no home folder (~) can be written,
    it lies among the temporary files."""
    budget_bytes: int = 64 * 10**9
    """The shards kept there are never more; at least the largest shard. Indexes come on top."""
    downloads: int = 4
    """Shards fetched at once, ahead of use."""
    download_retries: int = 5
    """How often a failed download is begun again, beyond what the file system itself does."""
    download_timeout_s: float = 60.0
    """A download fails when no byte has come for so long; where fsspec's file system is not asynchronous (SFTP, SMB),
    as its own limits say."""
    backoff_s: float = 0.5
    """Pause before the first retry; it doubles with each, up to a minute, and is cut by a random share."""
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold secrets
    """Arguments of the fsspec file system: credentials, endpoints. They add to those that fsspec finds in the
    environment and in its configuration files, ``~/.config/fsspec/*.json``, and win over them."""

    def __post_init__(self) -> None:
        require_at_least(1, budget_bytes=self.budget_bytes, downloads=self.downloads)
        require_at_least(0, download_retries=self.download_retries)
        for name in ("download_timeout_s", "backoff_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


DEFAULT_CACHE = CacheConfig()

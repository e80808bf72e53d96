"""The data format: clips in tar shards with human masks and scene labels, readable at any frame.

Knows neither PyTorch nor DALI. What users of a packed data set need has a name here, and is imported when it is first
asked for, so that importing the package costs nothing; all else is imported from its own module.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shards.clip import Clip
    from shards.dataset import ShardDataset
    from shards.errors import DamagedClipError, UserError
    from shards.format.index import rebuild_index
    from shards.format.manifest import Manifest
    from shards.format.sample import ClipInfo
    from shards.format.truth import Segment, Truth
    from shards.order import EpochOrder
    from shards.storage.cache_config import CacheConfig
    from shards.webdataset_pipeline import open_webdataset

__all__ = [
    "CacheConfig",
    "Clip",
    "ClipInfo",
    "DamagedClipError",
    "EpochOrder",
    "Manifest",
    "Segment",
    "ShardDataset",
    "Truth",
    "UserError",
    "open_webdataset",
    "rebuild_index",
]

_MODULES = {
    "CacheConfig": "shards.storage.cache_config",
    "Clip": "shards.clip",
    "ClipInfo": "shards.format.sample",
    "DamagedClipError": "shards.errors",
    "EpochOrder": "shards.order",
    "Manifest": "shards.format.manifest",
    "Segment": "shards.format.truth",
    "ShardDataset": "shards.dataset",
    "Truth": "shards.format.truth",
    "UserError": "shards.errors",
    "open_webdataset": "shards.webdataset_pipeline",
    "rebuild_index": "shards.format.index",
}


if not TYPE_CHECKING:  # or a checker would believe in any name

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The data format: clips in tar shards with human masks and scene labels, readable at any frame.

Knows neither PyTorch nor DALI.
"""

from shards.clip import StoredClip
from shards.codecs.filmstrip import MAX_STRIP_ROWS, Strip, StripHeader, decode_strip, encode_strips, select_frames
from shards.codecs.masks import pack_masks, resize_masks, unpack_masks
from shards.codecs.parts import CodedFrames
from shards.codecs.registry import Codec, clip_encoder
from shards.dataset import ShardDataset
from shards.errors import DamagedClipError, UserError
from shards.format.index import rebuild_index
from shards.format.manifest import AbsentClip, Manifest, ShardRecord
from shards.format.sample import SCENE_COUNT, ClipInfo, Sample
from shards.order import EpochOrder
from shards.randomness import Permutation, hash_uint64, randint, uniform
from shards.storage.cache_config import CacheConfig

__all__ = [
    "MAX_STRIP_ROWS",
    "SCENE_COUNT",
    "AbsentClip",
    "CacheConfig",
    "ClipInfo",
    "Codec",
    "CodedFrames",
    "DamagedClipError",
    "EpochOrder",
    "Manifest",
    "Permutation",
    "Sample",
    "ShardDataset",
    "ShardRecord",
    "StoredClip",
    "Strip",
    "StripHeader",
    "UserError",
    "clip_encoder",
    "decode_strip",
    "encode_strips",
    "hash_uint64",
    "pack_masks",
    "randint",
    "rebuild_index",
    "resize_masks",
    "select_frames",
    "uniform",
    "unpack_masks",
]

"""Decoding, augmentation and batching of packed clips with NVIDIA DALI."""

from dali_pipelines.clip_decoder import ClipBatch
from dali_pipelines.faults import FaultConfig
from dali_pipelines.loader import EvalLoader, TrainLoader
from dali_pipelines.windows import ClipConfig, ProtocolConfig

__all__ = ["ClipBatch", "ClipConfig", "EvalLoader", "FaultConfig", "ProtocolConfig", "TrainLoader"]

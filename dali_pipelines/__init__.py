"""Decoding, augmentation and batching of packed clips with NVIDIA DALI."""

from dali_pipelines.augmentation import ClipConfig, ProtocolConfig
from dali_pipelines.decoding import ClipBatch
from dali_pipelines.faults import FaultConfig
from dali_pipelines.loader import EvalLoader, TrainLoader

__all__ = ["ClipBatch", "ClipConfig", "EvalLoader", "FaultConfig", "ProtocolConfig", "TrainLoader"]

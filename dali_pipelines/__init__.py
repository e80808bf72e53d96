"""Decoding, augmentation and batching of packed clips with NVIDIA DALI; see README.md in this folder.

The names load their modules when they are first used: a configuration needs neither DALI nor PyTorch.
"""

from typing import TYPE_CHECKING

__all__ = [
    "ClipBatch",
    "ClipConfig",
    "DecodingConfig",
    "EvalLoader",
    "FaultConfig",
    "MixtureLoader",
    "ProtocolConfig",
    "TrainLoader",
]

if TYPE_CHECKING:
    from dali_pipelines.clip_decoder import ClipBatch
    from dali_pipelines.decoding_config import DecodingConfig
    from dali_pipelines.faults import FaultConfig
    from dali_pipelines.loader import EvalLoader, TrainLoader
    from dali_pipelines.mixture_loader import MixtureLoader
    from dali_pipelines.windows import ClipConfig, ProtocolConfig
else:  # hidden from type checkers, to which it would mean that any name is there
    from importlib import import_module

    _MODULES = {
        "ClipBatch": "clip_decoder",
        "ClipConfig": "windows",
        "DecodingConfig": "decoding_config",
        "EvalLoader": "loader",
        "FaultConfig": "faults",
        "MixtureLoader": "mixture_loader",
        "ProtocolConfig": "windows",
        "TrainLoader": "loader",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

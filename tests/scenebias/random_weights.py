"""Weights that have learned nothing, for the commands that go on from weights."""

from dataclasses import asdict
from pathlib import Path

import torch

from dali_pipelines.windows import ClipConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.weights import WeightsMetadata, save_weights


def pretrained(
    folder: Path, objective: str, seed: int, clip: ClipConfig, classes: tuple[str, ...] = ("run", "sit")
) -> Path:
    """Random weights of a small network that say to come from a pretraining run."""
    folder.mkdir(parents=True)
    torch.manual_seed(10 * len(objective) + seed)
    metadata = WeightsMetadata(
        backbone="small3d",
        classes=classes,
        trained_on=(),
        configuration={"objective": {"name": objective}, "schedule": {"seed": seed}, "clip": asdict(clip)},
    )
    save_weights(folder / "weights.safetensors", ActionModel(ModelConfig(backbone="small3d"), len(classes)), metadata)
    return folder / "weights.safetensors"

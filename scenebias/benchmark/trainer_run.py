"""A few steps of the project's own trainer, for their times."""

from contextlib import redirect_stderr
from io import StringIO
from typing import cast

import numpy as np
import torch

from dali_pipelines.loader import TrainLoader
from scenebias.arithmetic import ArithmeticConfig
from scenebias.backbones import BackboneName
from scenebias.benchmark.training_stand_ins import NoCheckpoints, ResidentBatches, SomeSteps, StepTimes
from scenebias.checkpoint import CheckpointFolder
from scenebias.distributed import ProcessPlace
from scenebias.evaluation import Evaluation
from scenebias.model import ActionModel, ModelConfig
from scenebias.objective import DebiasingModel, ObjectiveConfig
from scenebias.optimization import OptimizationConfig
from scenebias.profiling import StepProfiler
from scenebias.trainer import ScheduleConfig, Trainer
from scenebias.training_log import TrainingLog


def run_trainer(
    loader: ResidentBatches | SomeSteps,
    network: BackboneName,
    objective: ObjectiveConfig,
    arithmetic: ArithmeticConfig,
    device: torch.device,
) -> StepTimes:
    """Train new weights for an epoch of ``loader``, as a run does but for the evaluation and what it leaves behind."""
    classes = len(loader.dataset.manifest.classes)
    times = StepTimes()
    trainer = Trainer(
        DebiasingModel(ActionModel(ModelConfig(backbone=network), classes), objective),
        cast(TrainLoader, loader),
        lambda _: Evaluation(np.full((1, classes), 1 / classes), np.zeros(1, np.int64)),
        cast(CheckpointFolder, NoCheckpoints()),
        ProcessPlace(rank=0, world_size=1, device=device),
        schedule=ScheduleConfig(epochs=1),
        optimization=OptimizationConfig(),
        arithmetic=arithmetic,
        checkpoint_every_steps=loader.steps_per_epoch,
        profiler=StepProfiler(None),
    )
    with redirect_stderr(StringIO()):  # it would tell of an evaluation that has not taken place
        trainer.run(lambda _step, _epochs: cast(TrainingLog, times), network)
    return times

"""A few steps of the project's own trainer, for their times."""

from contextlib import redirect_stderr
from io import StringIO

import numpy as np
import torch

from scenebias.benchmark.training.stand_ins import NoCheckpoints, ResidentBatches, SomeSteps, StepTimes
from scenebias.compose.config import AS_THEY_ARE, ComposeConfig
from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import Evaluation
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BackboneName
from scenebias.run_folder.profiling import StepProfiler
from scenebias.training.computing.arithmetic import ArithmeticConfig
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.schedule import ScheduleConfig
from scenebias.training.trainer import Trainer


def run_trainer(
    loader: ResidentBatches | SomeSteps,
    network: BackboneName,
    objective: ObjectiveConfig,
    arithmetic: ArithmeticConfig,
    device: torch.device,
    composition: ComposeConfig = AS_THEY_ARE,
    profiler: StepProfiler | None = None,
) -> StepTimes:
    """Train new weights for an epoch of ``loader``, as a run does but for the evaluation and what it leaves behind."""
    classes = len(loader.dataset.manifest.classes)
    times = StepTimes()
    trainer = Trainer(
        DebiasingModel(ActionModel(ModelConfig(backbone=network), classes), objective),
        loader,
        lambda _: Evaluation(np.full((1, classes), 1 / classes), np.zeros(1, np.int64)),
        NoCheckpoints(),
        ProcessPlace(rank=0, world_size=1, device=device),
        schedule=ScheduleConfig(epochs=1),
        optimization=OptimizationConfig(),
        arithmetic=arithmetic,
        composition=composition,
        checkpoint_every_steps=loader.steps_per_epoch,
        profiler=profiler or StepProfiler(None),
        precise_bn=None,
    )
    with redirect_stderr(StringIO()):  # it would tell of an evaluation that has not taken place
        trainer.run(lambda _step, _epochs: times, network)
    return times

"""How often the host waits for the device in a step of training: once, whatever is trained for and however."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dali_pipelines import ClipConfig, TrainLoader
from scenebias.augment.config import NOT_AUGMENTED, AugmentConfig
from scenebias.benchmark.training.stand_ins import NoCheckpoints, StepTimes
from scenebias.compose.config import AS_THEY_ARE, ComposeConfig
from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.debiasing.scene_balance import SceneBalance
from scenebias.distributed.batch_norm import sync_batch_norm
from scenebias.distributed.process_place import ProcessPlace, distributed_session
from scenebias.evaluation.accuracy import Evaluation
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.run_folder.profiling import StepProfiler
from scenebias.training.computing.arithmetic import ArithmeticConfig
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.schedule import ScheduleConfig
from scenebias.training.trainer import Trainer
from shards.dataset import ShardDataset
from tests.forked import run_in_ranks
from tests.scenebias.training.synchronisations import counted

DEVICE = torch.device("cpu", 0)
STEPS = 3
BASELINE, AS_IT_COMES, SGD = ObjectiveConfig(name="baseline"), ArithmeticConfig(), OptimizationConfig()


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to train."""

    objective: ObjectiveConfig = BASELINE
    arithmetic: ArithmeticConfig = AS_IT_COMES
    optimization: OptimizationConfig = SGD
    augment: AugmentConfig = NOT_AUGMENTED
    compose: ComposeConfig = AS_THEY_ARE
    skip_nonfinite_steps: int = 0
    ema: float | None = None


def train(way: Way, train_data: Path, place: ProcessPlace, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What made the training thread wait in an epoch of ``STEPS`` steps, but for what is saved."""
    dataset = ShardDataset.open(train_data)
    batch_size = len(dataset) // STEPS
    loader = TrainLoader(
        dataset,
        ClipConfig(frames=8, size=32),
        global_batch_size=batch_size,
        rank=place.rank,
        world_size=place.world_size,
        group_size=way.compose.group_size,
        frame_means=way.objective.uses_frame_means,
    )
    balance = SceneBalance.of(np.asarray(dataset.labels), dataset.scenes, 3)
    trainer = Trainer(
        DebiasingModel(ActionModel(ModelConfig(backbone="small3d"), 3), way.objective, balance),
        loader,
        lambda _: Evaluation(np.full((1, 3), 1 / 3), np.zeros(1, np.int64)),
        NoCheckpoints(),
        place,
        schedule=ScheduleConfig(
            epochs=1, batch_size=batch_size, skip_nonfinite_steps=way.skip_nonfinite_steps, ema=way.ema
        ),
        optimization=way.optimization,
        arithmetic=way.arithmetic,
        augmentation=way.augment,
        composition=way.compose,
        checkpoint_every_steps=1000,
        profiler=StepProfiler(None),
        precise_bn=None,
    )
    found: Counter[str] = Counter()
    train_epoch = Trainer._train_epoch

    def counting(*arguments: Any) -> None:
        with counted() as in_epoch:
            train_epoch(*arguments)
        found.update(in_epoch)

    monkeypatch.setattr(Trainer, "_train_epoch", counting)
    monkeypatch.setattr(Trainer, "_save", lambda _: None)
    times = StepTimes()
    trainer.run(lambda _step, _epochs: times, "counted")
    assert len(times.steps) == loader.steps_per_epoch - 1
    return found


DEBIAS = ObjectiveConfig(name="debias")
ALTERNATING = ObjectiveConfig(name="debias", mask_step="alternate", mask_loss="released", masked_batch_norm="separate")
WAYS = {
    "baseline": Way(),
    "baseline, accumulated": Way(arithmetic=ArithmeticConfig(accumulate=2)),
    "baseline, clipped": Way(optimization=OptimizationConfig(gradient_clip=1.0, optimizer="adamw")),
    "baseline, averaged": Way(ema=0.99),
    "baseline, fp16": Way(arithmetic=ArithmeticConfig(precision="fp16")),
    "debias": Way(objective=DEBIAS),
    "debias, accumulated": Way(objective=DEBIAS, arithmetic=ArithmeticConfig(accumulate=2)),
    "debias, bf16": Way(objective=DEBIAS, arithmetic=ArithmeticConfig(precision="bf16")),
    "debias, passing over": Way(objective=DEBIAS, skip_nonfinite_steps=3),
    "debias, recomputed": Way(objective=DEBIAS, arithmetic=ArithmeticConfig(recompute=True)),
    "debias, random fill": Way(objective=ObjectiveConfig(name="debias", fill="random")),
    "debias, plain fill": Way(objective=ObjectiveConfig(name="debias", fill="dataset_mean")),
    "debias, noise": Way(objective=ObjectiveConfig(name="debias", fill="noise", mask_cover="boxes")),
    "debias, whole frames": Way(objective=ObjectiveConfig(name="debias", fill="whole_frame_mean")),
    "alternating": Way(objective=ALTERNATING),
    "alternating, fp16": Way(objective=ALTERNATING, arithmetic=ArithmeticConfig(precision="fp16")),
    "joint": Way(objective=ObjectiveConfig(name="debias", mask_step="joint", mask_loss="adversarial")),
    "conditional": Way(objective=ObjectiveConfig(name="scene", scene_adversary="conditional")),
    "weighted": Way(objective=ObjectiveConfig(name="scene", scene_adversary="weighted", label_smoothing=0.1)),
    "albar": Way(objective=ObjectiveConfig(name="albar")),
    "augmented": Way(
        augment=AugmentConfig(
            rand_augment=2, jitter_contrast=0.4, jitter_hue=0.1, grey_probability=0.2, erasing_probability=0.25
        )
    ),
    "composed": Way(
        objective=ObjectiveConfig(name="mask", alpha_mask=8.0), compose=ComposeConfig(compose=("background_swap",))
    ),
    "composed in all ways": Way(
        objective=ObjectiveConfig(name="debias", consistency=0.5),
        compose=ComposeConfig(
            compose=("actor_cutmix", "fame", "background_erasing", "still_mix", "mixup", "cutmix"),
            compose_probability=(1 / 6,) * 6,
        ),
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_host_waits_once_a_step(way: Way, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = train(way, tiny_dataset, ProcessPlace(rank=0, world_size=1, device=DEVICE), monkeypatch)
    assert found.total() == STEPS, found


def normalise_together() -> None:
    with distributed_session() as place:
        module = sync_batch_norm(torch.nn.Sequential(torch.nn.BatchNorm3d(4)), place)
        input = torch.rand(2 + place.rank, 4, 2, 3, 3, requires_grad=True)
        with counted() as found:
            module(input).square().sum().backward()
        assert not found, found


def test_statistics_of_all_processes_keep_no_host_waiting(tmp_path: Path) -> None:
    run_in_ranks(tmp_path, 2, normalise_together)


def test_what_makes_a_host_wait_is_counted() -> None:
    on_device = torch.rand(3)
    with counted() as found:
        assert float(on_device.sum()) >= 0
        bool(on_device.sum() > 0)
        on_device.sum().item()
        on_device.tolist()
        on_device.numpy()
        on_host = on_device.to("cpu", non_blocking=True)
        on_host.tolist()
        torch.tensor(1.0, device=DEVICE)
        torch.tensor(1.0).to(DEVICE)
        torch.tensor(1.0).to(DEVICE, non_blocking=True)
        on_device[on_device > 0]
    assert found == {
        "_local_scalar_dense": 3,
        "tolist": 1,
        "numpy": 1,
        "to host": 1,
        "torch.tensor": 1,
        "to device": 1,
        "index": 1,
    }

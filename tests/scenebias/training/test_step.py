"""One step of training: what accumulation, number formats, recomputation and faults may change, and what not."""

import json
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch

from dali_pipelines import ClipBatch, ClipConfig, TrainLoader
from scenebias.distributed.process_place import ProcessPlace
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.run_folder.profiling import FIRST_STEPS, TRACED_STEPS, StepProfiler
from scenebias.training.arithmetic import ArithmeticConfig
from scenebias.training.objective import DebiasingModel, ObjectiveConfig
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.step import StepOutcome, StepSetting, TrainingStep
from shards.dataset import ShardDataset

ALONE = ProcessPlace(rank=0, world_size=1, device=torch.device("cpu"))
DEBIAS = ObjectiveConfig(name="debias")
AS_IT_COMES = ArithmeticConfig()
DECAYING = OptimizationConfig(weight_decay=0.1)
RATES = {"backbone": 0.01, "heads": 0.02}


@pytest.fixture(scope="module")
def batch(tiny_dataset: Path) -> ClipBatch:
    loader = TrainLoader(ShardDataset.open(tiny_dataset), ClipConfig(frames=8, size=32), global_batch_size=12, seed=0)
    return next(iter(loader.epoch(0)))


def make_step(
    objective: ObjectiveConfig = DEBIAS,
    arithmetic: ArithmeticConfig = AS_IT_COMES,
    optimization: OptimizationConfig = DECAYING,
    *,
    frozen: bool = False,
    outlives_nonfinite: bool = False,
) -> TrainingStep:
    torch.manual_seed(0)
    action_model = ActionModel(ModelConfig(backbone="small3d"), 3)
    if frozen:
        action_model.freeze_backbone()
    model = DebiasingModel(action_model, objective)
    step = TrainingStep(model, optimization, arithmetic, ALONE, outlives_nonfinite=outlives_nonfinite)
    step.begin_epoch(0)
    return step


def take(step: TrainingStep, batch: ClipBatch, number: int = 0) -> StepOutcome:
    return step(
        batch,
        StepSetting(epoch=0, step=number, clip_count=len(batch.label_B), learning_rates=RATES, ramp=1.0, seed=0),
    )


def state_of(step: TrainingStep) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in step.model.state_dict().items()}


def losses_of(outcome: StepOutcome) -> dict[str, float]:
    return {name: float(value) for name, value in outcome.sums.items()}


def test_parts_of_a_batch_add_up_to_the_whole_where_no_batch_statistics_are_in_the_way(batch: ClipBatch) -> None:
    """Five parts of twelve clips are of different sizes, and the effective masks are spread unevenly over them."""
    objective = ObjectiveConfig(name="mask", mask_step="joint")
    whole, parts = (make_step(objective, ArithmeticConfig(accumulate=n), frozen=True) for n in (1, 5))
    for number in range(3):
        first, second = take(whole, batch, number), take(parts, batch, number)
        assert losses_of(second) == pytest.approx(losses_of(first), rel=1e-5)
        assert second.gradient_norms == pytest.approx(first.gradient_norms, rel=1e-4)
        torch.testing.assert_close(torch.cat(second.clip_losses), torch.cat(first.clip_losses))
    torch.testing.assert_close(state_of(parts), state_of(whole))


def test_recomputed_activations_leave_weights_and_statistics_the_same_to_the_bit(batch: ClipBatch) -> None:
    plain, recomputed = make_step(), make_step(arithmetic=ArithmeticConfig(recompute=True))
    for number in range(3):
        assert losses_of(take(plain, batch, number)) == losses_of(take(recomputed, batch, number))
    first, second = state_of(plain), state_of(recomputed)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_the_losses_of_single_precision_but_for_its_rounding(
    batch: ClipBatch, precision: str
) -> None:
    single, half = make_step(), make_step(arithmetic=ArithmeticConfig(precision=precision))
    assert half.scaler.is_enabled() == (precision == "fp16")
    assert losses_of(take(half, batch)) == pytest.approx(losses_of(take(single, batch)), rel=0.05)


def test_a_scaled_loss_that_overflows_lowers_its_scale_and_leaves_no_trace_in_the_steps_that_follow(
    batch: ClipBatch,
) -> None:
    fp16 = ArithmeticConfig(precision="fp16")
    overflowing, sound = (make_step(ObjectiveConfig(name="baseline"), fp16) for _ in range(2))
    scale = sound.scaler.get_scale()
    overflowing.scaler.load_state_dict(overflowing.scaler.state_dict() | {"scale": 2.0**120})
    before = state_of(overflowing)
    assert take(overflowing, batch).updated, "a lower scale may mend it"
    assert overflowing.scaler.get_scale() < 2.0**120
    after = state_of(overflowing)
    assert all(torch.equal(before[name], after[name]) for name in before)
    overflowing.scaler.load_state_dict(sound.scaler.state_dict() | {"scale": scale})
    for number in (1, 2):
        assert losses_of(take(overflowing, batch, number)) == losses_of(take(sound, batch, number))
    torch.testing.assert_close(state_of(overflowing), state_of(sound), rtol=0, atol=0)


def test_a_gradient_that_no_scale_mends_is_a_fault_in_the_end(batch: ClipBatch) -> None:
    step = make_step(ObjectiveConfig(name="baseline"), ArithmeticConfig(precision="fp16"))
    step.scaler.load_state_dict(step.scaler.state_dict() | {"scale": 4.0})
    step.model.action_model.head[1].bias.register_hook(lambda gradient: gradient * torch.inf)
    assert [take(step, batch, number).updated for number in range(4)] == [True, True, True, False]


def test_the_scale_is_not_part_of_the_gradient_norm(batch: ClipBatch) -> None:
    small, large = (make_step(arithmetic=ArithmeticConfig(precision="fp16")) for _ in range(2))
    small.scaler.load_state_dict(small.scaler.state_dict() | {"scale": 2.0**4})
    large.scaler.load_state_dict(large.scaler.state_dict() | {"scale": 2.0**10})
    assert take(small, batch).gradient_norms == pytest.approx(take(large, batch).gradient_norms, rel=0.05)


def test_a_gradient_that_is_not_finite_moves_neither_weights_nor_statistics(batch: ClipBatch) -> None:
    step = make_step(outlives_nonfinite=True)
    assert step.model.action_model.head[1].bias is not None
    take(step, batch)
    before = state_of(step)
    hook = step.model.action_model.head[1].bias.register_hook(lambda gradient: gradient * torch.inf)
    outcome = take(step, batch, 1)
    hook.remove()
    assert not outcome.updated
    after = state_of(step)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert take(step, batch, 2).updated


def test_the_masked_update_leaves_the_scene_head_alone_momentum_and_decay_included(batch: ClipBatch) -> None:
    """With no scene weight in the clean phase either way, the heads of both runs must be equal."""
    alternating = make_step(replace(DEBIAS, alpha_mask=0.0), optimization=OptimizationConfig(weight_decay=0.5))
    clean = make_step(replace(DEBIAS, name="scene"), optimization=OptimizationConfig(weight_decay=0.5))
    for step in (alternating, clean):
        take(step, batch)
    first, second = state_of(alternating), state_of(clean)
    names = [name for name in first if name.startswith("scene_head")]
    assert names
    assert all(torch.equal(first[name], second[name]) for name in names)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_layers_that_only_masked_clips_pass_have_updates_of_their_own(batch: ClipBatch, optimizer: str) -> None:
    objective = replace(DEBIAS, mask_loss="released", masked_batch_norm="separate")
    step = make_step(objective, optimization=OptimizationConfig(optimizer=optimizer, decay="all"))
    for number in range(3):
        before = state_of(step)
        assert take(step, batch, number).updated
        after = state_of(step)
        assert not any(torch.equal(before[name], after[name]) for name in before if "masked_norms" in name)


def test_while_the_heads_warm_up_the_backbone_stays_as_it_is_and_then_learns(batch: ClipBatch) -> None:
    step = make_step(optimization=OptimizationConfig(head_warmup_epochs=1, weight_decay=0.1))
    before = state_of(step)
    take(step, batch)
    warm = state_of(step)
    moved = {name for name in before if not torch.equal(before[name], warm[name])}
    assert moved
    assert not any("backbone" in name for name in moved)
    step.begin_epoch(1)
    take(step, batch)
    freed = state_of(step)
    assert not torch.equal(
        warm["action_model.backbone.trunk.0.0.weight"], freed["action_model.backbone.trunk.0.0.weight"]
    )


def test_a_compiled_backbone_gives_the_same_losses_and_names(batch: ClipBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of torch.compile but its last part, which takes a minute to compile C++."""
    to_graphs = partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", to_graphs)
    plain, compiled = make_step(), make_step(arithmetic=ArithmeticConfig(compile=True))
    assert compiled.model.action_model.backbone._compiled_call_impl is not None
    for number in range(2):
        expected = losses_of(take(plain, batch, number))
        assert losses_of(take(compiled, batch, number)) == pytest.approx(expected, rel=1e-3)
    assert state_of(plain).keys() == state_of(compiled).keys()


def test_a_trace_of_a_few_steps_opens_as_json(batch: ClipBatch, tmp_path: Path) -> None:
    step = make_step(ObjectiveConfig(name="baseline"))
    with StepProfiler(tmp_path / "trace.json") as profiler:
        for number in range(FIRST_STEPS + TRACED_STEPS):
            take(step, batch, number)
            profiler.step_done()
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(event.get("name") == "aten::convolution_backward" for event in events) == 4 * TRACED_STEPS
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("precision", {"precision": "fp8"}),
        ("accumulate", {"accumulate": 0}),
        ("compile", {"compile": True, "recompute": True}),
    ],
)
def test_impossible_arithmetic_is_refused_by_name(field: str, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=field):
        ArithmeticConfig(**values)

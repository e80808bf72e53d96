"""One step of training: what accumulation, number formats, recomputation and faults may change, and what not."""

import json
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch

from dali_pipelines import ClipBatch, ClipConfig, TrainLoader
from scenebias.augment.batch import augment
from scenebias.augment.config import NOT_AUGMENTED, AugmentConfig
from scenebias.clips.masked_clip import boxes_around, mask_out_humans
from scenebias.clips.views import Cover
from scenebias.compose.batch import compose
from scenebias.compose.config import AS_THEY_ARE, ComposeConfig
from scenebias.debiasing.debiasing_model import DebiasingModel, Losses
from scenebias.debiasing.objective import ObjectiveConfig, Phase
from scenebias.distributed.process_place import ProcessPlace
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.run_folder.profiling import FIRST_STEPS, TRACED_STEPS, StepProfiler
from scenebias.training.computing.arithmetic import ArithmeticConfig
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.step import StepOutcome, StepSetting, TrainingStep
from shards.dataset import ShardDataset

ALONE = ProcessPlace(rank=0, world_size=1, device=torch.device("cpu"))
DEBIAS = ObjectiveConfig(name="debias", mask_step="alternate")
IN_ONE_BATCH = ObjectiveConfig(name="debias")
ALBAR = ObjectiveConfig(name="albar")
every_way = pytest.mark.parametrize(
    "objective",
    [DEBIAS, IN_ONE_BATCH, replace(IN_ONE_BATCH, masked_batch_norm="both"), ALBAR],
    ids=lambda o: f"{o.name}-{o.norm_of_masked}",
)
AS_IT_COMES = ArithmeticConfig()
DECAYING = OptimizationConfig(weight_decay=0.1)
CLIPS = 12
SETTING = StepSetting(
    epoch=0, step=0, clip_count=CLIPS, learning_rates={"backbone": 0.01, "heads": 0.02}, ramp=1.0, seed=0
)


@pytest.fixture(scope="module")
def batch(tiny_dataset: Path) -> ClipBatch:
    loader = TrainLoader(
        ShardDataset.open(tiny_dataset), ClipConfig(frames=8, size=32), global_batch_size=CLIPS, seed=0
    )
    return next(iter(loader.epoch(0)))


def make_step(
    objective: ObjectiveConfig = DEBIAS,
    arithmetic: ArithmeticConfig = AS_IT_COMES,
    optimization: OptimizationConfig = DECAYING,
    *,
    augmentation: AugmentConfig = NOT_AUGMENTED,
    composition: ComposeConfig = AS_THEY_ARE,
    frozen: bool = False,
    outlives_nonfinite: bool = False,
) -> TrainingStep:
    torch.manual_seed(0)
    action_model = ActionModel(ModelConfig(backbone="small3d"), 3)
    if frozen:
        action_model.freeze_backbone()
    model = DebiasingModel(action_model, objective)
    step = TrainingStep(
        model,
        optimization,
        arithmetic,
        ALONE,
        augmentation=augmentation,
        composition=composition,
        outlives_nonfinite=outlives_nonfinite,
    )
    step.begin_epoch(0)
    return step


def take(step: TrainingStep, batch: ClipBatch, number: int = 0) -> StepOutcome:
    return step(batch, replace(SETTING, step=number))


def state_of(step: TrainingStep) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in step.model.state_dict().items()}


def losses_of(outcome: StepOutcome) -> dict[str, float]:
    return {name: float(value) for name, value in outcome.sums.items()}


def norms_of(outcome: StepOutcome) -> dict[str, float]:
    return {name: float(norm) for name, norm in outcome.gradient_norms.items()}


class Passes:
    """What the model of ``step`` is told in each pass, and a random number that it could have drawn."""

    def __init__(self, step: TrainingStep, monkeypatch: pytest.MonkeyPatch) -> None:
        self.phases: list[Phase] = []
        self.told: list[dict[str, Any]] = []
        self.drawn: list[float] = []
        forward = step.model.forward

        def noted_forward(phase: Phase, **told: Any) -> Losses:
            self.phases.append(phase)
            self.told.append(told)
            with torch.random.fork_rng():
                self.drawn.append(float(torch.rand((), dtype=torch.float64)))
            return forward(phase, **told)

        monkeypatch.setattr(step.model, "forward", noted_forward)


@pytest.mark.parametrize("min_person_share", [0.0, 0.8])
def test_the_model_is_told_which_masks_are_effective_and_how_many(
    batch: ClipBatch, min_person_share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one clip there are no masks: it is never effective, however little is asked for."""
    step = make_step(replace(DEBIAS, min_person_share=min_person_share))
    passes = Passes(step, monkeypatch)
    outcome = take(step, batch)
    assert batch.mask_BTHW is not None
    shown_B = [sum(bool(mask_HW.any()) for mask_HW in mask_THW) / len(mask_THW) for mask_THW in batch.mask_BTHW]
    wanted = [bool(has) and share >= min_person_share for has, share in zip(batch.has_mask_B, shown_B, strict=True)]
    assert 0 < sum(wanted) < len(wanted)
    masked = passes.told[passes.phases.index("masked")]
    assert masked["effective_B"].tolist() == wanted
    assert masked["effective_count"] == outcome.effective_count == sum(wanted)
    assert masked["clip_count"] == len(wanted)


def test_the_masked_clips_and_the_ramp_are_those_of_the_setting(
    batch: ClipBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = make_step(replace(DEBIAS, fill="random"))
    passes = Passes(step, monkeypatch)
    assert batch.mask_BTHW is not None
    for seed, epoch in ((0, 0), (0, 3), (5, 0)):
        step(batch, replace(SETTING, seed=seed, epoch=epoch, ramp=0.25))
        wanted_BTHWC = mask_out_humans(
            batch.clip_BTHWC, batch.mask_BTHW, "random", sample_B=batch.sample_B, seed=seed, epoch=epoch
        )
        assert passes.phases[-1] == "masked"
        assert torch.equal(passes.told[-1]["masked_BTHWC"], wanted_BTHWC)
        assert passes.told[-1]["ramp"] == 0.25


@pytest.mark.parametrize("mask_cover", ["pixels", "boxes"])
def test_people_are_covered_with_the_mean_of_the_whole_frame(
    batch: ClipBatch, mask_cover: Cover, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = make_step(replace(DEBIAS, fill="whole_frame_mean", mask_cover=mask_cover))
    passes = Passes(step, monkeypatch)
    assert batch.mask_BTHW is not None
    mean_BTC = torch.arange(batch.mask_BTHW[:, :, 0, 0].numel() * 3, dtype=torch.uint8).view(
        *batch.mask_BTHW.shape[:2], 3
    )
    take(step, replace(batch, frame_mean_BTC=mean_BTC))
    masked_BTHWC = passes.told[passes.phases.index("masked")]["masked_BTHWC"]
    covered_BTHW = batch.mask_BTHW if mask_cover == "pixels" else boxes_around(batch.mask_BTHW)
    assert covered_BTHW.any()
    wanted_BTHWC = torch.where(covered_BTHW[..., None], mean_BTC[:, :, None, None], batch.clip_BTHWC)
    assert torch.equal(masked_BTHWC, wanted_BTHWC)


COMPOSING = ComposeConfig(compose=("background_swap", "mixup"), compose_probability=(0.5, 0.5))


def test_clips_are_composed_before_anything_is_made_of_them(batch: ClipBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks and scenes are those of what is shown; clips that show another action too are not compared."""
    step = make_step(replace(IN_ONE_BATCH, consistency=0.5), composition=COMPOSING)
    passes = Passes(step, monkeypatch)
    step(batch, replace(SETTING, epoch=3, seed=1))
    composed = compose(batch, COMPOSING, action_count=3, seed=1, epoch=3)
    assert composed.mask_BTHW is not None
    masked_BTHWC = mask_out_humans(
        composed.clip_BTHWC, composed.mask_BTHW, "frame_mean", sample_B=batch.sample_B, seed=1, epoch=3
    )
    (told,) = passes.told
    whole_B = composed.target_BA.max(dim=1).values == 1
    wanted = {
        "clip_BTHWC": composed.clip_BTHWC,
        "target_BA": composed.target_BA,
        "scene_BS": composed.scene_BS,
        "masked_BTHWC": masked_BTHWC,
        "original_BTHWC": batch.clip_BTHWC,
        "comparable_B": composed.composed_B & whole_B,
    }
    assert all(torch.equal(told[name], value) for name, value in wanted.items())
    assert 0 < int(wanted["comparable_B"].sum()) < int(composed.composed_B.sum())


def test_clips_are_augmented_before_they_are_composed_in_steps_and_statistics_passes(
    batch: ClipBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the two by itself; what is compared with a composed clip is the augmented one."""
    changes = AugmentConfig(jitter_brightness=0.5, jitter_hue=0.2, erasing_probability=0.5)
    step = make_step(replace(IN_ONE_BATCH, consistency=0.5), augmentation=changes, composition=COMPOSING)
    passes = Passes(step, monkeypatch)
    step.statistics_pass(batch, epoch=3, seed=1)
    step(batch, replace(SETTING, epoch=3, seed=1))
    augmented = augment(batch, changes, seed=1, epoch=3)
    composed = compose(augmented, COMPOSING, action_count=3, seed=1, epoch=3)
    assert not torch.equal(augmented.clip_BTHWC, batch.clip_BTHWC)
    assert len(passes.told) == 2
    for told in passes.told:
        assert torch.equal(told["original_BTHWC"], augmented.clip_BTHWC)
        assert torch.equal(told["clip_BTHWC"], composed.clip_BTHWC)


def test_a_statistics_pass_shows_what_a_step_does_and_moves_no_weight(
    batch: ClipBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = make_step(IN_ONE_BATCH, composition=COMPOSING)
    before = {name: tensor.clone() for name, tensor in step.model.named_parameters()}
    passes = Passes(step, monkeypatch)
    step.statistics_pass(batch, epoch=2, seed=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in step.model.named_parameters())
    step(batch, replace(SETTING, epoch=2))
    shown, trained = passes.told
    assert passes.phases == ["one_batch", "one_batch"]
    for name in ("clip_BTHWC", "masked_BTHWC", "target_BA", "scene_BS"):
        assert torch.equal(shown[name], trained[name])


def test_stills_are_frames_of_the_composed_clips_in_steps_and_statistics_passes(
    batch: ClipBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = make_step(ALBAR, composition=COMPOSING)
    passes = Passes(step, monkeypatch)
    step.statistics_pass(batch, epoch=3, seed=1)
    step(batch, replace(SETTING, epoch=3, seed=1))
    composed = compose(batch, COMPOSING, action_count=3, seed=1, epoch=3)
    assert passes.phases == ["clean", "clean"]
    for told in passes.told:
        assert torch.equal(told["clip_BTHWC"], composed.clip_BTHWC)
        assert torch.equal(told["target_BA"], composed.target_BA)
        for frame in range(8):
            assert torch.equal(told["still_BTHWC"][:, frame], composed.clip_BTHWC[:, 4])


def test_random_numbers_follow_from_seed_epoch_step_and_rank(batch: ClipBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    step = make_step(ObjectiveConfig(name="baseline"))
    passes = Passes(step, monkeypatch)
    places = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    for seed, epoch, number, rank in 2 * places:
        monkeypatch.setattr(step, "_place", replace(ALONE, rank=rank))
        step(batch, replace(SETTING, seed=seed, epoch=epoch, step=number))
    assert passes.drawn[:5] == passes.drawn[5:]
    assert len(set(passes.drawn)) == 5


@pytest.mark.parametrize("moving", ["backbone", "heads"])
def test_each_part_has_its_own_learning_rate(batch: ClipBatch, moving: str) -> None:
    step = make_step(optimization=OptimizationConfig(weight_decay=0.0))
    before = state_of(step)
    step(batch, replace(SETTING, learning_rates={"backbone": 0.0, "heads": 0.0, moving: 0.1}))
    after = state_of(step)
    moved = {name for name, _ in step.model.named_parameters() if not torch.equal(before[name], after[name])}
    assert moved == {
        name for name, _ in step.model.named_parameters() if ("backbone" in name) == (moving == "backbone")
    }


@pytest.mark.parametrize(
    "objective",
    [ObjectiveConfig(name="mask", mask_step="joint"), ObjectiveConfig(name="mask"), ALBAR],
    ids=lambda o: f"{o.name}-{o.mask_step}",
)
def test_parts_of_a_batch_add_up_to_the_whole_where_no_batch_statistics_are_in_the_way(
    batch: ClipBatch, objective: ObjectiveConfig
) -> None:
    """Five parts of twelve clips are of different sizes, and the effective masks are spread unevenly over them."""
    whole, parts = (make_step(objective, ArithmeticConfig(accumulate=n), frozen=True) for n in (1, 5))
    for number in range(3):
        first, second = take(whole, batch, number), take(parts, batch, number)
        assert losses_of(second) == pytest.approx(losses_of(first), rel=1e-5)
        assert norms_of(second) == pytest.approx(norms_of(first), rel=1e-4)
        torch.testing.assert_close(torch.cat(second.clip_losses), torch.cat(first.clip_losses))
    torch.testing.assert_close(state_of(parts), state_of(whole))


@every_way
def test_recomputed_activations_leave_weights_and_statistics_the_same_to_the_bit(
    batch: ClipBatch, objective: ObjectiveConfig
) -> None:
    plain, recomputed = make_step(objective), make_step(objective, ArithmeticConfig(recompute=True))
    for number in range(3):
        assert losses_of(take(plain, batch, number)) == losses_of(take(recomputed, batch, number))
    first, second = state_of(plain), state_of(recomputed)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_way
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_the_losses_of_single_precision_but_for_its_rounding(
    batch: ClipBatch, precision: str, objective: ObjectiveConfig
) -> None:
    single, half = make_step(objective), make_step(objective, ArithmeticConfig(precision=precision))
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
    assert norms_of(take(small, batch)) == pytest.approx(norms_of(take(large, batch)), rel=0.05)


def test_a_gradient_that_is_not_finite_moves_neither_weights_nor_statistics(
    batch: ClipBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the phases that follow it within the step either."""
    step = make_step(outlives_nonfinite=True)
    assert step.model.action_model.head[1].bias is not None
    take(step, batch)
    before = state_of(step)
    hook = step.model.action_model.head[1].bias.register_hook(lambda gradient: gradient * torch.inf)
    with monkeypatch.context() as patch:
        passes = Passes(step, patch)
        outcome = take(step, batch, 1)
    assert passes.phases == ["clean", "masked"], "the host does not know yet"
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

"""Clips without masks or scene labels: what a step makes of them, and reports."""

from dataclasses import replace

import pytest
import torch

from dali_pipelines import ClipBatch
from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.distributed.process_place import ProcessPlace
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.training.computing.arithmetic import ArithmeticConfig
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.queued_step import QueuedStep, StepReport
from scenebias.training.step import StepSetting, TrainingStep
from shards.format.sample import SCENE_COUNT

ALONE = ProcessPlace(rank=0, world_size=1, device=torch.device("cpu"))
CLIPS = 6
BARE = torch.tensor([False, True, False, False, True, False])
"""Which of the clips have neither mask nor scene label."""
NONE, ALL = torch.zeros(CLIPS, dtype=torch.bool), torch.ones(CLIPS, dtype=torch.bool)


def batch_without(bare_B: torch.Tensor) -> ClipBatch:
    random = torch.Generator().manual_seed(0)
    shape = (CLIPS, 4, 16, 16)
    has_mask_B = ~bare_B
    return ClipBatch(
        clip_BTHWC=torch.randint(256, (*shape, 3), dtype=torch.uint8, generator=random),
        mask_BTHW=(torch.rand(shape, generator=random) < 0.5) & has_mask_B[:, None, None, None],
        has_mask_B=has_mask_B,
        scene_BS=torch.rand(CLIPS, SCENE_COUNT, generator=random).softmax(dim=1) * has_mask_B[:, None],
        label_B=torch.randint(3, (CLIPS,), generator=random),
        sample_B=torch.arange(CLIPS),
        window_B=torch.zeros(CLIPS, dtype=torch.int64),
    )


def step_of(name: str) -> TrainingStep:
    torch.manual_seed(0)
    model = DebiasingModel(ActionModel(ModelConfig("small3d"), 3), ObjectiveConfig(name=name))
    optimization = OptimizationConfig(weight_decay=0.0, momentum=0.0)
    step = TrainingStep(model, optimization, ArithmeticConfig(), ALONE, outlives_nonfinite=False)
    step.begin_epoch(0)
    return step


def report_of(step: TrainingStep, batch: ClipBatch) -> StepReport:
    setting = StepSetting(
        epoch=0, step=0, clip_count=CLIPS, learning_rates={"backbone": 0.1, "heads": 0.1}, ramp=1.0, seed=0
    )
    ready = step.make_ready(batch, epoch=0, seed=0)
    outcome = step(ready, setting)
    return QueuedStep.of(setting, ready, outcome, ALONE, loss_scale=torch.ones(()), asked_to_end=False).report()


def weights_after(name: str, batch: ClipBatch) -> dict[str, torch.Tensor]:
    step = step_of(name)
    report_of(step, batch)
    return {key: value for key, value in step.model.state_dict().items() if "running" not in key}


def test_scene_losses_and_confusion_are_reported_over_the_clips_that_have_labels_and_masks() -> None:
    batch = batch_without(BARE)
    step = step_of("debias")
    inputs = step.make_ready(batch, epoch=0, seed=0).inputs
    with torch.no_grad():
        losses = step.model("one_batch", **inputs, clip_count=CLIPS, effective_count=4)
    report = report_of(step, batch)
    assert report.is_sound
    assert report.numbers["effective_share"] == pytest.approx(4 / CLIPS)
    assert report.numbers["scene_loss"] == pytest.approx(float(losses.sums["scene_loss"]) / 4, rel=1e-5)
    assert report.numbers["masked_entropy"] == pytest.approx(float(losses.sums["masked_entropy"]) / 4, rel=1e-5)
    assert "scene_clips" not in report.numbers


def test_what_a_clip_without_a_label_is_taken_for_moves_no_weight() -> None:
    """Its mask, which is none, and the pixels of its masked version do not either."""
    batch = batch_without(BARE)
    covered = replace(batch, mask_BTHW=batch.mask_BTHW | BARE[:, None, None, None])
    for name, value in weights_after("mask", batch).items():
        assert torch.equal(value, weights_after("mask", covered)[name]), name


@pytest.mark.parametrize("name", ["scene", "mask", "debias"])
def test_a_step_of_clips_without_any_trains_the_action_alone(name: str) -> None:
    bare = batch_without(ALL)
    expected = weights_after("baseline", bare)
    found = weights_after(name, bare)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6, msg=key)
    numbers = report_of(step_of(name), bare).numbers
    assert not {"scene_loss", "scene_correct", "masked_entropy"} & numbers.keys()


def test_with_all_labels_the_means_are_those_over_all_clips() -> None:
    batch = batch_without(NONE)
    step = step_of("scene")
    with torch.no_grad():
        losses = step.model("clean", **step.make_ready(batch, epoch=0, seed=0).inputs, clip_count=CLIPS)
    assert report_of(step, batch).numbers["scene_loss"] == pytest.approx(float(losses.sums["scene_loss"]) / CLIPS)

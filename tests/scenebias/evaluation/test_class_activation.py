"""Class-activation maps: their mean is the logit, they find what the head looks for, and they fit the clip.

Shape suffixes: B clips, C channels, T frames, H rows, W columns; t, h, w: of the feature map.
"""

import re
from pathlib import Path

import pytest
import torch

from dali_pipelines import ClipConfig, EvalLoader
from scenebias.evaluation.class_activation import action_evidence, class_activation, has_activation_map
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BackboneName
from scenebias.study.report.pictures import activation_examples
from shards.dataset import ShardDataset
from tests.scenebias.networks import NETWORKS, tiny_mvit


def random_clips(clips: int, *, frames: int = 8, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (clips, frames, size, size, 3), dtype=torch.uint8, generator=generator)


def new_model(backbone: BackboneName, actions: int) -> ActionModel:
    torch.manual_seed(0)
    return ActionModel(ModelConfig(backbone=backbone), actions)


@pytest.mark.parametrize("backbone", NETWORKS)
def test_the_mean_of_the_evidence_is_the_logit_less_the_bias(backbone: BackboneName) -> None:
    model, clip_BTHWC, action_B = new_model(backbone, 3), random_clips(2), torch.tensor([2, 0])
    with torch.inference_mode():
        logit_B = model.eval()(clip_BTHWC)[torch.arange(2), action_B]
    mean_B = action_evidence(model, clip_BTHWC, action_B).mean(dim=(1, 2, 3))
    torch.testing.assert_close(mean_B, logit_B - model.head[1].bias[action_B].detach(), rtol=1e-4, atol=1e-4)


def test_the_map_has_the_size_of_the_clip_and_runs_from_0_to_1() -> None:
    clip_BTHWC = random_clips(2, frames=10, size=40)
    map_BTHW = class_activation(new_model("small3d", 3), clip_BTHWC, torch.tensor([0, 1]))
    assert map_BTHW.shape == (2, 10, 40, 40)
    assert map_BTHW.min() >= 0
    assert map_BTHW.max() <= 1
    # Enlarging blends neighbours, but the corners of the coarse map are kept by the clip's edges.
    assert (map_BTHW.amax(dim=(1, 2, 3)) > 0.7).all()
    assert (map_BTHW.amin(dim=(1, 2, 3)) < 0.3).all()


def test_a_network_that_ends_in_a_token_has_no_map() -> None:
    model = new_model("small3d", 2)
    assert has_activation_map(model)
    model.backbone = tiny_mvit()
    assert not has_activation_map(model)


def test_a_constant_map_says_nothing() -> None:
    model = new_model("small3d", 2)
    torch.nn.init.zeros_(model.head[1].weight)
    assert not class_activation(model, random_clips(1), torch.tensor([1])).any()


class BrightPatches(torch.nn.Module):
    """A backbone whose first feature is brightness, at an eighth of the resolution."""

    feature_count = 1

    def __init__(self) -> None:
        super().__init__()
        self.coarse = torch.nn.AvgPool3d((1, 8, 8))
        self.mean = torch.nn.AdaptiveAvgPool3d(1)

    def forward(self, clip_BCTHW: torch.Tensor) -> torch.Tensor:
        return self.mean(self.coarse(clip_BCTHW.mean(dim=1, keepdim=True))).flatten(1)


def test_a_model_of_brightness_looks_at_the_bright_corner_in_its_frame() -> None:
    model = ActionModel(ModelConfig(backbone="small3d"), 2)
    model.backbone = BrightPatches()
    model.head[1] = torch.nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.head[1].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    clip_BTHWC = torch.zeros(2, 4, 32, 32, 3, dtype=torch.uint8)
    clip_BTHWC[:, 2, :8, 24:] = 255
    for_bright, for_dark = class_activation(model, clip_BTHWC, torch.tensor([0, 1]))
    assert for_bright[2, 2, 30] == pytest.approx(1)
    assert for_bright[0].max() == 0
    assert for_dark[2, 2, 30] == pytest.approx(0, abs=1e-6)
    assert for_dark[0].min() == pytest.approx(1)


def test_the_model_is_left_as_it_was() -> None:
    model = new_model("small3d", 2).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    class_activation(model, random_clips(2), torch.tensor([0, 1]))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_examples_show_each_clip_with_and_without_its_people_and_under_every_model_s_map(tiny_dataset: Path) -> None:
    clip = ClipConfig(frames=8, size=32)
    batch = next(iter(EvalLoader(ShardDataset.open(tiny_dataset), clip, batch_size=2)))
    models = {"baseline": new_model("small3d", 3), "debiased": new_model("small3d", 3)}
    html = activation_examples(models, batch, ("clap", "jump", "wave"))
    assert html.count("<img") == 2 * 2 * (1 + 2)
    captions = re.findall("<figcaption>(.*?)</figcaption>", html)
    name = ("clap", "jump", "wave")[batch.label_B[0]]
    assert captions[:2] == [f"{name}: the clip", f"{name}: its humans hidden"]
    with torch.inference_mode():
        probability = models["baseline"].eval()(batch.clip_BTHWC[:1]).softmax(dim=1)[0, batch.label_B[0]]
    assert captions[2] == f"baseline: {name} {100 * probability:.0f} %"

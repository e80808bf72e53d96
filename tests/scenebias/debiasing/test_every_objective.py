"""Every objective on every network: one step, from a batch of small clips to other weights."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from torch import nn

from dali_pipelines import ClipBatch, ClipConfig
from scenebias.compose.config import AS_THEY_ARE, ComposeConfig
from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.distributed.process_place import ProcessPlace
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BackboneName
from scenebias.models.heads import ActionHead
from scenebias.models.own_network import OwnBackbone
from scenebias.training.computing.arithmetic import ArithmeticConfig
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.step import StepSetting, TrainingStep
from shards.format.sample import SCENE_COUNT
from tests.scenebias.networks import NETWORKS, small_clip_shape, tiny_mvit

CLIPS, ACTIONS = 4, 5
OBJECTIVES = {
    "baseline": ObjectiveConfig(name="baseline"),
    "scene": ObjectiveConfig(name="scene"),
    "mask": ObjectiveConfig(name="mask"),
    "debias": ObjectiveConfig(name="debias"),
    "debias in two passes": ObjectiveConfig(name="debias", mask_step="alternate"),
    "albar": ObjectiveConfig(name="albar"),
}
COMPOSING = ComposeConfig(compose=("background_swap", "mixup"))
TINY_MVIT = "mvit"
OF_OTHER_TOKENS = {
    f"action_model.backbone.trunk.blocks.1.attn.{name}"
    for name in ("rel_pos_h", "rel_pos_w", "rel_pos_t", "pool_q.pool.weight")
}
"""Of the last block, of which one token is read, to which these do nothing."""
OWN = "own"
CASES = [(name, network, AS_THEY_ARE) for network in (*NETWORKS, TINY_MVIT, OWN) for name in OBJECTIVES]
CASES += [(name, "small3d", COMPOSING) for name in OBJECTIVES]


def make_batch(network: BackboneName) -> ClipBatch:
    """Clips that are small, but for a transformer, whose last map must have more than one place to compare."""
    generator = torch.Generator().manual_seed(0)
    small = (2, 8, 8) if network not in ("s3d", TINY_MVIT, OWN) else small_clip_shape(network)
    shape = (CLIPS, 4, 64, 64) if network.startswith("swin") else (CLIPS, *small)
    return ClipBatch(
        clip_BTHWC=torch.randint(256, (*shape, 3), dtype=torch.uint8, generator=generator),
        mask_BTHW=torch.rand(shape, generator=generator) < 0.3,
        has_mask_B=torch.tensor([True, True, False, True]),
        scene_BS=torch.randn(CLIPS, SCENE_COUNT, generator=generator).softmax(dim=1),
        label_B=torch.tensor([0, 4, 2, 1]),
        sample_B=torch.arange(CLIPS),
        window_B=torch.zeros(CLIPS, dtype=torch.int64),
    )


class Tokens(nn.Module):
    """A transformer of a user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv3d(3, 8, kernel_size=(2, 8, 8), stride=(2, 8, 8))
        self.mixer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)

    def forward(self, clip_BCTHW: torch.Tensor) -> torch.Tensor:
        """The mean of its tokens."""
        return self.mixer(self.patches(clip_BCTHW).flatten(2).transpose(1, 2)).mean(dim=1)


@cache
def action_model(network: BackboneName) -> ActionModel:
    torch.manual_seed(0)
    if network not in (TINY_MVIT, OWN):
        return ActionModel(ModelConfig(backbone=network), ACTIONS)
    model = ActionModel(ModelConfig(backbone="small3d"), ACTIONS)
    model.backbone = tiny_mvit() if network == TINY_MVIT else OwnBackbone(Tokens(), ClipConfig(frames=4, size=16), OWN)
    model.head = ActionHead(model.feature_count, ACTIONS)
    return model


@pytest.mark.parametrize(
    ("name", "network", "composition"),
    CASES,
    ids=["-".join((name, network, *composition.compose)) for name, network, composition in CASES],
)
def test_a_step_has_finite_losses_and_moves_all_weights(
    name: str, network: BackboneName, composition: ComposeConfig
) -> None:
    model = DebiasingModel(deepcopy(action_model(network)), OBJECTIVES[name])
    place = ProcessPlace(rank=0, world_size=1, device=torch.device("cpu"))
    step = TrainingStep(
        model,
        OptimizationConfig(weight_decay=0.0),
        ArithmeticConfig(),
        place,
        composition=composition,
        outlives_nonfinite=False,
    )
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step.begin_epoch(0)
    setting = StepSetting(
        epoch=0, step=0, clip_count=CLIPS, learning_rates={"backbone": 1e-3, "heads": 1e-3}, ramp=1.0, seed=0
    )
    outcome = step(make_batch(network), setting)
    assert outcome.updated
    assert all(value.isfinite() for value in outcome.sums.values())
    assert all(losses_B.isfinite().all() for losses_B in outcome.clip_losses)
    unmoved = {name for name, parameter in model.named_parameters() if torch.equal(before[name], parameter)}
    assert unmoved == (OF_OTHER_TOKENS if network == TINY_MVIT else set())

"""A model under the statistics of clean clips: which ones they are, and what is said of those that change with them."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from dali_pipelines import ClipConfig, TrainLoader
from scenebias.bias.clean_statistics import TwofoldBias, with_clean_statistics
from scenebias.bias.model_bias import MEASURES, ModelBias
from scenebias.distributed.process_place import ProcessPlace
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import Backbone
from shards.dataset import ShardDataset

ALONE = ProcessPlace(rank=0, world_size=1, device=torch.device("cpu"))
CLIP = ClipConfig(frames=8, size=32)


def make_model() -> ActionModel:
    torch.manual_seed(0)
    return ActionModel(ModelConfig("small3d"), 3).eval()


def test_they_are_those_of_clean_training_clips_and_the_model_itself_stays_as_it_is(tiny_dataset: Path) -> None:
    """Of the first layer, by hand; whatever statistics the model carries."""
    model, train = make_model(), ShardDataset.open(tiny_dataset)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.uniform_(1, 2)
    before = deepcopy(model.state_dict())
    clean = with_clean_statistics(model, CLIP, train, ALONE, threads=1)
    assert clean is not None
    assert not clean.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())

    loader = TrainLoader(train, CLIP, global_batch_size=len(train), rank=0, world_size=1)
    (batch,) = loader.epoch(0)
    convolution = model.backbone.trunk[0][0]
    value_CX = convolution(model.normalise(batch.clip_BTHWC)).transpose(0, 1).flatten(1).double().detach()
    norm = clean.backbone.trunk[0][1]
    torch.testing.assert_close(norm.running_mean.double(), value_CX.mean(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var.double(), value_CX.var(dim=1), rtol=1e-4, atol=1e-5)
    for name, parameter in clean.named_parameters():
        assert torch.equal(parameter, before[name])


def test_a_network_without_batch_norm_has_one_kind(tiny_dataset: Path) -> None:
    model = make_model()
    model.backbone = Backbone(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8 * 32 * 32 * 3, 4)), 4)
    assert with_clean_statistics(model, CLIP, ShardDataset.open(tiny_dataset), ALONE, threads=1) is None


@pytest.fixture
def bias() -> Callable[..., ModelBias]:
    def make(**values: float) -> ModelBias:
        return ModelBias(dict.fromkeys(MEASURES, 0.5) | values, {}, {})

    return make


def test_a_share_that_moves_by_more_than_a_point_is_told_with_its_amount(bias: Callable[..., ModelBias]) -> None:
    moved = TwofoldBias(bias(), bias(swapped_top1=0.3, clean_top1=0.509, clean_entropy=2.0))
    assert moved.moved(MEASURES) == {"swapped_top1": pytest.approx(-0.2)}
    remark = moved.remark("debias", MEASURES)
    assert remark is not None
    assert remark.startswith("debias differs by more than 1 point")
    assert remark.endswith(f"{MEASURES['swapped_top1'].title} -20.0.")
    assert moved.cell("swapped_top1", MEASURES["swapped_top1"]) == "50.0 / 30.0 %"
    assert moved.cell("scufo_top1", MEASURES["scufo_top1"]) == "50.0 %"


def test_nothing_is_said_where_nothing_moves_or_is_known(bias: Callable[..., ModelBias]) -> None:
    same = TwofoldBias(bias(swapped_top1=np.nan), bias(swapped_top1=np.nan, clean_top1=0.495))
    assert same.remark("baseline", MEASURES) is None
    assert same.cell("swapped_top1", MEASURES["swapped_top1"]) == "–"
    alone = TwofoldBias(bias(), None)
    assert alone.moved(MEASURES) == {}
    assert "no BatchNorm" in str(alone.remark("swin", MEASURES))

"""Accuracies against independent counts, and every clip exactly once.

Shape suffixes: B windows, T frames, H rows, W columns, N clips, A actions.
"""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from dali_pipelines.loader import EvalLoader
from dali_pipelines.windows import ClipConfig
from scenebias.clips.views import hide_humans
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import (
    Evaluation,
    evaluate_model,
    evaluating,
    evaluation_loader_for,
    extract_features,
    mean_over_windows,
)
from scenebias.models.action_model import ActionModel, ModelConfig
from shards.dataset import ShardDataset

PLACE = ProcessPlace(0, 1, torch.device("cpu"))
CLIP = ClipConfig(size=32)


def mean_colour(clip_BTHWC: torch.Tensor) -> torch.Tensor:
    return clip_BTHWC.float().mean(dim=(1, 2, 3))


@given(st.integers(1, 30), st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_the_numbers_equal_counts_made_one_clip_at_a_time(clips: int, actions: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    probability_NA = random.dirichlet(np.ones(actions), clips)
    label_N = random.integers(0, actions, clips)
    evaluation = Evaluation(probability_NA, label_N)
    order = [sorted(range(actions), key=lambda a: -row[a]) for row in probability_NA]
    assert evaluation.top1 == pytest.approx(np.mean([o[0] == y for o, y in zip(order, label_N, strict=True)]))
    assert evaluation.top5 == pytest.approx(np.mean([y in o[:5] for o, y in zip(order, label_N, strict=True)]))
    by_class = [np.mean([o[0] == y for o, y in zip(order, label_N, strict=True) if y == a]) for a in set(label_N)]
    assert evaluation.mean_class_accuracy == pytest.approx(np.mean(by_class))
    assert evaluation.confusion_AA.sum() == clips
    assert evaluation.confusion_AA.trace() == round(evaluation.top1 * clips)
    assert 0 <= evaluation.entropy <= np.log(actions) + 1e-9


@given(st.integers(1, 30), st.integers(2, 8), st.floats(0, 15), st.integers(0, 2**32 - 1))
def test_loss_and_entropy_are_those_of_torch_and_scipy_however_sure_the_model_is(
    clips: int, actions: int, confidence: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    logit_NA = torch.from_numpy(random.uniform(-confidence, confidence, (clips, actions)) / 2)
    label_N = random.integers(0, actions, clips)
    evaluation = Evaluation(logit_NA.softmax(dim=1).numpy(), label_N)
    loss = torch.nn.functional.cross_entropy(logit_NA, torch.from_numpy(label_N)).item()
    assert evaluation.action_loss == pytest.approx(loss, rel=1e-9, abs=1e-12)
    entropy = scipy.stats.entropy(evaluation.probability_NA, axis=1).mean()
    assert evaluation.entropy == pytest.approx(entropy, rel=1e-9, abs=1e-12)


def test_of_equally_probable_classes_the_first_are_predicted() -> None:
    random = np.random.default_rng(0)
    label_N = np.arange(400)
    probability_NA = random.choice([0.001, 0.002], (400, 400), p=[0.98, 0.02])
    evaluation = Evaluation(probability_NA, label_N)
    order = [sorted(range(400), key=lambda a: -row[a]) for row in probability_NA]
    assert evaluation.prediction_N.tolist() == [o[0] for o in order]
    assert evaluation.top5 == np.mean([y in o[:5] for o, y in zip(order, label_N, strict=True)])
    for labels in zip(*(o[:5] for o in order), strict=True):
        assert Evaluation(probability_NA, np.array(labels)).top5 == 1


@pytest.mark.parametrize(("batch_size", "world_size", "of_a_rank"), [(7, 1, 7), (7, 3, 2), (2, 3, 1)])
def test_the_batch_size_counts_the_windows_of_all_ranks(
    tiny_dataset: Path, batch_size: int, world_size: int, of_a_rank: int
) -> None:
    dataset = ShardDataset.open(tiny_dataset)
    place = ProcessPlace(world_size - 1, world_size, torch.device("cpu"))
    loader = evaluation_loader_for(dataset, CLIP, place, batch_size=batch_size, threads=1)
    sizes = [len(batch.sample_B) for batch in loader]
    assert sizes[:-1] == [of_a_rank] * (len(sizes) - 1)
    assert max(sizes) == of_a_rank


def test_windows_are_averaged_clip_by_clip_whatever_the_batch_size(tiny_dataset: Path) -> None:
    dataset = ShardDataset.open(tiny_dataset)
    by_batch_size = [
        mean_over_windows(mean_colour, EvalLoader(dataset, CLIP, batch_size=size), len(dataset), 3, PLACE)
        for size in (1, 5, 64)
    ]
    assert not np.isnan(by_batch_size[0]).any()
    np.testing.assert_allclose(by_batch_size[0], by_batch_size[1], rtol=1e-6)
    np.testing.assert_allclose(by_batch_size[0], by_batch_size[2], rtol=1e-6)


def test_the_shares_of_several_ranks_hold_every_window_once(tiny_dataset: Path) -> None:
    dataset = ShardDataset.open(tiny_dataset)
    seen = [
        (int(sample), int(window))
        for rank in range(3)
        for batch in EvalLoader(dataset, CLIP, batch_size=4, rank=rank, world_size=3)
        for sample, window in zip(batch.sample_B, batch.window_B, strict=True)
    ]
    wanted = {(i, w) for i, n in enumerate(dataset.frame_counts) for w in range(max(1, n // CLIP.frames))}
    assert len(seen) == len(set(seen))
    assert set(seen) == wanted


def test_evaluation_equals_a_plain_loop_and_leaves_the_model_s_mode(tiny_dataset: Path) -> None:
    torch.manual_seed(0)
    dataset = ShardDataset.open(tiny_dataset)
    model = ActionModel(ModelConfig(backbone="small3d"), 3).train()
    evaluation = evaluate_model(model, EvalLoader(dataset, CLIP, batch_size=5), 3, PLACE)
    assert model.training
    softmax: dict[int, list[torch.Tensor]] = {}
    with evaluating(model), torch.no_grad():
        for batch in EvalLoader(dataset, CLIP, batch_size=1):
            softmax.setdefault(int(batch.sample_B), []).append(model(batch.clip_BTHWC)[0].softmax(dim=0))
    wanted_NA = torch.stack([torch.stack(softmax[i]).mean(dim=0) for i in range(len(dataset))]).numpy()
    np.testing.assert_allclose(evaluation.probability_NA, wanted_NA, atol=1e-5)
    assert evaluation.label_N.tolist() == list(dataset.labels)


def test_features_have_one_row_per_clip(tiny_dataset: Path) -> None:
    dataset = ShardDataset.open(tiny_dataset)
    model = ActionModel(ModelConfig(backbone="small3d"), 3)
    feature_ND = extract_features(model, EvalLoader(dataset, CLIP, batch_size=8), PLACE)
    assert feature_ND.shape == (len(dataset), model.feature_count)


def test_hidden_humans_change_masked_pixels_alone(tiny_dataset: Path) -> None:
    dataset = ShardDataset.open(tiny_dataset)
    batch = next(iter(EvalLoader(dataset, CLIP, batch_size=8)))
    hidden_BTHWC = hide_humans(batch, fill="white")
    assert batch.mask_BTHW is not None
    assert batch.mask_BTHW.any()
    assert (hidden_BTHWC[batch.mask_BTHW] == 255).all()
    assert torch.equal(hidden_BTHWC[~batch.mask_BTHW], batch.clip_BTHWC[~batch.mask_BTHW])

"""Accuracies against independent counts, and every clip exactly once.

Shape suffixes: B windows, T frames, H rows, W columns, N clips, A actions.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dali_pipelines.loader import EvalLoader
from dali_pipelines.windows import ClipConfig
from scenebias.clips.views import hide_humans
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import Evaluation, evaluate_model, evaluating, extract_features, mean_over_windows
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

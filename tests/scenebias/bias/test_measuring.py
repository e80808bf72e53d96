"""Measures of models of which it is known what they look at, on clips of which all is known.

Shape suffixes: B clips, T frames, H rows, W columns, C channels, A actions, N clips of a data set.
"""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dali_pipelines import ClipConfig
from scenebias.bias.benchmarks import scuba_views
from scenebias.bias.measuring import BiasTest
from scenebias.bias.model_bias import MEASURES, Measure, ModelBias
from scenebias.bias.outline_control import find_outlined_windows
from scenebias.clips.human_placing import place_humans
from scenebias.clips.still_pictures import STRIPES
from scenebias.clips.views import COVERS, HIDDEN_FILLS, as_it_is, hidden_name, hidden_views
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import Evaluation
from scenebias.evaluation.masked_windows import MaskedWindows
from shards.dataset import ShardDataset

PLACE = ProcessPlace(0, 1, torch.device("cpu"))
CLIP = ClipConfig(size=48)
LEVELS = torch.tensor([40.0, 120.0, 220.0])
"""Of the scenes that go with the actions, as in conftest.py."""
HIDDEN = [hidden_name(cover, fill) for cover in COVERS for fill in HIDDEN_FILLS]


class LooksAt(nn.Module):
    """A model that says the action of what it looks at: the scene, the human, or a human that moves."""

    action_count = feature_count = 3

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def features(self, clip_BTHWC: Tensor) -> Tensor:
        """One-hot, what is seen."""
        clip_BTHWC = clip_BTHWC.float()
        if self.what == "scene":
            level_B = clip_BTHWC[:, :, :3, :3].mean(dim=(1, 2, 3, 4))
            seen_B = (level_B[:, None] - LEVELS).abs().argmin(dim=1)
        else:
            excess_BTHWC = clip_BTHWC - clip_BTHWC.amin(dim=4, keepdim=True)
            seen_B = 2 - (excess_BTHWC > 150).sum(dim=(1, 2, 3)).argmax(dim=1)
            if self.what == "moving human":
                moves_B = (clip_BTHWC - clip_BTHWC[:, :1]).abs().amax(dim=(1, 2, 3, 4)) > 50
                seen_B = torch.where(moves_B, seen_B, (seen_B + 1) % 3)
        return nn.functional.one_hot(seen_B, 3).float()

    def forward(self, clip_BTHWC: Tensor) -> Tensor:
        return 20 * self.features(clip_BTHWC)


def measured(what: str, train: Path, val: Path, scuba: str = STRIPES) -> ModelBias:
    datasets = ShardDataset.open(train), ShardDataset.open(val)
    test = BiasTest.prepare(CLIP, *datasets, PLACE, batch_size=4, threads=1, scuba=scuba)
    return test.measure(LooksAt(what))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def by_scene(plain_train: Path, plain_test: Path) -> ModelBias:
    return measured("scene", plain_train, plain_test)


@pytest.fixture(scope="module")
def by_human(plain_train: Path, plain_test: Path) -> ModelBias:
    return measured("human", plain_train, plain_test)


@pytest.fixture(scope="module")
def by_moving_human(plain_train: Path, plain_test: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelBias:
    """With SCUBA's people before a dark wall, as stripes have colours of their own."""
    folder = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (64, 48), (60, 60, 60)).save(folder / "wall.png")
    return measured("moving human", plain_train, plain_test, str(folder))


def test_who_looks_at_the_scene_is_right_on_usual_scenes_and_led_by_swapped_ones(by_scene: ModelBias) -> None:
    values = by_scene.values
    assert values["clean_top1"] == pytest.approx(5 / 7)
    assert values["swapped_top1"] == values["still_top1"] == values["contrasted_accuracy"] == 0
    assert values["swap_to_scene_rate"] == 1
    for name in HIDDEN:
        assert values[f"{name}_top1"] == pytest.approx(5 / 7)
        assert values[f"{name}_entropy"] < 1e-6
    assert values["conflicting_top1"] == 0
    assert values["worst_group_top1"] == values["hat_bor"] == 1
    assert values["ece"] == pytest.approx(2 / 7)
    assert values["scuba_contrasted_accuracy"] == values["hat_shacc"] == 0
    assert values["hat_sberr"] == values["background_error"]
    assert values["scene_probe"] == values["scene_probe_mlp"] == 1
    assert values["scene_probe_chance"] == pytest.approx(1 / 3)


def test_the_background_s_error_is_of_its_clip_and_not_of_its_scene(
    by_scene: ModelBias, plain_train: Path, plain_test: Path
) -> None:
    test = BiasTest.prepare(CLIP, ShardDataset.open(plain_train), ShardDataset.open(plain_test), PLACE)
    own_scene_N = test.scene_actions(test.val) == test.val.labels
    assert own_scene_N.mean() == pytest.approx(5 / 7)
    assert by_scene.values["background_error"] == pytest.approx(own_scene_N[test.swaps.background_M].mean())


def test_who_looks_at_the_human_is_right_wherever_it_is_seen(by_human: ModelBias) -> None:
    values = by_human.values
    for name in ("clean_top1", "human_only_top1", "swapped_top1", "still_top1"):
        assert values[name] == 1
    for name in ("conflicting_top1", "worst_group_top1", "hat_hor", "hat_shacc"):
        assert values[name] == 1
    assert values["hat_sberr"] == 0
    assert values["ece"] < 1e-6
    assert values["hat_bor"] == pytest.approx(1 / 3)
    assert values["swap_to_scene_rate"] == values["background_error"] == values["contrasted_accuracy"] == 0
    for name in HIDDEN:
        if "noise" not in name:
            assert values[f"{name}_top1"] == pytest.approx(1 / 3)  # it then says the same of all clips
    assert values["scene_probe"] <= 0.5


def test_who_needs_the_motion_has_all_the_contrasted_accuracy(by_moving_human: ModelBias) -> None:
    values = by_moving_human.values
    assert values["swapped_top1"] == values["contrasted_accuracy"] == 1
    assert values["still_top1"] == 0
    assert values["scuba_top1"] == values["scuba_contrasted_accuracy"] == 1
    assert values["scufo_top1"] == 0


def test_every_measure_is_there_in_order_with_its_evaluations(by_human: ModelBias) -> None:
    assert list(by_human.values) == list(MEASURES)
    assert not by_human.reasons
    assert all(type(value) in (int, float) for value in by_human.values.values())
    views = {"clean", "human_only", "swapped", "still", "scuba", "scufo", "conflfg", "hat_swapped", *HIDDEN}
    assert set(by_human.evaluations) == views
    for name, evaluation in by_human.evaluations.items():
        assert isinstance(evaluation, Evaluation)
        assert by_human.values["hat_shacc" if name == "hat_swapped" else f"{name}_top1"] == evaluation.top1
        assert not np.isnan(evaluation.probability_NA).any()
    for name in ("clips", "masked_clips", "swapped_clips", "hat_pairs"):
        assert by_human.values[name] == 21
    assert by_human.values["conflicting_clips"] == 6
    assert by_human.values["worst_group_clips"] == 5
    assert 0 < by_human.values["conflfg_error"] <= 1 - by_human.values["conflfg_top1"]
    assert by_human.values["outline_top1"] <= 0.7  # all humans walk alike


@dataclass(frozen=True)
class ThreadPlace(ProcessPlace):
    """A rank that is a thread of this process."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))
    tensors: dict[int, Tensor] = field(default_factory=dict)

    def sum_over_ranks(self, tensor: Tensor) -> Tensor:
        self.tensors[self.rank] = tensor.clone()
        self.barrier.wait(timeout=60)
        tensor.copy_(torch.stack([self.tensors[rank] for rank in range(self.world_size)]).sum(dim=0))
        self.barrier.wait(timeout=60)
        return tensor


def test_two_ranks_find_and_predict_together_what_one_does_alone(plain_train: Path, plain_test: Path) -> None:
    train, val = ShardDataset.open(plain_train), ShardDataset.open(plain_test)
    alone = BiasTest.prepare(CLIP, train, val, PLACE, batch_size=4, threads=1)
    views, sample_M = {"swapped": as_it_is, "white": hidden_views()["hidden_boxes_white"]}, alone.swaps.sample_M
    stills = scuba_views(alone.backdrop, alone.seed)
    barrier, tensors = threading.Barrier(2), {}

    def measure(test: BiasTest) -> tuple[MaskedWindows, dict[str, Evaluation]]:
        masked = find_outlined_windows(test.loader(val), test.place)
        model = LooksAt("human")
        evaluations = test.predict(model, test.swapped(alone.swaps, place_humans), sample_M, views)  # type: ignore[arg-type]
        masked_M = alone.masked.sample_M
        return masked, evaluations | test.predict(model, test.loader(val, masked.number_W), masked_M, stills)  # type: ignore[arg-type]

    def measure_as(rank: int) -> tuple[MaskedWindows, dict[str, Evaluation]]:
        place = ThreadPlace(rank, 2, torch.device("cpu"), barrier=barrier, tensors=tensors)
        return measure(replace(alone, place=place))

    wanted_masked, wanted = measure(alone)
    with ThreadPoolExecutor(2) as pool:
        for masked, evaluations in pool.map(measure_as, range(2)):
            assert np.array_equal(masked.number_W, wanted_masked.number_W)
            np.testing.assert_allclose(masked.value_WD, wanted_masked.value_WD, atol=1e-12)
            for name, evaluation in evaluations.items():
                np.testing.assert_allclose(evaluation.probability_NA, wanted[name].probability_NA, atol=1e-12)


def test_without_masks_what_needs_none_is_measured_and_the_rest_says_why(
    plain_train: Path, plain_test_without_masks: Path
) -> None:
    bias = measured("scene", plain_train, plain_test_without_masks)
    told = {"clean_top1", "clean_entropy", "ece", "scene_probe", "scene_probe_mlp", "scene_probe_chance"}
    told |= {"conflicting_top1", "worst_group_top1", "conflicting_clips", "worst_group_clips"}
    told |= {"clips", "masked_clips", "swapped_clips", "hat_pairs"}
    assert {name for name, value in bias.values.items() if not math.isnan(value)} == told
    assert set(bias.reasons) == set(MEASURES) - told
    assert set(bias.reasons.values()) == {"no validation clip has an effective human mask"}
    assert bias.values["masked_clips"] == bias.values["swapped_clips"] == 0
    assert set(bias.evaluations) == {"clean"}


def test_a_probe_of_too_few_clips_is_refused_with_the_reason(
    plain_train: Path, tiny_dataset: Path, tiny_test_dataset: Path
) -> None:
    bias = measured("scene", tiny_dataset, tiny_test_dataset)
    assert math.isnan(bias.values["scene_probe"])
    assert "fewer than 20 validation clips" in bias.reasons["scene_probe"]


def test_the_scene_s_action_is_the_one_that_usually_goes_with_it(plain_train: Path, plain_test: Path) -> None:
    train, val = ShardDataset.open(plain_train), ShardDataset.open(plain_test)
    assert val.scenes is not None
    wanted_N = np.searchsorted([7, 100, 300], val.scenes.argmax(axis=1))
    assert (
        BiasTest.prepare(CLIP, train, val, PLACE).scene_actions(val).tolist() == np.array([1, 0, 2])[wanted_N].tolist()
    )


def test_cells_of_a_table_carry_their_unit() -> None:
    assert Measure("a", "up").cell(0.236) == "23.6 %"
    assert Measure("a", "up", "nats").cell(1.234) == "1.23 nats"
    assert Measure("a", None, "clips").cell(21) == "21"
    assert Measure("a", None).cell(math.nan) == "–"

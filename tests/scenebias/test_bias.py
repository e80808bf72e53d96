"""Scene bias of a data set."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from scenebias.bias import BiasConfig, SceneBias, main, scene_bias
from scenebias.softmax_regression import fit_softmax_regression
from shards.dataset import ShardDataset
from shards.errors import UserError


def one_hot_scenes(scene_action: np.ndarray, rho: float, per_action: int) -> tuple[np.ndarray, np.ndarray]:
    """Each action ``rho`` of the time on its own scene, else on the next one's."""
    label_N = np.repeat(np.arange(len(scene_action)), per_action)
    own_N = np.tile(np.arange(per_action) < rho * per_action, len(scene_action))
    scene_N = np.where(own_N, scene_action[label_N], scene_action[(label_N + 1) % len(scene_action)])
    return np.eye(365)[scene_N].astype(np.float16), label_N


@pytest.mark.parametrize("rho", [1.0, 0.8, 0.6])
def test_it_is_the_log_of_rho_over_chance_where_each_action_has_its_scene(rho: float) -> None:
    scene_NS, label_N = one_hot_scenes(np.array([3, 50, 200, 364]), rho, per_action=20)
    result = scene_bias(fit_softmax_regression(scene_NS, label_N, 4), scene_NS, label_N, actions=4)
    assert result.accuracy == pytest.approx(rho)
    assert result.bias == pytest.approx(math.log(rho * 4))


def test_the_published_value_of_ucf101_follows_from_its_accuracy() -> None:
    assert SceneBias(accuracy=0.597, chance=1 / 101).bias == pytest.approx(4.09, abs=0.011)


def test_the_command_writes_what_it_measures(tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path) -> None:
    main(BiasConfig(tiny_dataset, tiny_test_dataset, json=tmp_path / "bias.json"))
    train, test = ShardDataset.open(tiny_dataset), ShardDataset.open(tiny_test_dataset)
    predicted_N = fit_softmax_regression(train.scenes, train.labels, 3).predict(test.scenes)
    numbers = json.loads((tmp_path / "bias.json").read_text())
    assert numbers["accuracy"] == pytest.approx(np.mean(predicted_N == test.labels))
    assert numbers["chance"] == pytest.approx(1 / 3)


def test_real_jhmdb_scenes_tell_the_action_better_than_chance(real_data: Path) -> None:
    with np.load(real_data / "jhmdb" / "scene_probs.npz", allow_pickle=False) as file:
        name_N, scene_NS = file["clips"], file["probs"]
    _, label_N = np.unique([name.split("/")[0] for name in name_N], return_inverse=True)
    train_N = np.arange(len(name_N)) % 3 != 0
    classifier = fit_softmax_regression(scene_NS[train_N], label_N[train_N], 21)
    result = scene_bias(classifier, scene_NS[~train_N], label_N[~train_N], actions=21)
    assert 0.5 < result.bias < math.log(21)


def test_data_without_scenes_is_refused_by_name(tmp_path: Path, synthetic_sample, tiny_dataset: Path) -> None:
    from shards.manifest import Manifest
    from shards.writer import ShardWriter

    bare = tmp_path / "bare"
    classes = ShardDataset.open(tiny_dataset).manifest.classes
    with ShardWriter(bare) as writer:
        writer.write(synthetic_sample(0, scene=False))
        writer.close(
            Manifest(dataset="synthetic", split="1", subset="bare", classes=classes, frame_height=48, quality=85)
        )
    with pytest.raises(UserError, match="bare has scene labels for 0 of its 1 clips"):
        main(BiasConfig(bare, tiny_dataset))

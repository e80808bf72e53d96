"""Scene bias of a data set, and of models beside it."""

import json
import math
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dali_pipelines import ClipConfig
from scenebias.bias.command import BiasConfig, load_models, main
from scenebias.bias.data_bias import SceneBias, scene_bias
from scenebias.bias.measuring import MEASURES
from scenebias.evaluation.softmax_regression import fit_softmax_regression
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.seen_clips import identity_of
from scenebias.models.weights import WeightsMetadata, save_weights
from shards.dataset import ShardDataset
from shards.errors import UserError
from tests.conftest import focused_copy
from tests.scenebias.browser import problems_of_page
from tools.trials.ready_samples import write_samples


def write_weights(folder: Path, classes: tuple[str, ...], seed: int, size: int = 32, seen: Path | None = None) -> Path:
    """Weights of a network that has learned nothing, as a run in ``folder`` would have left them."""
    torch.manual_seed(seed)
    metadata = WeightsMetadata(
        backbone="small3d",
        classes=classes,
        trained_on=() if seen is None else (identity_of(ShardDataset.open(seen)),),
        configuration={"clip": asdict(ClipConfig(size=size))},
    )
    folder.mkdir()
    save_weights(folder / "weights.safetensors", ActionModel(ModelConfig("small3d"), len(classes)), metadata)
    return folder / "weights.safetensors"


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
    main(BiasConfig(train=str(tiny_dataset), val=str(tiny_test_dataset), json=tmp_path / "bias.json"))
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
    bare = tmp_path / "bare"
    classes = ShardDataset.open(tiny_dataset).manifest.classes
    write_samples(bare, [synthetic_sample(0, scene=False)], classes, subset="bare")
    with pytest.raises(UserError, match="bare has scene labels for 0 of its 1 clips"):
        main(BiasConfig(train=str(bare), val=str(tiny_dataset)))


def test_models_stand_beside_each_other_in_table_file_and_page(
    plain_train: Path, plain_test: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = ShardDataset.open(plain_train).manifest.classes
    weights = tuple(write_weights(tmp_path / name, classes, seed) for seed, name in enumerate(("first", "second")))
    config = BiasConfig(
        train=str(plain_train),
        val=str(plain_test),
        weights=weights,
        json=tmp_path / "bias.json",
        html=tmp_path / "bias.html",
        png=tmp_path / "bias.png",
        loader_threads=1,
    )
    main(config)
    printed = capsys.readouterr().out
    numbers = json.loads((tmp_path / "bias.json").read_text())
    assert numbers["accuracy"] == pytest.approx(5 / 7)
    assert list(numbers["models"]) == ["first", "second"]
    for model in numbers["models"].values():
        assert set(model["values"]) == set(model["values_clean_bn"]) == set(MEASURES)
        assert model["values"] != model["values_clean_bn"]
        assert model["reasons"] == {}
    page = (tmp_path / "bias.html").read_text()
    for text in ("first", "second", "M(D, scene)", "human only, on grey: accuracy"):
        assert text in page
        assert text.split(",")[0] in printed
    with Image.open(tmp_path / "bias.png") as picture:
        picture.verify()
    assert problems_of_page(tmp_path / "bias.html") == []


def test_what_cannot_be_measured_is_null_and_told(
    plain_train: Path, plain_test_without_masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_weights(tmp_path / "run", ShardDataset.open(plain_train).manifest.classes, 0)
    val = str(plain_test_without_masks)
    main(BiasConfig(train=str(plain_train), val=val, weights=(weights,), json=tmp_path / "bias.json"))
    model = json.loads((tmp_path / "bias.json").read_text())["models"]["run"]
    assert model["values"]["swapped_top1"] is None
    assert model["values"]["clean_top1"] is not None
    assert "Not measured: no validation clip has an effective human mask" in capsys.readouterr().out


def test_scuba_s_pictures_and_hat_s_pairs_are_those_that_are_given(
    plain_train: Path, plain_test: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_weights(tmp_path / "run", ShardDataset.open(plain_train).manifest.classes, 0)
    names = [ShardDataset.open(plain_test).info(sample).name for sample in range(6)]
    pairs = {names[0]: [names[3], 20, 0], names[1]: [names[4], 20, 1], "blue/elsewhere": [names[5], 20, 2]}
    (tmp_path / "pairs.pickle").write_bytes(pickle.dumps(pairs))
    config = BiasConfig(
        train=str(plain_train),
        val=str(plain_test),
        weights=(weights,),
        json=tmp_path / "bias.json",
        hat_pairs=tmp_path / "pairs.pickle",
    )
    main(config)
    printed = capsys.readouterr().out
    assert f"HAT's swap: 2 of the 3 pairs of {tmp_path / 'pairs.pickle'}" in printed
    assert "Not measured: the clips of every pair of HAT's are of one action" in printed
    model = json.loads((tmp_path / "bias.json").read_text())["models"]["run"]
    assert model["values"]["hat_pairs"] == 2
    assert model["values"]["hat_sberr"] is None
    for wrong, message in (
        ({"scuba": str(tmp_path / "run")}, "is no folder of pictures"),
        ({"hat_pairs": weights}, "no pickle of lists"),
    ):
        with pytest.raises(UserError, match=message):
            main(replace(config, **wrong))


@pytest.mark.parametrize("output", ["html", "png"])
def test_a_gallery_takes_two_models(output: str) -> None:
    with pytest.raises(ValueError, match=f"{output} shows where two models disagree: weights must be at least two"):
        BiasConfig(train="a", val="b", weights=(Path("w"),), **{output: Path("gallery")})  # type: ignore[arg-type]


def test_weights_that_do_not_fit_the_data_or_each_other_are_refused(
    plain_train: Path, plain_test: Path, tmp_path: Path
) -> None:
    classes = ShardDataset.open(plain_train).manifest.classes
    first = write_weights(tmp_path / "first", classes, 0)
    others = {
        "plain.*has other classes than": write_weights(tmp_path / "classes", ("a", "b"), 0),
        "sees clips cut otherwise than": write_weights(tmp_path / "size", classes, 0, size=24),
        "the weights were trained on": write_weights(tmp_path / "seen", classes, 0, seen=plain_test),
    }
    for message, other in others.items():
        with pytest.raises(UserError, match=message):
            main(BiasConfig(train=str(plain_train), val=str(plain_test), weights=(first, other)))


def test_models_of_one_name_are_told_apart_by_their_paths(plain_train: Path, plain_test: Path, tmp_path: Path) -> None:
    classes = ShardDataset.open(plain_train).manifest.classes
    for parent in ("a", "b"):
        (tmp_path / parent).mkdir()
    weights = tuple(write_weights(tmp_path / parent / "run", classes, 0) for parent in ("a", "b"))
    train, val = ShardDataset.open(plain_train), ShardDataset.open(plain_test)
    _, models = load_models(BiasConfig(train="", val="", weights=weights), train, val)
    assert list(models) == [str(path) for path in weights]


def test_models_of_another_part_of_the_frames_are_refused(plain_train: Path, plain_test: Path, tmp_path: Path) -> None:
    train, val = focused_copy(plain_train, tmp_path / "train"), focused_copy(plain_test, tmp_path / "val")
    weights = write_weights(tmp_path / "run", ShardDataset.open(plain_train).manifest.classes, 0)
    with pytest.raises(UserError, match=r"val shows squares around people .* trained on whole frames"):
        main(BiasConfig(train=str(train), val=str(val), weights=(weights,)))

"""Pretraining in stages: what a stage takes over from the one before."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import scenebias
from dali_pipelines import ClipConfig, DecodingConfig, clip_decoder
from dali_pipelines.decoding_config import LoaderDevice
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.weights import WeightsMetadata, load_scene_head, load_weights, save_weights
from scenebias.pretrain import COMMAND, PretrainConfig, main
from scenebias.training.recipes import PRETRAIN_RECIPES
from scenebias.training.run import InitialModel
from scenebias.training.schedule import ScheduleConfig
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.joined_dataset import JoinedDataset

BASELINE, SCENE, DEBIAS = (ObjectiveConfig(name=name) for name in ("baseline", "scene", "debias"))


@pytest.fixture
def config(tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path) -> PretrainConfig:
    return PretrainConfig(
        train=tiny_dataset,
        val=tiny_test_dataset,
        out=tmp_path / "baseline",
        clip=ClipConfig(frames=8, size=32),
        model=ModelConfig(backbone="small3d"),
        objective=BASELINE,
        schedule=ScheduleConfig(epochs=1, batch_size=4),
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((), ClipConfig()),
        (("--backbone", "resnet3d_18_a"), ClipConfig()),
        (("--backbone", "mvit_v1_b"), ClipConfig(frames=16, stride=4, size=224)),
        (("--backbone=swin3d_b", "--frames", "8"), ClipConfig(frames=8, stride=2, size=224)),
        (("--backbone", "s3d", "--recipe", "small"), PRETRAIN_RECIPES["small"]["clip"]),
    ],
)
def test_clips_are_those_of_the_network_unless_a_recipe_or_the_user_says_more(
    said: tuple[str, ...], expected: ClipConfig
) -> None:
    config, _ = COMMAND.read(("--train", "a", "--val", "b", "--out", "c", *said))
    assert config.clip == expected


def test_a_size_that_the_network_does_not_take_is_refused_before_training(config: PretrainConfig) -> None:
    with pytest.raises(UserError, match=r"clips of 16 frames of 224 x 224 pixels alone.*set --frames 16 and --size 2"):
        main(replace(config, model=ModelConfig(backbone="mvit_v2_s")))
    assert not config.out.exists()


def next_stage(config: PretrainConfig, objective: ObjectiveConfig) -> PretrainConfig:
    name = objective.name
    return replace(config, objective=objective, init=config.out / "weights.safetensors", out=config.out.parent / name)


def initial_of(config: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> InitialModel:
    """What the run would begin with."""
    made: list[InitialModel] = []
    train = JoinedDataset.of([ShardDataset.open(config.train)])
    with monkeypatch.context() as patch:
        patch.setattr("scenebias.pretrain.run_training", lambda _, __, make_model: made.append(make_model(train)))
        main(config)
    return made[0]


def test_where_clips_are_decoded_reaches_every_loader_and_may_change_from_start_to_start(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    decides = clip_decoder.decodes_on_gpu

    def note(dataset: ShardDataset, device: torch.device, wanted: LoaderDevice, *, quiet: bool = False) -> bool:
        asked.append(wanted)
        return decides(dataset, device, wanted, quiet=quiet)

    monkeypatch.setattr(clip_decoder, "decodes_on_gpu", note)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--loader-device gpu"):
            main(replace(config, decoding=DecodingConfig(loader_device="gpu")))
        assert not config.out.exists()
    main(replace(config, decoding=DecodingConfig(loader_device="cpu")))
    assert len(asked) == 4  # the first evaluation batch, training, BatchNorm's statistics, evaluation
    assert set(asked) == {"cpu"}


def test_weights_go_from_stage_to_stage_the_scene_head_among_them(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(config)
    scene, debias = next_stage(config, SCENE), next_stage(next_stage(config, SCENE), DEBIAS)
    main(scene)
    initial = initial_of(debias, monkeypatch)
    before, _ = load_weights(debias.init)
    torch.testing.assert_close(initial.model.action_model.state_dict(), before.state_dict(), rtol=0, atol=0)
    anew = initial_of(replace(debias, init=config.out / "weights.safetensors"), monkeypatch).model.scene_head
    kept = initial.model.scene_head
    assert not torch.equal(kept[0].weight, anew[0].weight)
    load_scene_head(debias.init, anew)
    torch.testing.assert_close(kept.state_dict(), anew.state_dict(), rtol=0, atol=0)
    main(debias)
    assert (debias.out / "result.json").exists()


def test_a_baseline_may_follow_a_stage_with_scenes_and_another_depth_of_the_head_is_refused(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = replace(config, objective=SCENE)
    main(scene)
    assert initial_of(next_stage(scene, BASELINE), monkeypatch).model.scene_head is None
    shallow = replace(next_stage(scene, SCENE), objective=replace(SCENE, scene_hidden_layers=1))
    with pytest.raises(UserError, match=r"has 3 hidden layers, but the run is set to 1; pass --scene-hidden-layers 3"):
        initial_of(shallow, monkeypatch)


def test_weights_of_other_classes_are_begun_with_under_a_new_head(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = ActionModel(ModelConfig(backbone="small3d"), 5)
    metadata = WeightsMetadata(backbone="small3d", classes=tuple("abcde"), trained_on=())
    save_weights(tmp_path / "other.safetensors", other, metadata)
    with pytest.raises(UserError, match=r"has other classes than .*; start with a random head by --new-head"):
        initial_of(replace(config, init=tmp_path / "other.safetensors"), monkeypatch)
    begun = replace(config, init=tmp_path / "other.safetensors", new_head=True)
    model = initial_of(begun, monkeypatch).model.action_model
    torch.testing.assert_close(model.backbone.state_dict(), other.backbone.state_dict(), rtol=0, atol=0)
    assert model.action_count == len(ShardDataset.open(config.train).classes) != other.action_count
    main(begun)
    assert load_weights(begun.out / "weights.safetensors")[1].classes == ShardDataset.open(config.train).classes


def test_a_transformer_is_debiased_evaluated_and_loaded_like_any_network(config: PretrainConfig) -> None:
    main(replace(config, objective=DEBIAS, model=ModelConfig(backbone="swin3d_t")))
    loaded = scenebias.load(config.out / "weights.safetensors")
    assert loaded.model.config.backbone == "swin3d_t"
    probability_A = loaded.predict(ShardDataset.open(config.val)[0].frames)
    assert probability_A.sum() == pytest.approx(1)

"""Every recipe is a configuration that its command accepts, with the published values."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from scenebias.commands import Command
from scenebias.models.backbones import BackboneName
from scenebias.models.network_inputs import input_of
from scenebias.pretrain import COMMAND, PretrainConfig
from scenebias.run_folder.record import plain
from scenebias.training.checks import small_batch_note
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.recipes import PRETRAIN_RECIPES, TRANSFER_RECIPES, PretrainRecipe, TransferRecipe
from scenebias.transfer.command import COMMAND as TRANSFER_COMMAND
from scenebias.transfer.command import TransferConfig

REQUIRED = ["--train", "a", "--val", "b", "--out", "c"]


def configured(config_type: Any, recipes: Any, *arguments: str) -> Any:
    """The configuration that a command is given, or its exit status."""
    seen: list[Any] = []
    with pytest.raises(SystemExit) as stop:
        Command(main=seen.append, options=config_type, recipes=recipes).run([*REQUIRED, *arguments])
    return seen[0] if seen else stop.value.code


def pretraining(*arguments: str) -> Any:
    return configured(PretrainConfig, PRETRAIN_RECIPES, *arguments)


def transferring(*arguments: str) -> Any:
    return configured(TransferConfig, TRANSFER_RECIPES, *arguments)


def test_every_name_has_its_recipe() -> None:
    assert tuple(PRETRAIN_RECIPES) == get_args(PretrainRecipe)
    assert tuple(TRANSFER_RECIPES) == get_args(TransferRecipe)


def test_reproduction_is_what_the_configurations_are_without_any_option() -> None:
    places = {"train": "a", "val": "b", "out": Path("c")}
    assert pretraining() == pretraining("--recipe", "reproduction") == PretrainConfig(**places)
    places |= {"train": ("a",), "val": ("b",)}
    assert transferring() == transferring("--recipe", "reproduction") == TransferConfig(**places)


def test_reproduction_has_the_values_of_its_table() -> None:
    config = pretraining()
    assert (config.model.backbone, config.schedule.epochs, config.schedule.batch_size) == ("r3d_18", 10, 32)
    assert (config.optimization.optimizer, config.optimization.schedule) == ("sgd", "constant")
    assert (config.optimization.learning_rate, config.optimization.momentum) == (1e-3, 0.9)
    assert (config.objective.name, config.objective.alpha_scene, config.objective.alpha_mask) == (
        "debias",
        0.5,
        0.5,
    )
    assert (config.clip.frames, config.clip.size) == (16, 112)
    assert transferring().schedule.epochs == 30


def test_the_paper_trains_in_two_stages_of_which_the_first_warms_up_its_heads() -> None:
    first = pretraining("--recipe", "paper_scene", "--init", "weights")
    second = pretraining("--recipe", "paper_debias", "--init", "weights")
    assert (first.objective.name, second.objective.name) == ("scene", "debias")
    assert (first.optimization.head_warmup_epochs, first.optimization.head_warmup_learning_rate) == (4, 1e-2)
    assert second.optimization.head_warmup_epochs == 0
    for config in (first, second):
        assert config.model.backbone == "resnet3d_18_a"
        assert config.objective.scene_hidden_layers == 3
        assert (config.optimization.learning_rate, config.optimization.weight_decay) == (1e-4, 1e-5)
        assert config.clip.scales == pytest.approx([2 ** (-k / 4) for k in range(5)])
    assert transferring("--recipe", "paper", "--weights", "w").optimization.learning_rate == 5e-3


@pytest.mark.parametrize(("recipe", "gpus"), [("node", 8), ("nodes", 32)])
def test_larger_batches_have_learning_rates_in_proportion_and_a_warm_up(recipe: str, gpus: int) -> None:
    one, many = pretraining(), pretraining("--recipe", recipe)
    assert many.schedule.batch_size == gpus * one.schedule.batch_size
    assert many.optimization.learning_rate == pytest.approx(gpus * one.optimization.learning_rate)
    assert 0 < many.optimization.warmup_epochs < many.schedule.epochs / 2
    assert small_batch_note(many.schedule.batch_size, gpus, on_gpu=True) is None


def test_a_batch_of_few_clips_a_gpu_is_warned_of_and_one_on_cpus_is_not() -> None:
    assert "leaves 4 clips to each of 8 GPUs" in str(small_batch_note(32, 8, on_gpu=True))
    assert small_batch_note(127, 8, on_gpu=True)
    assert small_batch_note(128, 8, on_gpu=True) is None
    assert small_batch_note(32, 8, on_gpu=False) is None


def test_swin_is_augmented_as_published_for_kinetics_and_strongly_as_for_something_something() -> None:
    plain, strong = (pretraining("--recipe", name, "--init", "w") for name in ("swin", "swin_strong"))
    for config in (plain, strong):
        assert config.model.backbone == "swin3d_t"
        assert (config.clip.crop_area, config.clip.crop_aspect) == ((0.08, 1.0), (3 / 4, 4 / 3))
    assert (plain.clip.flip_probability, strong.clip.flip_probability) == (0.5, 0.0)
    assert not plain.augment.changes_clips
    assert (strong.augment.rand_augment, strong.augment.rand_augment_magnitude) == (4, 7)
    assert (strong.augment.erasing_probability, strong.objective.label_smoothing) == (0.25, 0.1)
    assert strong.optimization == plain.optimization


def test_small_is_what_cpu_cores_train_from_random_weights_in_minutes() -> None:
    before, after = pretraining("--recipe", "small"), transferring("--recipe", "small", "--scratch")
    assert (before.init, before.model.backbone, after.backbone) == (None, "small3d", "small3d")
    for config, learning_rate in ((before, 4e-3), (after, 2e-3)):
        assert (config.clip.frames, config.clip.stride, config.clip.size) == (8, 2, 56)
        assert config.clip.scales == (1.0, 0.84)
        optimization = config.optimization
        assert (optimization.optimizer, optimization.schedule) == ("adamw", "cosine")
        assert (optimization.learning_rate, optimization.weight_decay) == (learning_rate, 0.01)
        assert (optimization.warmup_epochs, config.schedule.epochs, config.loader_threads) == (2, 30, 1)


def test_mvit_is_trained_from_random_weights_as_published() -> None:
    config, _ = COMMAND.read((*REQUIRED, "--recipe", "mvit"))
    assert (config.init, config.model.backbone, config.model.dropout) == (None, "mvit_v2_s", 0.5)
    assert config.clip == replace(input_of("mvit_v2_s").clip, crop_area=(0.08, 1.0))
    assert (config.augment.rand_augment, config.augment.rand_augment_magnitude) == (4, 21)
    assert dict(zip(config.compose.compose, config.compose.probabilities, strict=True)) == {"mixup": 0.5, "cutmix": 0.5}
    optimization = config.optimization
    assert (optimization.optimizer, optimization.schedule, optimization.weight_decay) == ("adamw", "cosine", 0.05)
    assert (optimization.learning_rate, config.schedule.batch_size) == (1e-4, 32)
    assert config.schedule.repeated_augmentation == 2
    assert (optimization.warmup_epochs, config.schedule.epochs, optimization.gradient_clip) == (30, 200, 1.0)


def test_gradients_of_transformers_are_clipped_by_default() -> None:
    def clip_of(command: Command, *said: str) -> float | None:
        return command.read((*REQUIRED, *said))[0].optimization.gradient_clip

    for command in (COMMAND, TRANSFER_COMMAND):
        assert clip_of(command) is None
        for backbone in get_args(BackboneName):
            is_transformer = backbone.startswith(("swin3d", "mvit"))
            assert clip_of(command, "--backbone", backbone) == (1.0 if is_transformer else None)
        assert clip_of(command, "--backbone", "swin3d_t", "--gradient-clip", "None") is None
        assert clip_of(command, "--backbone", "swin3d_t", "--recipe", "small") is None
    assert COMMAND.read((*REQUIRED, "--backbone", "mvit_v1_b"))[0].optimization == OptimizationConfig(gradient_clip=1.0)


def test_published_weights_are_the_initial_ones_that_a_recipe_asks_for() -> None:
    config, _ = COMMAND.read((*REQUIRED, "--recipe", "swin", "--pretrained", "kinetics400"))
    assert (config.init, config.pretrained, config.model.backbone) == (None, "kinetics400", "swin3d_t")


@pytest.mark.parametrize("recipe", ["paper_scene", "paper_debias"])
def test_a_stage_of_the_paper_needs_initial_weights(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretraining("--recipe", recipe) == 2
    assert "--init" in capsys.readouterr().err
    assert pretraining("--recipe", recipe, "--init", "None").init is None


def test_what_is_said_wins_and_the_record_holds_what_came_out() -> None:
    config = pretraining("--recipe", "paper_debias", "--init", "w", "--epochs", "3", "--backbone", "small3d")
    record = plain(config)
    assert record["recipe"] == "paper_debias"
    assert record["model"]["backbone"] == "small3d"
    assert (record["schedule"]["epochs"], record["optimization"]["schedule"]) == (3, "plateau")

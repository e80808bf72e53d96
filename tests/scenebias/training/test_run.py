"""Whole training runs: what they leave behind, exact resume, several processes, and what they refuse."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dali_pipelines import ClipConfig, TrainLoader
from scenebias.augment.config import AugmentConfig
from scenebias.compose.config import ComposeConfig
from scenebias.debiasing.debiasing_model import DebiasingModel, Losses
from scenebias.debiasing.losses import alpha_ramp
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.evaluate import EvaluateConfig
from scenebias.evaluate import main as evaluate
from scenebias.evaluation.accuracy import Evaluation
from scenebias.evaluation.precision import PrecisionConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.weights import load_weights, read_metadata
from scenebias.pretrain import PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.run_folder.checkpoint import CheckpointConfig, CheckpointFolder, TrainingState
from scenebias.run_folder.folder import RunFolder
from scenebias.run_folder.log import TrainingLog
from scenebias.training import run, trainer
from scenebias.training.checks import sync_batch_norm_note
from scenebias.training.computing.arithmetic import ArithmeticConfig
from scenebias.training.optimization import OptimizationConfig, learning_rates_at
from scenebias.training.schedule import ScheduleConfig
from scenebias.training.step import StepOutcome, TrainingStep
from scenebias.training.trainer import Trainer
from scenebias.transfer.run import TransferRunConfig, run_transfer
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.focus import WHOLE_FRAMES, Focus
from tests.conftest import focused_copy
from tools.trials.ready_samples import write_samples

CLIP = ClipConfig(frames=8, size=32)


@pytest.fixture(scope="module")
def finished(tiny_dataset: Path, tiny_test_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    """An undisturbed run, which no test may change."""
    config = PretrainConfig(
        train=tiny_dataset,
        val=tiny_test_dataset,
        out=tmp_path_factory.mktemp("finished") / "run",
        clip=CLIP,
        model=ModelConfig(backbone="small3d", dropout=0.2),
        schedule=ScheduleConfig(epochs=2, batch_size=4),
        checkpoints=CheckpointConfig(checkpoint_every_steps=2),
        optimization=OptimizationConfig(learning_rate=0.01),
    )
    pretrain(config)
    return config


@pytest.fixture
def config(finished: PretrainConfig, tmp_path: Path) -> PretrainConfig:
    """The same run in a folder of the test."""
    return replace(finished, out=tmp_path / "run")


def step_lines(out: Path) -> list[dict[str, float]]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    untimed = {"step_s", "data_wait_share", "clips_per_s"}
    return [{k: v for k, v in e.items() if k not in untimed} for e in entries if e["kind"] == "step"]


def same_weights(a: Path, b: Path) -> bool:
    first, second = (load_weights(out / "weights.safetensors")[0].state_dict() for out in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "objective",
    [
        ObjectiveConfig(name="baseline"),
        ObjectiveConfig(name="scene"),
        ObjectiveConfig(name="mask", mask_loss="released", fill="random"),
        ObjectiveConfig(name="debias"),
        ObjectiveConfig(name="debias", mask_step="joint", fill="white"),
        ObjectiveConfig(name="debias", mask_step="alternate", mask_loss="adversarial"),
        ObjectiveConfig(name="debias", masked_batch_norm="both", scene_adversary="weighted"),
        ObjectiveConfig(name="albar"),
    ],
    ids=lambda o: f"{o.name}-{o.scene_adversary}-{o.mask_loss}-{o.mask_step}",
)
def test_a_run_leaves_record_logs_weights_and_result(config: PretrainConfig, objective: ObjectiveConfig) -> None:
    pretrain(replace(config, objective=objective))
    steps = step_lines(config.out)
    assert [entry["global_step"] for entry in steps] == list(range(6))
    wanted = {"action_loss"} | ({"scene_loss"} if objective.uses_scenes else set())
    wanted |= {"effective_share"} if objective.uses_masks else set()
    wanted |= {"still_action_loss", "still_entropy", "still_penalty"} if objective.uses_stills else set()
    assert all(wanted <= set(entry) for entry in steps)
    assert any("masked_entropy" in entry for entry in steps) == objective.uses_masks
    for entry in steps if objective.uses_scenes else []:
        assert 0 < entry["scene_chance"] <= entry["scene_from_action"] <= 1
    record = json.loads((config.out / "run.json").read_text())
    assert record["data"]["train"]["digest"] == ShardDataset.open(config.train).manifest.digest
    assert record["configuration"]["objective"]["name"] == objective.name
    metadata = read_metadata(config.out / "weights.safetensors")
    assert metadata.classes == ("clap", "jump", "wave")
    assert [seen.subset for seen in metadata.trained_on] == ["train"]
    assert json.loads((config.out / "result.json").read_text())["final"]["clips"] == 7
    assert list((config.out / "tensorboard").iterdir())


def test_times_and_rates_of_a_step_fit_together(finished: PretrainConfig) -> None:
    entries = [json.loads(line) for line in (finished.out / "log.jsonl").read_text().splitlines()]
    for entry in entries:
        if entry["kind"] == "step":
            assert 0 <= entry["data_wait_share"] <= 1
            assert entry["loss_scale"] == 1  # fp32 needs none
            assert entry["clips_per_s"] * entry["step_s"] == pytest.approx(4)


def test_the_log_holds_means_over_clips_and_over_effective_masks_and_the_ramp_of_every_step(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    call = TrainingStep.__call__

    def noted_call(step: TrainingStep, *arguments: Any) -> StepOutcome:
        outcomes.append(call(step, *arguments))
        return outcomes[-1]

    monkeypatch.setattr(TrainingStep, "__call__", noted_call)
    pretrain(replace(config, objective=ObjectiveConfig(alpha_schedule="dann", min_person_share=0.8)))
    shares = set()
    for number, (entry, outcome) in enumerate(zip(step_lines(config.out), outcomes, strict=True)):
        sums = {name: float(value) for name, value in outcome.sums.items()}
        assert entry["action_loss"] == pytest.approx(sums["action_loss"] / 4)
        assert entry["scene_loss"] == pytest.approx(sums["scene_loss"] / 4)
        assert entry["effective_share"] == outcome.effective_count / 4
        if outcome.effective_count:
            assert entry["masked_entropy"] == pytest.approx(sums["masked_entropy"] / outcome.effective_count)
        assert entry["ramp"] == alpha_ramp("dann", number / 6)
        shares.add(entry["effective_share"])
    assert shares - {0, 1}


def test_the_learning_rate_follows_the_action_loss_on_the_validation_clips(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def noted_rates(step: int, per_epoch: int, epochs: int, optimization: OptimizationConfig, losses: list) -> dict:
        told.append((step, per_epoch, epochs, losses))
        return learning_rates_at(step, per_epoch, epochs, optimization, losses)

    monkeypatch.setattr(trainer, "learning_rates_at", noted_rates)
    pretrain(config)
    history = json.loads((config.out / "result.json").read_text())["history"]
    losses = [numbers["action_loss"] for numbers in history]
    assert told == [(step, 3, 2, losses[: step // 3]) for step in range(6)]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_checkpoints_are_written_once_where_they_are_asked_for_and_at_both_ends_of_an_evaluation(
    config: PretrainConfig, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = []
    save = CheckpointFolder.save

    def noted_save(folder: CheckpointFolder, state: TrainingState) -> Path:
        positions.append(state.position)
        return save(folder, state)

    monkeypatch.setattr(CheckpointFolder, "save", noted_save)
    pretrain(replace(config, checkpoints=CheckpointConfig(checkpoint_every_steps=every)))
    within = [step for step in (1, 2) if step % every == 0]
    assert positions == [
        position for epoch in range(2) for position in (*((epoch, step) for step in within), (epoch, 3), (epoch + 1, 0))
    ]


def test_ranks_are_compared_after_every_so_many_steps_and_after_every_epoch(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []
    monkeypatch.setattr(trainer, "check_rank_agreement", lambda _model, _place, where: places.append(where))
    pretrain(replace(config, schedule=replace(config.schedule, check_ranks_every_steps=2)))
    assert places == [
        "after epoch 0, step 1",
        "after epoch 0",
        "after epoch 1, step 0",
        "after epoch 1, step 2",
        "after epoch 1",
    ]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("last_step", [0, 1, 2, 3, 4, 5])
def test_a_run_that_was_killed_goes_on_to_the_very_same_losses_and_weights(
    finished: PretrainConfig, config: PretrainConfig, last_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = TrainingLog.write

    def write_until_killed(log: TrainingLog, kind: str, global_step: int, numbers: dict[str, float]) -> None:
        write(log, kind, global_step, numbers)
        if kind == "step" and global_step == last_step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLog, "write", write_until_killed)
        with pytest.raises(Killed):
            pretrain(config)
    assert not (config.out / "result.json").exists()
    pretrain(config)
    assert step_lines(config.out) == step_lines(finished.out)
    assert same_weights(config.out, finished.out)


def test_so_does_one_whose_clips_are_augmented_and_come_twice_in_a_step(
    config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    augmenting = replace(
        config,
        clip=replace(CLIP, crop_area=(0.2, 1.0), stride_range=(1, 2)),
        augment=AugmentConfig(rand_augment=2, jitter_hue=0.1, erasing_probability=0.5),
        compose=ComposeConfig(compose=("mixup",)),
        schedule=ScheduleConfig(epochs=2, batch_size=8, repeated_augmentation=2),
    )
    pretrain(augmenting)
    lines = step_lines(config.out)
    assert [entry["global_step"] for entry in lines] == list(range(6))
    again = replace(augmenting, out=tmp_path / "again")
    write = TrainingLog.write

    def write_until_killed(log: TrainingLog, kind: str, global_step: int, numbers: dict[str, float]) -> None:
        write(log, kind, global_step, numbers)
        if kind == "step" and global_step == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLog, "write", write_until_killed)
        with pytest.raises(Killed):
            pretrain(again)
    pretrain(again)
    assert step_lines(again.out) == lines
    assert same_weights(again.out, config.out)


def test_a_finished_run_is_left_as_it_is_and_another_configuration_is_refused(
    config: PretrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(config)
    before = (config.out / "weights.safetensors").stat()
    pretrain(config)
    assert "complete already" in capsys.readouterr().out
    assert (config.out / "weights.safetensors").stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(UserError, match=r"another run \(optimization.learning_rate was 0.01 and is now 0.02\)"):
        pretrain(replace(config, optimization=OptimizationConfig(learning_rate=0.02)))
    with pytest.raises(UserError, match=r"another run \(augment.grey_probability was 0.0 and is now 0.2\)"):
        pretrain(replace(config, augment=AugmentConfig(grey_probability=0.2)))


def test_a_run_of_a_version_without_an_option_is_the_same_run_as_one_that_leaves_it_out(
    config: PretrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(config)
    record = json.loads((config.out / "run.json").read_text())
    new = {"schedule": ["ema"], "model": ["drop_path", "mean", "std"], "optimization": ["layer_decay"]}
    for group, name in ((group, name) for group, names in new.items() for name in names):
        del record["configuration"][group][name]
    del record["configuration"]["pretrained"]
    (config.out / "run.json").write_text(json.dumps(record))
    pretrain(config)
    assert "complete already" in capsys.readouterr().out


def test_the_same_options_on_other_clips_or_initial_weights_are_another_run(
    config: PretrainConfig, tmp_path: Path, synthetic_sample: Callable
) -> None:
    pretrain(config)
    other = make_dataset(tmp_path / "other", synthetic_sample, ("clap", "jump", "wave"))
    with pytest.raises(UserError, match=r"another run \(data.train.d"):
        pretrain(replace(config, train=other))
    weights = config.out / "weights.safetensors"
    tuned = TransferRunConfig(
        train=other, val=config.val, out=tmp_path / "tuned", clip=CLIP, weights=weights, force=True,
        schedule=ScheduleConfig(epochs=1, batch_size=4),
    )  # fmt: skip
    run_transfer(tuned)
    weights.write_bytes((tmp_path / "tuned" / "weights.safetensors").read_bytes())
    with pytest.raises(UserError, match="initial_weights_sha256"):
        run_transfer(tuned)


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_no_weights(config: PretrainConfig) -> None:
    with pytest.raises(UserError, match=r"not finite in epoch 0, step 1; clips .*shard-.*sample .*--learning-rate"):
        pretrain(replace(config, optimization=OptimizationConfig(learning_rate=1e30)))
    assert not (config.out / "weights.safetensors").exists()


def poison_step(monkeypatch: pytest.MonkeyPatch, poisoned_step: int) -> None:
    """Make the loss of one clip of that step, the second, no number."""
    forward, steps = DebiasingModel.forward, itertools.count()

    def poisoned(model: DebiasingModel, *arguments: Any, **options: Any) -> Losses:
        losses = forward(model, *arguments, **options)
        if not torch.is_grad_enabled() or next(steps) != poisoned_step:  # a step trains: statistics are no step
            return losses
        clip_loss_B = losses.clip_loss_B.clone()
        clip_loss_B[1] = torch.nan
        return losses._replace(total=losses.total * torch.nan, clip_loss_B=clip_loss_B)

    monkeypatch.setattr(DebiasingModel, "forward", poisoned)


def test_a_loss_that_is_no_number_names_the_clip_it_comes_from(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = replace(config, objective=ObjectiveConfig(name="baseline"))
    dataset = ShardDataset.open(config.train)
    loader = TrainLoader(dataset, CLIP, global_batch_size=4, seed=0)
    culprit = int(list(loader.epoch(1))[1].sample_B[1])
    poison_step(monkeypatch, loader.steps_per_epoch + 1)
    with pytest.raises(UserError) as raised:
        pretrain(baseline)
    assert f"epoch 1, step 1; clips without a finite loss: {dataset.describe(culprit)}. Look" in str(raised.value)


def test_steps_without_a_finite_loss_are_passed_over_and_counted_where_that_is_asked_for(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = replace(
        config,
        objective=ObjectiveConfig(name="baseline"),
        schedule=replace(config.schedule, skip_nonfinite_steps=1),
    )
    poison_step(monkeypatch, 1)
    pretrain(baseline)
    assert [entry.get("skipped", 0) for entry in step_lines(config.out)] == [0, 1, 0, 0, 0, 0]
    result = json.loads((config.out / "result.json").read_text())
    assert result["skipped_steps"] == 1
    assert [numbers["skipped_steps"] for numbers in result["history"]] == [1, 0]
    monkeypatch.undo()
    poison_step(monkeypatch, 1)
    with pytest.raises(UserError, match="epoch 0, step 1"):
        pretrain(replace(baseline, out=config.out.with_name("strict"), schedule=config.schedule))


def test_steps_that_were_passed_over_in_earlier_epochs_count(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = replace(config, objective=ObjectiveConfig(name="baseline"))
    poison_step(monkeypatch, 1)
    poison_step(monkeypatch, 4)
    with pytest.raises(UserError, match="epoch 1, step 1"):
        pretrain(replace(baseline, schedule=replace(config.schedule, skip_nonfinite_steps=1)))
    monkeypatch.undo()
    poison_step(monkeypatch, 1)
    poison_step(monkeypatch, 4)
    twice = replace(baseline, out=config.out.with_name("twice"))
    pretrain(replace(twice, schedule=replace(config.schedule, skip_nonfinite_steps=2)))
    assert json.loads((twice.out / "result.json").read_text())["skipped_steps"] == 2


@pytest.mark.parametrize("poisoned", [1, 2, 4])
def test_no_checkpoint_holds_a_step_that_was_not_finite_and_the_run_goes_on_from_before_it(
    finished: PretrainConfig, config: PretrainConfig, poisoned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the host knows of a step only when the next one is under way."""
    every_step = replace(config, checkpoints=CheckpointConfig(checkpoint_every_steps=1))
    for config_of_run in (every_step, replace(config, out=config.out.with_name("seldom"))):
        with monkeypatch.context() as patch:
            poison_step(patch, poisoned)
            with pytest.raises(UserError, match=f"not finite in epoch {poisoned // 3}, step {poisoned % 3}"):
                pretrain(config_of_run)
        saved = CheckpointFolder(config_of_run.out / "checkpoints").load_newest()
        assert saved is None or 3 * saved.epoch + saved.step <= poisoned
        assert saved is not None or config_of_run is not every_step
        pretrain(config_of_run)
        assert step_lines(config_of_run.out) == step_lines(finished.out)
        assert same_weights(config_of_run.out, finished.out)


def test_a_checkpoint_that_cannot_be_written_ends_the_run_with_its_error(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise UserError("checkpoint cannot be written (No space left on device)")

    monkeypatch.setattr(CheckpointFolder, "save", full)
    with pytest.raises(UserError, match="No space left"):
        pretrain(config)
    assert not (config.out / "result.json").exists()


OF_TORCH = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
OF_DALI = RuntimeError("Error in GPU operator `nvidia.dali.fn.resize`: Can't allocate 2147483648 bytes on device 0.")


@pytest.mark.parametrize("where", ["_train_epoch", "_evaluate_epoch"])
@pytest.mark.parametrize(("error", "told"), [(OF_TORCH, "2.00 GiB"), (OF_DALI, "2147483648 bytes")])
def test_too_little_memory_says_what_to_lower_whoever_asked_for_it(
    config: PretrainConfig, where: str, error: RuntimeError, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Trainer, where, out_of_memory)
    with pytest.raises(UserError, match=rf"{told}.*--batch-size.*--accumulate 2 or --recompute"):
        pretrain(config)


def test_it_is_said_where_there_is_no_batch_norm_to_synchronise() -> None:
    synchronised = ArithmeticConfig(sync_batch_norm=True)
    model = DebiasingModel(ActionModel(ModelConfig(backbone="small3d"), 3), ObjectiveConfig(name="baseline"))
    assert sync_batch_norm_note(model, synchronised) is None
    model.action_model.backbone = torch.nn.Conv3d(3, 3, 1)
    assert str(sync_batch_norm_note(model, synchronised)).startswith("--sync-batch-norm does nothing")
    assert sync_batch_norm_note(model, ArithmeticConfig()) is None


def test_the_precision_of_evaluation_is_used_and_recorded_in_results(config: PretrainConfig, tmp_path: Path) -> None:
    pretrain(replace(config, evaluation=PrecisionConfig(eval_precision="bf16")))
    result = json.loads((config.out / "result.json").read_text())
    assert result["eval_precision"] == "bf16"
    losses = {}
    for precision in ("fp32", "bf16"):
        file = tmp_path / f"{precision}.json"
        asked = PrecisionConfig(eval_precision=precision)
        weights = config.out / "weights.safetensors"
        evaluate(EvaluateConfig(weights=weights, data=(config.val,), json=file, precision=asked))
        found = json.loads(file.read_text())
        assert found["eval_precision"] == precision
        losses[precision] = found[str(config.val)]["action_loss"]
    assert losses["bf16"] == pytest.approx(result["final"]["action_loss"])
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def test_an_evaluation_that_does_not_fit_is_told_before_a_step_is_taken(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: Any, **__: Any) -> None:
        raise OF_TORCH

    monkeypatch.setattr(run, "evaluate_joined", out_of_memory)
    with pytest.raises(UserError, match=r"2.00 GiB.*--batch-size"):
        pretrain(config)
    assert not (config.out / "log.jsonl").exists()


def test_predictions_that_are_not_finite_end_the_run_in_one_sentence(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluation, "action_loss", torch.nan)
    with pytest.raises(UserError, match=r"predictions on the validation clips are not finite after epoch 0"):
        pretrain(config)


def test_a_warm_up_of_the_heads_that_leaves_no_epoch_to_the_backbone_is_refused(config: PretrainConfig) -> None:
    with pytest.raises(ValueError, match=r"head_warmup_epochs must be below epochs \(2\), got 2"):
        replace(config, optimization=OptimizationConfig(head_warmup_epochs=2))


def test_initial_weights_keep_the_asked_dropout_and_must_not_have_seen_the_test_clips(
    finished: PretrainConfig, tmp_path: Path, synthetic_sample: Callable
) -> None:
    other = make_dataset(tmp_path / "other", synthetic_sample, ("clap", "jump", "wave"))
    again = replace(
        finished, train=other, val=finished.train, out=tmp_path / "again", init=finished.out / "weights.safetensors"
    )
    with pytest.raises(UserError, match="trained on these very shards"):
        pretrain(again)
    assert not again.out.exists()
    pretrain(replace(again, force=True))
    assert len(read_metadata(again.out / "weights.safetensors").trained_on) == 2


def test_weights_say_what_of_each_frame_they_have_seen_and_another_part_of_it_is_told(
    finished: PretrainConfig,
    tiny_dataset: Path,
    tiny_test_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = finished.out / "weights.safetensors"
    assert read_metadata(weights).focus == WHOLE_FRAMES
    focused = replace(
        finished,
        train=str(focused_copy(tiny_dataset, tmp_path / "train")),
        val=str(focused_copy(tiny_test_dataset, tmp_path / "val")),
        out=tmp_path / "run",
        init=weights,
    )
    pretrain(focused)
    told = f"{weights} were trained on whole frames; {focused.train} shows squares around people"
    assert told in capsys.readouterr().out
    assert read_metadata(focused.out / "weights.safetensors").focus == Focus("person", 1.3)
    pretrain(replace(focused, out=tmp_path / "again", init=focused.out / "weights.safetensors"))
    assert "were trained on" not in capsys.readouterr().out


def test_a_transfer_that_could_not_work_is_refused_by_name(config: PretrainConfig) -> None:
    common = {"train": config.train, "val": config.val, "out": config.out}
    with pytest.raises(ValueError, match="head_only needs weights"):
        TransferRunConfig(head_only=True, **common)
    with pytest.raises(ValueError, match="backbone must be one of"):
        TransferRunConfig(backbone="nosuch", **common)


def test_transfer_takes_the_backbone_and_makes_a_new_head(finished: PretrainConfig, tmp_path: Path) -> None:
    weights = finished.out / "weights.safetensors"
    common = {
        "train": finished.train,
        "val": finished.val,
        "clip": CLIP,
        "weights": weights,
        "force": True,
        "schedule": ScheduleConfig(epochs=1, batch_size=6),
    }
    run_transfer(TransferRunConfig(out=tmp_path / "probe", head_only=True, **common))
    source, metadata = load_weights(weights)
    probe, probe_metadata = load_weights(tmp_path / "probe" / "weights.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(source.backbone.buffers(), probe.backbone.buffers(), strict=True))
    assert all(
        torch.equal(a, b) for a, b in zip(source.backbone.parameters(), probe.backbone.parameters(), strict=True)
    )
    assert not torch.equal(source.head[1].weight, probe.head[1].weight)
    assert probe_metadata.trained_on == (*metadata.trained_on, *metadata.trained_on)
    run_transfer(TransferRunConfig(out=tmp_path / "all", **common))
    tuned, _ = load_weights(tmp_path / "all" / "weights.safetensors")
    assert not torch.equal(next(source.backbone.parameters()), next(tuned.backbone.parameters()))


def test_evaluation_cuts_clips_as_training_did_and_agrees_with_its_last_result(
    finished: PretrainConfig, tmp_path: Path
) -> None:
    weights = finished.out / "weights.safetensors"
    evaluate(EvaluateConfig(weights=weights, data=(finished.val,), json=tmp_path / "e.json"))
    numbers = json.loads((tmp_path / "e.json").read_text())[str(finished.val)]
    assert numbers == pytest.approx(json.loads((finished.out / "result.json").read_text())["final"])
    with pytest.raises(UserError, match="train"):
        evaluate(EvaluateConfig(weights=weights, data=(finished.train,)))
    evaluate(EvaluateConfig(weights=weights, data=(finished.val,), hide_humans="white", json=tmp_path / "hidden.json"))
    hidden = json.loads((tmp_path / "hidden.json").read_text())[str(finished.val)]
    assert hidden["entropy"] != numbers["entropy"]


def make_dataset(directory: Path, sample: Callable, classes: tuple[str, ...], count: int = 8, **options) -> Path:
    write_samples(directory, (sample(number, **options) for number in range(40, 40 + count)), classes, dataset="other")
    return directory


def test_unfit_inputs_are_refused_in_one_sentence_and_leave_nothing(
    config: PretrainConfig, tmp_path: Path, synthetic_sample: Callable
) -> None:
    classes = ("clap", "jump", "wave")
    other = make_dataset(tmp_path / "other", synthetic_sample, ("clap", "jump", "wave", "sit"))
    maskless = make_dataset(tmp_path / "maskless", synthetic_sample, classes, masks=False)
    sceneless = make_dataset(tmp_path / "sceneless", synthetic_sample, classes, scene=False)
    alone, swapped = ObjectiveConfig(name="baseline"), ComposeConfig(compose=("background_swap",))
    refused = {
        "no-such is not a packed data set": replace(config, train=tmp_path / "no-such"),
        "other has other classes.* adds sit": replace(config, val=other),
        "the very clips of": replace(config, val=config.train),
        "maskless has none.*--masks": replace(config, train=maskless),
        "sceneless has scene labels for 0 of its 8 clips.*--scenes": replace(config, train=sceneless),
        "two for each of 1 processes": replace(config, schedule=ScheduleConfig(batch_size=1)),
        "background_swap needs human masks.*maskless": replace(
            config, train=maskless, objective=alone, compose=swapped
        ),
        "in groups of 2 that are composed": replace(config, schedule=ScheduleConfig(batch_size=1), compose=swapped),
        "--consistency compares clips": replace(config, objective=replace(alone, consistency=1.0)),
        "whole_frame_mean is a colour of clips as they are": replace(
            config, objective=ObjectiveConfig(fill="whole_frame_mean"), compose=swapped
        ),
        "not of those with other colours: give none of --rand-augment, --jitter": replace(
            config, objective=ObjectiveConfig(fill="whole_frame_mean"), augment=AugmentConfig(grey_probability=0.2)
        ),
        "no-weights": replace(config, init=tmp_path / "no-weights.safetensors"),
        "--compile knows no second derivatives.*--albar-penalty 0": replace(
            config, objective=ObjectiveConfig(name="albar"), arithmetic=ArithmeticConfig(compile=True)
        ),
        "--sync-batch-norm knows no second derivatives.*--albar-penalty 0": replace(
            config, objective=ObjectiveConfig(name="albar"), arithmetic=ArithmeticConfig(sync_batch_norm=True)
        ),
    }
    for words, unfit in refused.items():
        with pytest.raises(UserError, match=words):
            pretrain(unfit)
        assert not config.out.exists(), words


def test_the_mean_of_the_whole_frame_reaches_training_and_the_estimate_of_statistics(config: PretrainConfig) -> None:
    """Both have loaders of their own; a batch without the means would end the run."""
    pretrain(replace(config, objective=ObjectiveConfig(fill="whole_frame_mean", mask_cover="boxes")))
    assert RunFolder(config.out).is_complete


def test_without_its_penalty_albar_needs_no_second_derivatives_and_never_masks_or_scenes(
    config: PretrainConfig, tmp_path: Path, synthetic_sample: Callable
) -> None:
    bare = make_dataset(tmp_path / "bare", synthetic_sample, ("clap", "jump", "wave"), masks=False, scene=False)
    pretrain(
        replace(
            config,
            train=bare,
            objective=ObjectiveConfig(name="albar", albar_penalty=0.0),
            arithmetic=ArithmeticConfig(sync_batch_norm=True),
        )
    )
    assert {entry["still_penalty"] for entry in step_lines(config.out)} == {0}


def test_weights_of_another_architecture_are_refused_by_name(finished: PretrainConfig, tmp_path: Path) -> None:
    unfit = replace(
        finished,
        out=tmp_path / "next",
        init=finished.out / "weights.safetensors",
        model=ModelConfig(backbone="r3d_18"),
    )
    with pytest.raises(UserError, match=r"weights\.safetensors.*small3d.*r3d_18|weights\.safetensors.*r3d_18.*small3d"):
        pretrain(unfit)
    assert not unfit.out.exists()


def test_a_run_never_mixes_with_other_files_or_takes_a_file_s_place(
    config: PretrainConfig, tiny_dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    for out, words in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "below", "cannot be created"),
        (tiny_dataset, "holds other files"),
    ):
        before = sorted(path.name for path in out.iterdir()) if out.is_dir() else None
        with pytest.raises(UserError, match=words):
            pretrain(replace(config, out=out))
        assert before is None or before == sorted(path.name for path in out.iterdir())


def test_clips_too_small_for_the_network_are_refused_before_anything_is_written(config: PretrainConfig) -> None:
    with pytest.raises(UserError, match="small3d cannot work on --frames 1 of --size 32"):
        pretrain(replace(config, clip=ClipConfig(frames=1, size=32)))
    assert not config.out.exists()


def test_after_a_failure_before_the_first_checkpoint_the_corrected_command_starts_anew(config: PretrainConfig) -> None:
    with pytest.raises(UserError, match="is not finite"):
        pretrain(replace(config, optimization=OptimizationConfig(learning_rate=1e30)))
    pretrain(config)
    assert [entry["global_step"] for entry in step_lines(config.out)] == list(range(6))


def test_a_damaged_result_is_named_and_lost_weights_are_written_again(config: PretrainConfig) -> None:
    pretrain(config)
    weights = config.out / "weights.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    pretrain(config)
    assert weights.read_bytes() == content
    (config.out / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"result\.json is damaged"):
        pretrain(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("batch_size", 0), ("repeated_augmentation", 0), ("repeated_augmentation", 3), ("seed", -1)],
)
def test_impossible_schedules_are_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        ScheduleConfig(**{field: value})


def test_steps_without_any_effective_mask_leave_a_mask_run_a_baseline_run(
    config: PretrainConfig, tmp_path: Path, synthetic_sample: Callable
) -> None:
    """Not even momentum or weight decay may act where nothing is to be learned from the masked clips."""
    few = make_dataset(tmp_path / "few", synthetic_sample, ("clap", "jump", "wave"))
    common = replace(
        config,
        train=few,
        clip=ClipConfig(frames=16, size=32),
        optimization=OptimizationConfig(learning_rate=0.01, weight_decay=0.1),
    )
    mask = ObjectiveConfig(name="mask", min_person_share=1.0, mask_step="alternate")
    pretrain(replace(common, out=tmp_path / "baseline", objective=ObjectiveConfig(name="baseline")))
    pretrain(replace(common, out=tmp_path / "mask", objective=mask))
    assert all(entry["effective_share"] == 0 for entry in step_lines(tmp_path / "mask"))
    assert same_weights(tmp_path / "baseline", tmp_path / "mask")

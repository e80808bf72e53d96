"""Training in several processes: the same numbers as in one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import tyro

from scenebias.evaluate import EvaluateConfig
from scenebias.evaluate import main as evaluate
from scenebias.models.weights import load_weights
from scenebias.pretrain import PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.transfer.run import TransferRunConfig, run_transfer
from tests.forked import run_command, run_in_ranks

CLIPS = ["--frames", "8", "--size", "32", "--batch-size", "7"]  # two processes have shares of different sizes


def parsed(config_type: Any, *arguments: object) -> Any:
    return tyro.cli(config_type, args=[*map(str, arguments)], config=(tyro.conf.OmitArgPrefixes,))


def steps_of(out: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["kind"] == "step"]


@pytest.fixture(scope="module")
def two_process_run(tiny_dataset: Path, tiny_test_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A debiasing run in two processes."""
    out = tmp_path_factory.mktemp("two") / "run"
    options = [*CLIPS, "--backbone", "small3d", "--epochs", 2, "--learning-rate", 0.05]
    places = ("--train", tiny_dataset, "--val", tiny_test_dataset, "--out", out)
    run_in_ranks(out.parent, 2, run_command, "scenebias.pretrain", [*options, *places])
    return out


def test_what_two_processes_measured_is_what_their_weights_do(
    two_process_run: Path, tiny_test_dataset: Path, tmp_path: Path
) -> None:
    """Every rank's BatchNorm sees other clips: the statistics must be shared before the last evaluation."""
    weights = two_process_run / "weights.safetensors"
    evaluate(EvaluateConfig(weights=weights, data=(tiny_test_dataset,), json=tmp_path / "e.json"))
    numbers = json.loads((tmp_path / "e.json").read_text())[str(tiny_test_dataset)]
    assert numbers == pytest.approx(json.loads((two_process_run / "result.json").read_text())["final"], abs=1e-5)
    assert numbers["clips"] == 7


def test_two_processes_train_the_same_head_as_one_where_no_batch_statistics_are_in_the_way(
    two_process_run: Path, tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path
) -> None:
    weights = two_process_run / "weights.safetensors"
    places = ["--train", tiny_dataset, "--val", tiny_test_dataset, "--weights", weights]
    options = [*places, *CLIPS, "--head-only", "--force", "--epochs", 3, "--learning-rate", 0.5]
    run_transfer(parsed(TransferRunConfig, *options, "--out", tmp_path / "1"))
    run_in_ranks(tmp_path, 2, run_command, "scenebias.transfer.command", [*options, "--out", tmp_path / "2"])
    one, two = (load_weights(tmp_path / count / "weights.safetensors")[0].head for count in "12")
    torch.testing.assert_close(two.state_dict(), one.state_dict(), rtol=1e-4, atol=1e-6)
    for a, b in zip(steps_of(tmp_path / "1"), steps_of(tmp_path / "2"), strict=True):
        assert a["action_loss"] == pytest.approx(b["action_loss"], rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        [
            "--mask-step",
            "alternate",
            "--mask-loss",
            "released",
            "--masked-batch-norm",
            "separate",
            "--head-warmup-epochs",
            "1",
        ],
        ["--mask-step", "joint", "--masked-batch-norm", "frozen", "--alpha-schedule", "dann", "--recompute"],
        ["--mask-loss", "adversarial", "--scene-adversary", "conditional"],
        ["--compose", "background_swap", "mixup", "--compose-probability", "0.5", "0.5", "--consistency", "0.1"],
        [
            *(
                "--crop-area",
                "0.2",
                "1.0",
                "--stride-range",
                "1",
                "2",
                "--repeated-augmentation",
                "2",
                "--batch-size",
                "12",
            ),
            *("--rand-augment", "2", "--jitter-hue", "0.1", "--erasing-probability", "0.5"),
            *("--compose", "mixup", "--compose-probability", "1.0"),
        ],
        ["--masked-batch-norm", "both", "--mask-cover", "boxes", "--scene-adversary", "weighted"],
    ],
    ids=[
        "two updates a step, heads first",
        "one update a step",
        "one batch",
        "composed clips",
        "augmented clips, each twice",
        "one batch by both statistics",
    ],
)
def test_with_synced_batch_norm_two_processes_lose_as_one_does_step_by_step(
    options: list[str], tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path
) -> None:
    places = ["--train", tiny_dataset, "--val", tiny_test_dataset]
    common = [*places, *CLIPS, "--backbone", "small3d", "--epochs", 2, "--learning-rate", 0.02, "--sync-batch-norm"]
    pretrain(parsed(PretrainConfig, *common, *options, "--out", tmp_path / "1"))
    run_in_ranks(tmp_path, 2, run_command, "scenebias.pretrain", [*common, *options, "--out", tmp_path / "2"])
    steps, steps_of_two = steps_of(tmp_path / "1"), steps_of(tmp_path / "2")
    assert len(steps) == 4
    for one, two in zip(steps, steps_of_two, strict=True):
        for name in ("action_loss", "scene_loss", "masked_entropy", "gradient_norm"):
            assert two[name] == pytest.approx(one[name], rel=1e-3), name

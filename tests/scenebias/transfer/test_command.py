"""The transfer command: every start on every pair, kept where finished, and one table."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dali_pipelines import ClipConfig, ProtocolConfig
from scenebias.evaluation.prediction_file import load_predictions
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.weights import WeightsMetadata, load_weights, save_weights
from scenebias.training.schedule import ScheduleConfig
from scenebias.transfer.command import COMMAND, TransferConfig
from scenebias.transfer.command import main as transfer
from shards.errors import UserError
from tests.forked import run_command, run_in_ranks
from tools.trials.ready_samples import write_samples

CLASSES = ("clap", "jump", "wave")
SPLITS = ("1", "2")


def pack(folder: Path, sample: Callable, split: str, subset: str, numbers: range) -> str:
    samples = (sample(number, 16 + 3 * (number % 4)) for number in numbers)
    write_samples(folder, samples, CLASSES, dataset="moves", split=split, subset=subset)
    return str(folder)


def pretrained(folder: Path, objective: str, seed: int) -> Path:
    """Weights of a small network that say to come from a pretraining run."""
    folder.mkdir(parents=True)
    model = ActionModel(ModelConfig(backbone="small3d"), 4)
    configuration = {"objective": {"objective": objective}, "schedule": {"seed": seed}}
    classes = ("run", "sit", "stand", "turn")
    metadata = WeightsMetadata(backbone="small3d", classes=classes, trained_on=(), configuration=configuration)
    save_weights(folder / "weights.safetensors", model, metadata)
    return folder / "weights.safetensors"


def test_clips_are_those_of_the_network_that_is_named_or_of_that_of_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clip(*said: object) -> ClipConfig:
        places = ("--train", "a", "--val", "b", "--out", "c")
        return COMMAND.read([*places, *map(str, said)])[0].clip

    weights = pretrained(tmp_path / "run", "baseline", 0)
    video_transformer = ClipConfig(frames=32, stride=2, size=224)
    assert clip("--weights", weights) == ClipConfig()
    assert clip("--weights", tmp_path / "missing") == ClipConfig()
    assert clip("--weights", weights, "--backbone", "swin3d_s") == video_transformer
    monkeypatch.setattr(
        "scenebias.transfer.command.read_metadata",
        lambda _: WeightsMetadata(backbone="swin3d_t", classes=("a",), trained_on=()),
    )
    assert clip("--weights", weights, weights) == video_transformer


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, synthetic_sample: Callable) -> TransferConfig:
    """Two seeds of one objective and one of another, on two splits."""
    folder = tmp_path_factory.mktemp("transfer")
    train, val = (
        tuple(
            pack(folder / f"{subset}{split}", synthetic_sample, split, subset, range(first + 20 * at, last + 20 * at))
            for at, split in enumerate(SPLITS)
        )
        for subset, first, last in (("train", 0, 6), ("test", 10, 17))
    )
    weights = [("baseline", 0), ("baseline", 1), ("debias", 0)]
    return TransferConfig(
        weights=tuple(pretrained(folder / f"{objective}{seed}", objective, seed) for objective, seed in weights),
        scratch=True,
        train=train,
        val=val,
        out=folder / "out",
        clip=ClipConfig(frames=8, size=32),
        schedule=ScheduleConfig(epochs=1, batch_size=6, seed=5),
    )


@pytest.fixture(scope="module")
def finished(config: TransferConfig) -> TransferConfig:
    transfer(config)
    return config


def test_the_table_has_every_row_with_its_seeds_and_every_split(finished: TransferConfig) -> None:
    results = json.loads((finished.out / "results.json").read_text())
    assert [(cell["row"], cell["target"], cell["seeds"], cell["splits"]) for cell in results["table"]] == [
        ("from scratch", "moves", 2, ["1", "2"]),
        ("baseline", "moves", 2, ["1", "2"]),
        ("debias", "moves", 1, ["1", "2"]),
    ]
    assert len(results["runs"]) == 5 * 2
    for run in results["runs"]:
        final = json.loads((Path(run["folder"]) / "result.json").read_text())["final"]
        assert {name: run[name] for name in final} == pytest.approx(final, abs=1e-6)
        assert run["clips"] == 7
        assert len(set(load_predictions(Path(run["folder"]) / "predictions.npz").clip_names)) == 7
    assert (finished.out / "results.html").exists()


def test_every_run_has_a_folder_of_its_own_and_the_second_of_a_row_the_next_seed(finished: TransferConfig) -> None:
    for split in SPLITS:
        folders = sorted(path for path in (finished.out / f"moves-{split}").iterdir())
        seeds = {}
        for folder in folders:
            record = json.loads((folder / "run.json").read_text())["configuration"]
            seeds[folder.name.rsplit("-", 1)[0] if "seed" in folder.name else folder.name] = record["schedule"]["seed"]
        assert seeds == {"baseline-seed0": 5, "baseline-seed1": 6, "debias-seed0": 5, "scratch-0": 5, "scratch-1": 6}


def test_finished_runs_are_kept_lost_ones_made_again_and_new_weights_added(
    finished: TransferConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(finished.out, tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    lost = next(path for path in before if "debias" in str(path))
    lost.unlink()
    more = replace(finished, out=out, weights=(*finished.weights, pretrained(tmp_path / "more", "debias", 1)))
    transfer(more)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    assert len(after) == len(before) + 2
    assert {path for path in before if after[path] == before[path]} == set(before) - {lost}
    assert capsys.readouterr().out.count("is complete already") == len(before) - 1
    table = json.loads((out / "results.json").read_text())["table"]
    assert [cell["seeds"] for cell in table] == [2, 2, 2]


def test_one_start_on_one_pair_is_a_run_in_the_folder_itself(finished: TransferConfig, tmp_path: Path) -> None:
    alone = replace(
        finished,
        scratch=False,
        weights=finished.weights[:1],
        train=finished.train[:1],
        val=finished.val[:1],
        out=tmp_path,
    )
    transfer(alone)
    (among,) = (finished.out / "moves-1").glob("baseline-seed0-*")
    one, other = (load_weights(folder / "weights.safetensors")[0].state_dict() for folder in (tmp_path, among))
    assert all(one[name].equal(other[name]) for name in one)
    assert [cell["row"] for cell in json.loads((tmp_path / "results.json").read_text())["table"]] == ["baseline"]
    with pytest.raises(UserError, match="holds a single run: choose another folder"):
        transfer(replace(finished, out=tmp_path))
    with pytest.raises(UserError, match="holds other files"):
        transfer(replace(alone, out=finished.out))


def test_what_cannot_work_is_refused_before_anything_is_trained(config: TransferConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="no such weight file"):
        transfer(replace(config, out=out, weights=(*config.weights, tmp_path / "none.safetensors")))
    with pytest.raises(UserError, match="--train names 2 data sets and --val 1"):
        transfer(replace(config, out=out, val=config.val[:1]))
    assert not out.exists()
    for options in ({"scratch": True}, {"scratch": False, "weights": ()}):
        with pytest.raises(ValueError, match="head_only needs weights"):
            replace(config, head_only=True, **options)


def test_the_test_protocol_is_part_of_the_run(config: TransferConfig, tmp_path: Path) -> None:
    one = replace(config, weights=config.weights[:1], scratch=False, train=config.train[:1], val=config.val[:1])
    probabilities = []
    for protocol in (ProtocolConfig(), ProtocolConfig(test_clips=2, test_crops=3)):
        run = replace(one, protocol=protocol, out=tmp_path / str(protocol.test_crops))
        transfer(run)
        probabilities.append(load_predictions(run.out / "predictions.npz").evaluation.probability_NA)
        record = json.loads((run.out / "run.json").read_text())["configuration"]["protocol"]
        assert record == vars(protocol)
    assert abs(probabilities[0] - probabilities[1]).max() > 1e-6
    with pytest.raises(UserError, match=r"another run \(protocol.test_crops was 1 and is now 3"):
        transfer(replace(one, protocol=ProtocolConfig(test_crops=3), out=tmp_path / "1"))


def test_two_processes_make_all_runs_and_count_every_clip_once(config: TransferConfig, tmp_path: Path) -> None:
    """The backbone is frozen, so that the batch statistics of the ranks are not in the way."""
    options = ["--frames", 8, "--size", 32, "--epochs", 1, "--batch-size", 6, "--seed", 5, "--head-only"]
    places = ["--weights", *config.weights[1:], "--train", *config.train, "--val", *config.val]
    run_in_ranks(tmp_path, 2, run_command, "scenebias.transfer.command", [*places, *options, "--out", tmp_path / "two"])
    transfer(replace(config, weights=config.weights[1:], scratch=False, head_only=True, out=tmp_path / "one"))
    two, one = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("two", "one"))
    assert len(two["runs"]) == 4
    for a, b in zip(two["runs"], one["runs"], strict=True):
        assert (a["row"], a["split"], a["clips"]) == (b["row"], b["split"], 7)
        assert a["action_loss"] == pytest.approx(b["action_loss"], rel=1e-4)

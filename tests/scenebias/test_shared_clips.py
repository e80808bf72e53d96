"""From pretraining to its measures: clips of both training and test are told, and data of one name may be disjoint."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dali_pipelines import ClipConfig
from scenebias.bias.command import BiasConfig
from scenebias.bias.command import main as bias
from scenebias.evaluate import EvaluateConfig
from scenebias.evaluate import main as evaluate
from scenebias.models.action_model import ModelConfig
from scenebias.pretrain import PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.training.schedule import ScheduleConfig
from scenebias.transfer.command import TransferConfig
from scenebias.transfer.command import main as transfer
from shards.errors import UserError
from tools.trials.ready_samples import write_samples

CLASSES = ("clap", "jump", "wave")
CLIP, SHORT = ClipConfig(frames=8, size=32), ScheduleConfig(epochs=1, batch_size=4)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, synthetic_sample: Callable) -> Callable[..., str]:
    """A function that packs clips by their numbers, under the names that a CSV file has by default."""

    def make(*numbers: int) -> str:
        folder = tmp_path_factory.mktemp("packed") / "data"
        write_samples(folder, map(synthetic_sample, numbers), CLASSES, dataset="csv", split="1", subset="all")
        return str(folder)

    return make


@pytest.fixture(scope="module")
def finished(packed: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    """A run on clips 0 to 5, whose validation clips are 6 to 8, which no test may change."""
    config = PretrainConfig(
        train=packed(*range(6)),
        val=packed(6, 7, 8),
        out=tmp_path_factory.mktemp("finished") / "run",
        clip=CLIP,
        model=ModelConfig(backbone="small3d"),
        schedule=SHORT,
    )
    pretrain(config)
    return config


def weights_of(config: PretrainConfig) -> Path:
    return config.out / "weights.safetensors"


def test_disjoint_data_of_one_name_are_measured_and_trained_on_without_a_word(
    finished: PretrainConfig, packed: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(EvaluateConfig(weights=weights_of(finished), data=(finished.val,)))
    pretrain(replace(finished, train=packed(10, 11, 12, 13), init=weights_of(finished), out=tmp_path / "stage"))
    printed = capsys.readouterr().out
    assert not [word for word in ("trained on", "shares", "by name") if word in printed]


def test_a_clip_of_both_is_told_by_pretraining_and_refused_by_its_measures(
    finished: PretrainConfig, packed: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaking = replace(finished, val=packed(5, 6, 0, 7), out=tmp_path / "run")
    pretrain(leaking)
    assert (
        f"--val {leaking.val} shares 2 of its 4 clips (wave/clip05, clap/clip00) with --train {leaking.train}"
        in capsys.readouterr().out
    )
    refused = r"trained on 2 of its 4 clips \(wave/clip05, clap/clip00\); .*--force"
    config = EvaluateConfig(weights=weights_of(leaking), data=(leaking.val,))
    with pytest.raises(UserError, match=refused):
        evaluate(config)
    evaluate(replace(config, force=True))
    assert "all the same (--force): the weights were trained on 2 of its 4 clips" in capsys.readouterr().out
    of_models = BiasConfig(train=finished.train, val=leaking.val, weights=(weights_of(finished),))
    with pytest.raises(UserError, match=refused):
        bias(of_models)
    bias(replace(of_models, weights=()))
    assert "shares 2 of its 4 clips" in capsys.readouterr().out


def test_what_was_seen_before_a_transfer_is_not_forgotten_by_it(
    finished: PretrainConfig, packed: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TransferConfig(
        weights=(weights_of(finished),),
        train=(packed(20, 21, 22, 23),),
        val=(packed(23, 24, 25),),
        out=tmp_path / "transfer",
        clip=CLIP,
        schedule=SHORT,
    )
    with pytest.raises(UserError, match=r"trained on 1 of its 3 clips \(jump/clip04\)"):
        transfer(replace(config, val=(packed(24, 4, 25),)))
    assert not config.out.exists()
    transfer(config)
    assert "shares 1 of its 3 clips (wave/clip23)" in capsys.readouterr().out
    tuned = EvaluateConfig(weights=config.out / "weights.safetensors", data=(packed(3, 24, 20),))
    with pytest.raises(UserError, match=r"trained on 2 of its 3 clips \(clap/clip03, wave/clip20\)"):
        evaluate(tuned)
    evaluate(replace(tuned, data=(packed(24, 25),)))

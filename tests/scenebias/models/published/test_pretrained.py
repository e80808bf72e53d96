"""Published weights in place of weight files: random ones, saved as torchvision publishes them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model, get_model_weights

from dali_pipelines import ClipConfig
from scenebias.bias.command import BiasConfig, load_models
from scenebias.evaluate import EvaluateConfig
from scenebias.evaluate import main as evaluate
from scenebias.models.action_model import ModelConfig
from scenebias.models.published.pretrained import weight_files
from scenebias.models.published.torchvision_weights import TRAINED_ON, load_published
from scenebias.models.weights import load_weights, read_metadata
from scenebias.predict import PredictConfig
from scenebias.predict import main as predict
from scenebias.pretrain import COMMAND as PRETRAIN
from scenebias.pretrain import PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.training.schedule import ScheduleConfig
from scenebias.transfer.command import COMMAND as TRANSFER
from scenebias.transfer.command import TransferConfig
from scenebias.transfer.command import main as transfer
from shards.dataset import ShardDataset
from shards.errors import UserError
from tests.scenebias.random_weights import pretrained
from tools.trials.ready_samples import write_samples

NETWORK = "mc3_18"
PUBLISHED = get_model_weights(NETWORK)["KINETICS400_V1"]
CLASSES = tuple(PUBLISHED.meta["categories"])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What torchvision publishes, but for the numbers."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("published") / "mc3_18.pth"
    torch.save(get_model(NETWORK).state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache, of all tests of this module."""
    folder = tmp_path_factory.getbasetemp() / "hub-of-published"
    before = torch.hub.get_dir()
    torch.hub.set_dir(folder)
    yield folder
    torch.hub.set_dir(before)


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory: pytest.TempPathFactory, synthetic_sample: Callable) -> dict[str, Path]:
    """Packed clips with the classes of Kinetics-400, by their subset."""
    folders = {}
    for subset, numbers in (("train", range(4)), ("val", range(10, 13))):
        folders[subset] = tmp_path_factory.mktemp("kinetics") / subset
        samples = (synthetic_sample(number, 20) for number in numbers)
        write_samples(folders[subset], samples, CLASSES, dataset="kinetics400", subset=subset)
    return folders


def test_they_become_a_weight_file_of_ours_once(file: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ours,) = weight_files((file,), "kinetics400", NETWORK, "--weights")
    assert hub in ours.parents
    assert ours.parent.name == f"kinetics400-{NETWORK}"
    model, metadata = load_weights(ours)
    expected = load_published(NETWORK, file, "--weights")
    torch.testing.assert_close(model.state_dict(), expected.model.state_dict(), rtol=0, atol=0)
    assert (metadata.classes, metadata.trained_on) == (CLASSES, (TRAINED_ON,))
    monkeypatch.setattr("scenebias.models.published.pretrained.load_published", None)
    assert weight_files((file,), "kinetics400", NETWORK, "--weights") == (ours,)


def test_without_a_file_of_torchvision_s_it_is_downloaded_and_comes_last(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def download(url: str, **_: object) -> dict[str, torch.Tensor]:
        asked.append(url)
        return torch.load(file, weights_only=True)

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    own = tmp_path / "weights.safetensors"
    for _ in range(2):
        first, last = weight_files((own,), "kinetics400", NETWORK, "--weights")
        assert first == own
        assert Path(PUBLISHED.url).stem in str(last)
        assert read_metadata(last).trained_on == (TRAINED_ON,)
    assert asked == [PUBLISHED.url]
    assert weight_files((own,), None, None, "--weights") == (own,)


@pytest.mark.parametrize("network", ["small3d", "resnet3d_18_a", "package.module:function", None])
def test_a_network_of_which_none_are_published_is_refused(network: str | None, file: Path) -> None:
    with pytest.raises(UserError, match=r"^--pretrained kinetics400 are weights of torchvision's.*--backbone.*r3d_18"):
        weight_files((file,), "kinetics400", network, "--weights")


@pytest.mark.parametrize("config", [EvaluateConfig, PredictConfig, BiasConfig])
def test_a_network_that_nothing_asks_for_is_refused(config: type) -> None:
    places = {
        EvaluateConfig: {"data": ("d",)},
        PredictConfig: {"video": Path("v.mp4")},
        BiasConfig: {"train": "t", "val": "v"},
    }[config]
    config(backbone="package.module:function", **places)
    config(backbone=NETWORK, pretrained="kinetics400", **places)
    with pytest.raises(ValueError, match=r"^backbone must be package.module:function without pretrained.*'mc3_18'"):
        config(backbone=NETWORK, **places)


def test_another_network_and_a_missing_file_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--init .*mc3_18.pth: .* do not fit torchvision's r3d_18"):
        weight_files((file,), "kinetics400", "r3d_18", "--init")
    with pytest.raises(UserError, match=r"--init .*absent.pth: no such file"):
        weight_files((tmp_path / "absent.pth",), "kinetics400", NETWORK, "--init")


def test_kinetics_is_evaluated_and_predicted_with_no_training_at_all(
    file: Path,
    kinetics: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    options = {"weights": file, "pretrained": "kinetics400", "backbone": NETWORK}
    evaluate(EvaluateConfig(data=(str(kinetics["val"]),), json=tmp_path / "e.json", **options))
    assert json.loads((tmp_path / "e.json").read_text())[str(kinetics["val"])]["clips"] == 3
    with pytest.raises(UserError, match=r"cannot evaluate on kinetics400 .* train: .*trained on kinetics400 1 train"):
        evaluate(EvaluateConfig(data=(str(kinetics["train"]),), **options))
    asked = []
    monkeypatch.setattr("scenebias.predict._tell_actions", lambda config, weights, focus: asked.append(weights))
    predict(PredictConfig(video=tmp_path / "video.mp4", **options))
    assert read_metadata(asked[0]).classes == CLASSES
    for command in (lambda: evaluate(EvaluateConfig(data=("d",))), lambda: predict(PredictConfig(video=file))):
        with pytest.raises(UserError, match=r"^--weights must be given, or --pretrained"):
            command()


def test_the_bias_of_published_weights_is_measured_beside_others(
    file: Path, kinetics: dict[str, Path], tmp_path: Path
) -> None:
    clip = ClipConfig(frames=16, stride=2, size=112)
    other = pretrained(tmp_path / "other", "baseline", 0, clip, CLASSES)
    config = BiasConfig(
        train=str(kinetics["train"]),
        val=str(kinetics["val"]),
        weights=(other, file),
        pretrained="kinetics400",
        backbone=NETWORK,
    )
    cut, models = load_models(config, *(ShardDataset.open(kinetics[subset]) for subset in ("train", "val")))
    assert list(models) == ["other", f"kinetics400-{NETWORK}"]
    assert (cut.frames, cut.stride, cut.size) == (16, 2, 112)
    assert BiasConfig(train="a", val="b", weights=(other,), pretrained="kinetics400", html=tmp_path / "page.html")


@pytest.fixture
def config(tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path, file: Path) -> PretrainConfig:
    return PretrainConfig(
        train=str(tiny_dataset),
        val=str(tiny_test_dataset),
        out=tmp_path / "run",
        clip=ClipConfig(frames=4, size=32),
        model=ModelConfig(backbone=NETWORK),
        schedule=ScheduleConfig(epochs=1, batch_size=12),
        init=file,
        pretrained="kinetics400",
    )


def test_pretraining_starts_from_them_with_a_head_for_its_own_classes(config: PretrainConfig, file: Path) -> None:
    config = replace(config, optimization=replace(config.optimization, learning_rate=1e-12))
    pretrain(config)
    model, metadata = load_weights(config.out / "weights.safetensors")
    assert metadata.classes == ("clap", "jump", "wave")
    assert [seen.dataset for seen in metadata.trained_on] == ["kinetics400", "synthetic"]
    published = load_published(NETWORK, file, "--init").model
    for name, parameter in model.backbone.named_parameters():
        torch.testing.assert_close(parameter, published.backbone.get_parameter(name), rtol=0, atol=1e-6)
    pretrain(config)  # complete already
    with pytest.raises(UserError, match=r"initial_weights_sha256"):
        pretrain(replace(config, pretrained=None, init=None))


def test_their_own_head_comes_with_them_where_the_classes_are_theirs(
    config: PretrainConfig, kinetics: dict[str, Path], file: Path
) -> None:
    places = {"train": str(kinetics["train"]), "val": str(kinetics["val"])}
    config = replace(config, **places, optimization=replace(config.optimization, learning_rate=1e-12))
    pretrain(replace(config, schedule=ScheduleConfig(epochs=1, batch_size=4)))
    model, _ = load_weights(config.out / "weights.safetensors")
    published = load_published(NETWORK, file, "--init").model
    torch.testing.assert_close(model.head.state_dict(), published.head.state_dict(), rtol=0, atol=1e-6)


def test_a_weight_file_of_ours_is_not_taken_for_torchvision_s(config: PretrainConfig, tmp_path: Path) -> None:
    weights = pretrained(tmp_path / "ours", "baseline", 0, ClipConfig())
    (folder,) = {path.parent for path in weight_files((config.init,), "kinetics400", NETWORK, "--init")}
    assert folder.is_dir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scenebias.models.published.pretrained._as_ours", lambda *_: folder / "weights.safetensors")
        with pytest.raises(UserError, match=r"--init .* is no file of torchvision's: leave out --pretrained"):
            pretrain(replace(config, init=weights))


def test_transfer_starts_from_them_beside_other_weights(config: PretrainConfig, tmp_path: Path, file: Path) -> None:
    transfer(
        TransferConfig(
            weights=(file,),
            pretrained="kinetics400",
            backbone=NETWORK,
            train=(config.train,),
            val=(config.val,),
            out=tmp_path / "tuned",
            clip=config.clip,
            head_only=True,
            schedule=ScheduleConfig(epochs=1, batch_size=12),
        )
    )
    results = json.loads((tmp_path / "tuned" / "results.json").read_text())
    assert [run["row"] for run in results["runs"]] == [f"kinetics400-{NETWORK}"]


@pytest.mark.parametrize("command", [PRETRAIN, TRANSFER])
def test_clips_are_by_default_as_fast_as_those_that_they_were_trained_on(command: object) -> None:
    said = ("--train", "a", "--val", "b", "--out", "c", "--pretrained", "kinetics400", "--backbone")
    assert command.read((*said, "r3d_18"))[0].clip == ClipConfig(stride=2)
    assert command.read((*said, "s3d"))[0].clip == ClipConfig(frames=64, stride=2, size=224)
    assert command.read((*said, "mvit_v2_s", "--stride", "1"))[0].clip == ClipConfig(size=224)

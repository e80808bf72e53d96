"""Backbones of users' own code: trained, saved and loaded like ours, and never run because a file names them."""

import json
import re
from collections.abc import Callable
from importlib import import_module, util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import scenebias
from dali_pipelines import ClipConfig
from scenebias.bias.command import BiasConfig
from scenebias.bias.command import main as bias
from scenebias.evaluate import EvaluateConfig
from scenebias.evaluate import main as evaluate
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.own_network import OwnBackbone, own_backbone
from scenebias.models.weights import WeightsMetadata, load_weights, read_metadata, save_weights
from scenebias.predict import PredictConfig
from scenebias.predict import main as predict
from scenebias.pretrain import PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.run_folder.record import plain
from scenebias.training.schedule import ScheduleConfig
from scenebias.transfer.command import TransferConfig
from scenebias.transfer.command import main as transfer
from shards.errors import UserError
from tests.project import ROOT

CLIP = ClipConfig(frames=4, size=16)
MODULE = '''
from torch import nn

class Patches(nn.Module):
    """A transformer over patches without any BatchNorm, of any clip."""
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv3d(3, 8, (2, 8, 8), (2, 8, 8))
        self.mixer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
    def forward(self, clip):
        return self.mixer(self.patches(clip).flatten(2).transpose(1, 2)).mean(dim=1)

def a_map():
    return nn.Sequential(nn.Conv3d(3, 6, 4, 4), nn.BatchNorm3d(6), nn.ReLU())

def tokens():
    return nn.Sequential(nn.Conv3d(3, 6, 4, 4), nn.Flatten(start_dim=2))

def a_dictionary():
    class Wrapped(nn.Module):
        def forward(self, clip):
            return {"features": clip}
    return Wrapped()

def of_other_clips():
    return nn.Sequential(nn.Flatten(), nn.Linear(7, 3))
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current folder."""
    name = f"own_backbone_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_map_is_averaged_and_features_are_taken_as_they_are(module: str) -> None:
    clip_BCTHW = torch.randn(3, 3, 4, 16, 16)
    of_map, of_features = (own_backbone(f"{module}:{name}", CLIP).eval() for name in ("a_map", "Patches"))
    assert (of_map.feature_count, of_features.feature_count) == (6, 8)
    with torch.inference_mode():
        torch.testing.assert_close(of_map(clip_BCTHW), of_map.trunk(clip_BCTHW).mean(dim=(2, 3, 4)))
        assert torch.equal(of_features(clip_BCTHW), of_features.trunk(clip_BCTHW))


def test_trying_it_out_changes_neither_its_statistics_nor_the_random_numbers_to_come(module: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), nn.Conv3d(3, 4, 4, 4), nn.BatchNorm3d(4))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    backbone = OwnBackbone(network, CLIP, "it")
    assert backbone.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("tokens", r"must give features \(2, D\) .* gives a tensor \(2, 6, 16\); wrap it"),
        ("a_dictionary", r"must give features .* gives a dict"),
        ("of_other_clips", r"cannot take float32 clips \(2, 3, 4, 16, 16\) .* set --frames and --size"),
        ("absent", r"AttributeError: .*absent.*; mend it"),
    ],
)
def test_what_is_no_backbone_for_these_clips_is_told_in_a_sentence(module: str, function: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"^--backbone {module}:{function}:? {said}"):
        own_backbone(f"{module}:{function}", CLIP)


@pytest.fixture
def trained(module: str, tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path) -> PretrainConfig:
    """A run that debiases a transformer of the user's own."""
    config = PretrainConfig(
        train=str(tiny_dataset),
        val=str(tiny_test_dataset),
        out=tmp_path / "run",
        clip=CLIP,
        model=ModelConfig(backbone=f"{module}:Patches", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        schedule=ScheduleConfig(epochs=1, batch_size=4),
    )
    pretrain(config)
    return config


def test_it_is_trained_saved_and_loaded_like_ours(trained: PretrainConfig, tmp_path: Path) -> None:
    weights, name = trained.out / "weights.safetensors", trained.model.backbone
    assert read_metadata(weights).backbone == name
    assert json.loads((trained.out / "run.json").read_text())["configuration"]["model"]["backbone"] == name
    evaluate(EvaluateConfig(weights=weights, data=(trained.val,), backbone=name, json=tmp_path / "e.json"))
    found = json.loads((tmp_path / "e.json").read_text())[trained.val]
    assert found == pytest.approx(json.loads((trained.out / "result.json").read_text())["final"], abs=1e-6)
    model, classes, transform = scenebias.load(weights, backbone=name)
    assert len(classes) == 3
    assert transform.clip == CLIP
    assert model.normalise(torch.full((1, 1, 1, 1, 3), 255, dtype=torch.uint8)).flatten().tolist() == pytest.approx(
        [2, 2, 2]
    )
    tuned = TransferConfig(
        weights=(weights,),
        backbone=name,
        train=(trained.train,),
        val=(trained.val,),
        out=tmp_path / "tuned",
        clip=CLIP,
        schedule=ScheduleConfig(epochs=1, batch_size=4),
        force=True,
    )
    transfer(tuned)
    assert read_metadata(tuned.out / "weights.safetensors").backbone == name
    pretrain(trained)  # complete already
    other = load_weights(tuned.out / "weights.safetensors", name)[0]
    assert not torch.equal(other.head[1].weight, model.head[1].weight)


def test_a_network_is_refused_that_is_not_that_of_the_weights(trained: PretrainConfig, tmp_path: Path) -> None:
    weights = trained.out / "weights.safetensors"
    with pytest.raises(UserError, match=r"holds weights of own_backbone_.*:Patches, but the run is set to small3d"):
        pretrain(
            PretrainConfig(
                train=trained.train,
                val=trained.val,
                out=tmp_path / "other",
                clip=CLIP,
                model=ModelConfig(backbone="small3d"),
                init=weights,
            )
        )


EVIL = "from pathlib import Path\nPath('ran').touch()\n\ndef network():\n    raise SystemExit(9)\n"


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights that name code beside them as their network."""
    name = f"evil_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    model = ActionModel(ModelConfig(backbone="small3d"), 3)
    metadata = WeightsMetadata(
        backbone="small3d",
        classes=("clap", "jump", "wave"),
        trained_on=(),
        configuration={"clip": plain(CLIP)},
    )
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, metadata)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(
        rb"\"backbone\": \"small3d\"", rb"\"backbone\": \"%s:network\"" % name.encode()
    )
    assert name.encode() in header
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    assert read_metadata(path).backbone == f"{name}:network"
    return path


def test_no_weight_file_makes_its_reader_run_code(
    evil: Path, tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path
) -> None:
    places = {"train": (str(tiny_dataset),), "val": (str(tiny_test_dataset),), "out": tmp_path / "out"}
    readers: list[Callable[[], object]] = [
        lambda: load_weights(evil),
        lambda: load_weights(evil, "other:network"),
        lambda: scenebias.load(evil),
        lambda: evaluate(EvaluateConfig(weights=evil, data=(str(tiny_test_dataset),))),
        lambda: predict(PredictConfig(video=tmp_path / "video.mp4", weights=evil)),
        lambda: bias(BiasConfig(train=str(tiny_dataset), val=str(tiny_test_dataset), weights=(evil,))),
        lambda: transfer(TransferConfig(weights=(evil,), clip=CLIP, **places)),
        lambda: transfer(TransferConfig(weights=(evil,), scratch=True, clip=CLIP, **places)),
        lambda: pretrain(
            PretrainConfig(train=places["train"][0], val=places["val"][0], out=tmp_path / "p", init=evil, clip=CLIP)
        ),
    ]
    for number, reader in enumerate(readers):
        with pytest.raises(UserError, match=r"no file alone may run code.*--backbone evil_|holds weights of evil_"):
            reader()
        assert not (tmp_path / "ran").exists(), number
    with pytest.raises(SystemExit):  # it is the user who asks
        load_weights(evil, read_metadata(evil).backbone)
    assert (tmp_path / "ran").exists()


def readme_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that is the example of the README."""
    readme = (ROOT / "scenebias" / "training" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(# my_networks\.py.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert len(code.splitlines()) <= 20
    name = f"my_networks_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return name


class StandIn(nn.Module):
    """What the example uses of a VideoMAE of Hugging Face: from (B, T, C, H, W) to tokens (B, N, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv3d(3, 8, (2, 8, 8), (2, 8, 8))

    def forward(self, pixel_values: Tensor) -> object:
        tokens = self.patches(pixel_values.transpose(1, 2)).flatten(2).transpose(1, 2)
        return type("Output", (), {"last_hidden_state": tokens})()


def test_the_example_of_the_readme_wraps_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a plain module in place of the published network, so that it is tried without the package transformers."""
    name = readme_module(tmp_path, monkeypatch)
    wrapped = import_module(name).MeanOfTokens(StandIn())
    backbone = OwnBackbone(wrapped, CLIP, "the example")
    assert backbone.feature_count == 8
    assert backbone(torch.randn(2, 3, 4, 16, 16)).shape == (2, 8)


@pytest.mark.skipif(util.find_spec("transformers") is None, reason="the package transformers is not installed")
def test_the_example_of_the_readme_wraps_a_videomae_of_random_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import VideoMAEConfig, VideoMAEModel

    name = readme_module(tmp_path, monkeypatch)
    config = VideoMAEConfig(
        image_size=16,
        patch_size=8,
        num_frames=4,
        tubelet_size=2,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    backbone = OwnBackbone(import_module(name).MeanOfTokens(VideoMAEModel(config)), CLIP, "the example")
    assert backbone(torch.randn(2, 3, 4, 16, 16)).shape == (2, 16)

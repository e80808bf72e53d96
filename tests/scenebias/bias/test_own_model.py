"""Networks of users' own: measured as if they were ours, and refused with a sentence where that cannot be."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dali_pipelines import ClipConfig
from scenebias.bias.command import BiasConfig, main
from scenebias.models.action_model import MEAN_C, STD_C
from scenebias.models.own_model import load_own_model
from shards.dataset import ShardDataset
from shards.errors import UserError
from tests.scenebias.random_weights import pretrained

CLIP = ClipConfig(frames=4, size=32)
MODULE = '''
from pathlib import Path
from torch import nn
from scenebias.models.weights import load_weights

def ours():
    model, _ = load_weights(Path("weights.safetensors"))
    return nn.Sequential(model.backbone, model.head)

class Tokens(nn.Module):
    """A classifier of the mean of tokens, as transformers are."""
    def __init__(self):
        super().__init__()
        self.patches, self.classifier = nn.Conv3d(3, 8, 8, 8), nn.Linear(8, 3)
    def forward(self, clip):
        return self.classifier(self.patches(clip).flatten(2).transpose(1, 2)).mean(dim=1)

def no_linear():
    return nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())

def no_module():
    return 7

def of_other_classes():
    return nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 5))

def of_other_clips():
    return nn.Sequential(nn.Flatten(), nn.Linear(7, 3))

def broken():
    raise RuntimeError("no such weights")
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current folder."""
    name = f"own_network_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_the_same_network_has_the_same_bias_as_one_s_own_and_from_a_weight_file(
    module: str, plain_train: Path, plain_test: Path, tmp_path: Path
) -> None:
    classes = ShardDataset.open(plain_train).manifest.classes
    weights = pretrained(tmp_path / "run", "baseline", 0, ClipConfig(size=32), classes)
    (tmp_path / "weights.safetensors").write_bytes(weights.read_bytes())
    (tmp_path / "classes.txt").write_text("\n".join(classes))
    main(
        BiasConfig(
            train=str(plain_train),
            val=str(plain_test),
            weights=(weights,),
            model=(f"{module}:ours",),
            classes=tmp_path / "classes.txt",
            clip=ClipConfig(size=32),
            json=tmp_path / "bias.json",
        )
    )
    models = json.loads((tmp_path / "bias.json").read_text())["models"]
    own, ours = models[f"{module}:ours"], models["run"]
    assert own["reasons"] == ours["reasons"]
    for kind in ("values", "values_clean_bn"):
        assert own[kind] == pytest.approx(ours[kind], abs=1e-6)


def test_features_are_what_enters_the_last_linear_layer_averaged_over_tokens(module: str) -> None:
    model = load_own_model(f"{module}:Tokens", 3, ClipConfig(frames=8, size=32), MEAN_C, STD_C)
    clip_BTHWC = torch.randint(0, 256, (2, 8, 32, 32, 3), dtype=torch.uint8)
    network = model.network
    assert isinstance(network.patches, nn.Conv3d)
    with torch.inference_mode():
        expected_BD = network.patches(model.normalise(clip_BTHWC)).mean(dim=(2, 3, 4))
        torch.testing.assert_close(model.features(clip_BTHWC), expected_BD)
    assert model.feature_count == 8
    assert not model.training


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (":no_linear", r"runs no torch.nn.Linear"),
        (":no_module", r"makes a int, and must make a torch.nn.Module"),
        (":of_other_classes", r"must give logits \(1, 3\) for a clip, one a class, and gives \(1, 5\)"),
        (":of_other_clips", r"cannot take float32 clips \(1, 3, 4, 32, 32\) .* set --frames and --size"),
        (":broken", r"RuntimeError: no such weights; mend it"),
        (":absent", r"AttributeError: .*absent"),
        ("", r"must be package.module:function"),
        ("_absent:ours", r"ModuleNotFoundError"),
    ],
)
def test_what_is_no_network_for_these_clips_is_told_in_a_sentence(module: str, function: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_own_model(f"{module}{function}", 3, CLIP, MEAN_C, STD_C)


def test_a_network_of_other_classes_than_the_data_is_refused(
    module: str, plain_train: Path, plain_test: Path, tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text("walk\nrun\n")
    with pytest.raises(UserError, match=r"--classes .*classes.txt has other classes than"):
        main(
            BiasConfig(
                train=str(plain_train),
                val=str(plain_test),
                model=(f"{module}:ours",),
                classes=tmp_path / "classes.txt",
            )
        )


def test_classes_and_model_go_together() -> None:
    for options in ({"model": ("a:b",)}, {"classes": Path("c")}):
        with pytest.raises(ValueError, match=r"classes must be given where model is, and not without it"):
            BiasConfig(train="a", val="b", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"std must be above 0"):
        BiasConfig(train="a", val="b", std=(1.0, 0.0, 1.0))

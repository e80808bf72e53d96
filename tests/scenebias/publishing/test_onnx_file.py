"""What must hold of ONNX files: onnxruntime makes of them what PyTorch makes of the weights, for any number of clips.

Shape suffixes: B clips, T frames, H rows, W columns, C colours; A actions.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dali_pipelines import ClipConfig
from scenebias.export import COMMAND
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BackboneName
from scenebias.models.weights import WeightsMetadata, load_weights, save_weights
from scenebias.publishing import onnx_file
from scenebias.publishing.onnx_file import INPUT, OUTPUT, write_onnx
from scenebias.run_folder.record import plain
from shards.errors import UserError
from shards.system.checksums import sha256_of
from tests.commands import run_here

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX files need onnxruntime")

CLASSES = ("clap", "jump", "wave")
CLIP = ClipConfig(frames=4, stride=2, size=32)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def save_trained(path: Path, backbone: BackboneName) -> None:
    """Weights whose running statistics are no longer those that BatchNorm begins with."""
    torch.manual_seed(0)
    model = ActionModel(ModelConfig(backbone=backbone), len(CLASSES), mean_C=(0.1, 0.5, 0.9))
    with torch.no_grad():
        model(torch.randint(256, (4, 4, 32, 32, 3), dtype=torch.uint8))
    metadata = WeightsMetadata(backbone=backbone, classes=CLASSES, trained_on=(), configuration={"clip": plain(CLIP)})
    save_weights(path, model, metadata)


@pytest.mark.parametrize("backbone", ["small3d", "resnet3d_18_a"])
def test_onnxruntime_gives_the_logits_of_pytorch_for_any_number_of_clips(
    tmp_path: Path, backbone: BackboneName
) -> None:
    weights, out = tmp_path / "weights.safetensors", tmp_path / "model.onnx"
    save_trained(weights, backbone)
    difference = write_onnx(weights, out)
    assert 0 < difference < 1e-4
    session = onnxruntime.InferenceSession(out.read_bytes(), providers=["CPUExecutionProvider"])
    model = load_weights(weights)[0].eval()
    for count in (1, 2, 5):
        clip_BTHWC = np.random.default_rng(count).integers(0, 256, (count, 4, 32, 32, 3), dtype=np.uint8)
        with torch.inference_mode():
            expected_BA = model(torch.from_numpy(clip_BTHWC)).numpy()
        (found_BA,) = session.run([OUTPUT], {INPUT: clip_BTHWC})
        np.testing.assert_allclose(found_BA, expected_BA, atol=1e-4)
    described = session.get_modelmeta().custom_metadata_map
    assert json.loads(described["classes"]) == list(CLASSES)
    assert json.loads(described["clip"]) == {"frames": 4, "stride": 2, "size": 32}
    assert described["weights_sha256"] == sha256_of(weights)


def test_other_logits_are_refused_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, out = tmp_path / "weights.safetensors", tmp_path / "model.onnx"
    save_trained(weights, "small3d")
    converted = onnx_file._converted

    def of_another_model(model: ActionModel, size: tuple[int, ...]) -> object:
        return converted(ActionModel(model.config, len(CLASSES)).eval(), size)

    monkeypatch.setattr(onnx_file, "_converted", of_another_model)
    with pytest.raises(UserError, match="comes to other logits under onnxruntime"):
        write_onnx(weights, out)
    assert list(tmp_path.iterdir()) == [weights]


def test_the_command_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    result = run_here(COMMAND, "--weights", tmp_path / "w.safetensors")
    assert (result.returncode, "--onnx or hub must be given" in result.stderr) == (2, True)
    result = run_here(COMMAND, "--weights", tmp_path / "w.safetensors", "--onnx", tmp_path / "a.pb")
    assert (result.returncode, "--onnx must end in .onnx" in result.stderr) == (2, True)
    result = run_here(COMMAND, "--weights", tmp_path / "w.safetensors", "--onnx", tmp_path / "a.onnx")
    assert (result.returncode, "no such weight file" in result.stderr) == (2, True)
    assert not list(tmp_path.iterdir())

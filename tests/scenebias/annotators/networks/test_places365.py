import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models
from torchvision import transforms as trn

from scenebias.annotators.networks.options import SceneNetworkConfig
from scenebias.annotators.networks.places365 import open_scene_network
from shards.errors import UserError
from shards.format.sample import SCENE_COUNT

CPU = torch.device("cpu")


def smooth_frames(count, height=96, width=128):
    """Frames of large coloured patches."""
    patches = np.random.default_rng(count).integers(0, 256, (count, height // 8, width // 8, 3), dtype=np.uint8)
    return list(patches.repeat(8, axis=1).repeat(8, axis=2))


def random_resnet(architecture):
    """A seeded network whose probabilities are far from uniform and differ from frame to frame."""
    torch.manual_seed(0)
    model = models.get_model(architecture, weights=None, num_classes=SCENE_COUNT).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        model.fc.weight *= 5
    return model


class Python2Pickler(pickle._Pickler):
    """Writes what PyTorch 0.2 on Python 2.7 wrote, as the published checkpoints were: byte strings, no `_metadata`."""

    dispatch = pickle._Pickler.dispatch.copy()

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = {}

    def save_str(self, text):
        self.write(pickle.SHORT_BINSTRING + bytes([len(text)]) + text.encode("ascii"))
        self.memoize(text)

    dispatch[str] = save_str

    def reducer_override(self, value):
        if isinstance(value, torch.Tensor):
            self.storages[str(value.data_ptr())] = value
            arguments = (Storage(value), value.storage_offset(), tuple(value.shape), value.stride())
            return torch._utils._rebuild_tensor, arguments
        if isinstance(value, OrderedDict):
            return OrderedDict, ([list(item) for item in value.items()],)
        return NotImplemented

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        tensor = value.tensor
        return ("storage", torch.cuda.FloatStorage, str(tensor.data_ptr()), "cuda:0", tensor.numel(), None)


class Storage:
    def __init__(self, tensor):
        self.tensor = tensor


def write_as_published(path: Path, model) -> Path:
    """The checkpoint of the authors' train_placesCNN.py, from GPU 0."""
    tensors = {name: tensor for name, tensor in model.state_dict().items() if "num_batches_tracked" not in name}
    checkpoint = {
        "epoch": 90,
        "arch": "resnet18",
        "state_dict": OrderedDict((f"module.{name}", tensor) for name, tensor in tensors.items()),
        "best_prec1": 54.1,
    }
    sizes = {"short": 2, "int": 4, "long": 4}
    with path.open("wb") as file:
        for header in (
            torch.serialization.MAGIC_NUMBER,
            torch.serialization.PROTOCOL_VERSION,
            {"protocol_version": torch.serialization.PROTOCOL_VERSION, "little_endian": True, "type_sizes": sizes},
        ):
            Python2Pickler(file).dump(header)
        pickler = Python2Pickler(file)
        pickler.dump(checkpoint)
        keys = sorted(pickler.storages)
        Python2Pickler(file).dump(keys)
        for key in keys:
            tensor = pickler.storages[key]
            file.write(tensor.numel().to_bytes(8, "little") + tensor.contiguous().numpy().tobytes())
    return path


@pytest.fixture(scope="module")
def resnet18():
    return random_resnet("resnet18")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, resnet18):
    return write_as_published(tmp_path_factory.mktemp("weights") / "resnet18_places365.pth.tar", resnet18)


def open_resnet18(path, **options):
    return open_scene_network("resnet18_places365", SceneNetworkConfig(scene_weights=path, **options), CPU)


@pytest.fixture(scope="module")
def network(checkpoint):
    return open_resnet18(checkpoint)


def as_published(model, frame):
    """The steps of the authors' demo, run_placesCNN_basic.py."""
    centre_crop = trn.Compose(
        [
            trn.Resize((256, 256)),
            trn.CenterCrop(224),
            trn.ToTensor(),
            trn.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    with torch.inference_mode():
        return model(centre_crop(Image.fromarray(frame)).unsqueeze(0)).softmax(1).squeeze().numpy()


def test_the_python_2_checkpoint_is_read_as_its_authors_read_it(checkpoint, resnet18):
    # Trusted here, so that the file is seen to be what it should be; as they did: no weights_only, latin1.
    content = torch.load(checkpoint, map_location="cpu", weights_only=False, encoding="latin1")
    assert set(content) == {"epoch", "arch", "state_dict", "best_prec1"}
    own = resnet18.state_dict()
    for name, tensor in content["state_dict"].items():
        assert torch.equal(tensor, own[name.removeprefix("module.")])


def test_probabilities_are_those_of_the_published_demo(network, resnet18):
    frames = [*smooth_frames(2), *smooth_frames(1, 240, 320), *smooth_frames(1, 128, 72)]
    found = list(network.probabilities(frames))
    assert np.ptp([row.max() for row in found]) > 0.01, "the test needs frames that differ"
    for frame, probability_S in zip(frames, found, strict=True):
        assert probability_S.shape == (SCENE_COUNT,)
        assert probability_S.dtype == np.float32
        assert probability_S.sum() == pytest.approx(1, abs=1e-5)
        assert np.allclose(probability_S, as_published(resnet18, frame), rtol=1e-3, atol=1e-7)


def test_frames_of_any_size_share_batches_and_get_what_they_get_alone(network):
    frames = [*smooth_frames(3), *smooth_frames(2, 64, 64), *smooth_frames(2, 48, 96)]
    alone = [row for frame in frames for row in network.probabilities([frame])]
    assert np.array_equal(list(network.probabilities(frames)), alone)
    shapes = []
    network.batch_size = 4  # as on a GPU
    hook = network.model.register_forward_pre_hook(lambda _, images: shapes.append(tuple(images[0].shape)))
    try:
        batched = list(network.probabilities(frames))
        assert shapes == [(4, 3, 224, 224)] * 2
        assert np.array_equal([row for frame in frames[:2] for row in network.probabilities([frame])], batched[:2])
    finally:
        hook.remove()
        network.batch_size = 1
    assert np.allclose(batched, alone, rtol=1e-4)


def test_every_format_gives_the_same_labels(tmp_path, network, checkpoint, resnet18):
    torch.save(resnet18.state_dict(), tmp_path / "bare.pth")
    save_file(resnet18.state_dict(), tmp_path / "bare.safetensors")
    settings = [open_resnet18(tmp_path / name).settings() for name in ("bare.pth", "bare.safetensors")]
    assert settings == [network.settings()] * 2


def test_settings_tell_what_decides_the_labels(network, checkpoint):
    assert network.settings() | {"weights_sha256": ""} == {
        "network": "resnet18_places365",
        "weights_sha256": "",
        "every": 16,
        "batch": 1,
        "precision": "float32",
    }
    assert len(network.settings()["weights_sha256"]) == 64
    assert open_resnet18(checkpoint, scene_every=4).settings()["every"] == 4


def test_weights_of_another_network_are_refused(tmp_path, checkpoint):
    with pytest.raises(UserError, match=r"--scene-weights .*tensors do not fit resnet50_places365"):
        open_scene_network("resnet50_places365", SceneNetworkConfig(scene_weights=checkpoint), CPU)
    imagenet = models.resnet18(weights=None)
    torch.save(imagenet.state_dict(), tmp_path / "imagenet.pth")
    with pytest.raises(UserError, match=r"2 tensors do not fit resnet18_places365 .*fc.weight.*\[1000, 512\]"):
        open_resnet18(tmp_path / "imagenet.pth")


def test_weights_are_fetched_from_where_the_authors_put_them(monkeypatch):
    model = random_resnet("resnet50")

    def fetch(url, **options):
        assert url == "http://places2.csail.mit.edu/models_places365/resnet50_places365.pth.tar"
        assert options["weights_only"]
        return {"arch": "resnet50", "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    [frame] = smooth_frames(1)
    [probability_S] = open_scene_network("resnet50_places365", SceneNetworkConfig(), CPU).probabilities([frame])
    assert np.allclose(probability_S, as_published(model, frame), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("option", ["scene_every", "scene_batch"])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
        SceneNetworkConfig(**{option: 0})

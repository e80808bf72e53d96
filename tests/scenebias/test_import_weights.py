"""Checkpoints in the names of 3D-ResNets-PyTorch give the outputs here that they give there.

Shape suffixes: B clips, T frames, H height, W width, C channels, D features, A actions, S scenes.
"""

import math
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model, get_model_weights

from dali_pipelines import ClipConfig
from scenebias.bias.clean_statistics import with_clean_statistics
from scenebias.distributed.process_place import ProcessPlace
from scenebias.import_weights import PIXELS, ImportConfig, import_model, main
from scenebias.models.action_model import ActionModel
from scenebias.models.heads import AdversaryHead
from scenebias.models.published.foreign_weights import read_file, state_dict_in
from scenebias.models.published.torchvision_weights import TRAINED_ON, TorchvisionNetwork
from scenebias.models.seen_clips import seen_reason
from scenebias.models.weights import TrainedOn, clip_config_of, load_scene_head, load_weights
from shards.dataset import ShardDataset
from shards.errors import UserError

ACTIONS = 5


class TheirBlock(nn.Module):
    def __init__(self, taken: int, given: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(taken, given, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(given)
        self.conv2 = nn.Conv3d(given, given, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(given)
        self.stride, self.missing = stride, given - taken
        if shortcut == "B" and stride > 1:
            self.downsample = nn.Sequential(nn.Conv3d(taken, given, 1, stride, bias=False), nn.BatchNorm3d(given))

    def around(self, x: Tensor) -> Tensor:
        if hasattr(self, "downsample"):
            return self.downsample(x)
        if self.stride == 1:
            return x
        pooled = functional.avg_pool3d(x, kernel_size=1, stride=self.stride)
        return torch.cat([pooled, torch.zeros(len(x), self.missing, *pooled.shape[2:], dtype=x.dtype)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.around(x)).relu()


class TheirHidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(512, 512)
        self.bn = nn.BatchNorm1d(512)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(x)).relu()


class TheirHeads(nn.Module):
    """What Choi et al. (NeurIPS 2019) add to the network."""

    def __init__(self, scene_hidden_layers: int) -> None:
        super().__init__()
        self.hm_mlp = nn.Sequential(TheirHidden())
        self.hm_mlp.add_module("hm_last_fc", nn.Linear(512, ACTIONS))
        self.place_mlp = nn.Sequential(*(TheirHidden() for _ in range(scene_hidden_layers)))
        self.place_mlp.add_module("p_last_fc", nn.Linear(512, 365))


class TheirResNet(nn.Module):
    """The architecture of Hara et al. (ICCV workshops 2017), restated."""

    def __init__(self, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, kernel_size=7, stride=(1, 2, 2), padding=(3, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        taken = 64
        for number, given in enumerate((64, 128, 256, 512), start=1):
            first = TheirBlock(taken, given, stride=1 if number == 1 else 2, shortcut=shortcut)
            self.add_module(f"layer{number}", nn.Sequential(first, TheirBlock(given, given, 1, shortcut)))
            taken = given
        self.fc = nn.Linear(512, ACTIONS)

    def features(self, x: Tensor) -> Tensor:
        x = functional.max_pool3d(self.bn1(self.conv1(x)).relu(), kernel_size=3, stride=2, padding=1)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        frames, size = math.ceil(x.shape[2]), math.ceil(x.shape[3])
        return functional.avg_pool3d(x, (frames, size, size), stride=1).flatten(1)


def clip() -> Tensor:
    """Noise of another colour in each clip."""
    generator = torch.Generator().manual_seed(1)
    colour_BC = torch.tensor([[250, 40, 120], [60, 220, 180]])[:, None, None, None]
    return (torch.rand(2, 8, 48, 48, 3, generator=generator) * colour_BC).to(torch.uint8)


def their_input(clip_BTHWC: Tensor, pixels: str) -> Tensor:
    """As that code makes it from stored pixels, in float64: the old mean of ActivityNet or the new of Kinetics."""
    values_BTHWC = clip_BTHWC.numpy().astype(np.float64)
    if pixels == "activitynet":
        values_BTHWC = values_BTHWC - np.array([114.7748, 107.7354, 99.4750])
    else:
        values_BTHWC = (values_BTHWC / 255 - np.array([0.4345, 0.4051, 0.3775])) / np.array([0.2768, 0.2713, 0.2737])
    return torch.from_numpy(values_BTHWC).permute(0, 4, 1, 2, 3)


def unsettle_norms(module: nn.Module) -> None:
    """As if trained: no weight, bias or (after a pass) running statistic has the value that it starts with."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm3d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
            norm.momentum = 0.9


@cache
def their_network(shortcut: str = "A", pixels: str = "activitynet") -> TheirResNet:
    torch.manual_seed(0)
    network = TheirResNet(shortcut)
    unsettle_norms(network)
    with torch.no_grad():
        network.features(their_input(clip(), pixels).float())
    return network.eval()


@cache
def their_heads(scene_hidden_layers: int) -> TheirHeads:
    torch.manual_seed(0)
    heads = TheirHeads(scene_hidden_layers)
    unsettle_norms(heads)
    with torch.no_grad():
        heads.place_mlp(torch.randn(8, 512))
    return heads.eval()


def their_tensors(scene_hidden_layers: int | None = None) -> dict[str, Tensor]:
    heads = {} if scene_hidden_layers is None else their_heads(scene_hidden_layers).state_dict()
    return {**their_network().state_dict(), **heads}


def assert_same_outputs(model: ActionModel, network: TheirResNet, pixels: str = "activitynet") -> None:
    """In float64, but for the weights and the normalisation, which are stored as float32."""
    clip_BTHWC = clip()
    with torch.no_grad():
        features_BD = model.double().features(clip_BTHWC)
        expected_BD = network.double().features(their_input(clip_BTHWC, pixels))
        torch.testing.assert_close(features_BD, expected_BD, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(model.head(features_BD), network.fc(expected_BD), rtol=1e-6, atol=1e-6)
        assert expected_BD.std(dim=0).mean() > 1e-2, "the clips are to be told apart"
    network.float()


@pytest.mark.parametrize(("shortcut", "pixels"), [("A", "activitynet"), ("B", "kinetics")])
def test_an_imported_network_gives_the_outputs_of_the_original(shortcut: str, pixels: str) -> None:
    network = their_network(shortcut, pixels)
    model, scene_head = import_model(dict(network.state_dict()), ACTIONS, PIXELS[pixels], "their.pth")
    assert model.config.backbone == f"resnet3d_18_{shortcut.lower()}"
    assert scene_head is None
    assert_same_outputs(model.eval(), network, pixels)


@pytest.mark.parametrize("hidden_layers", [0, 1, 3])
def test_the_scene_head_comes_with_the_network_and_the_biases_before_its_norms_count(hidden_layers: int) -> None:
    model, scene_head = import_model(their_tensors(hidden_layers), ACTIONS, PIXELS["activitynet"], "their.pth")
    assert scene_head is not None
    features_BD = torch.randn(4, 512, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected_BS = their_heads(hidden_layers).place_mlp(features_BD)
        torch.testing.assert_close(scene_head.eval()(features_BD), expected_BS, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.head[1].weight, their_network().fc.weight)


def their_checkpoint(tensors: dict[str, Tensor]) -> dict[str, object]:
    """All that a checkpoint of that code holds; from before PyTorch 0.4.1, which did not yet count batches."""
    tensors = {f"module.{name}": tensor for name, tensor in tensors.items() if "num_batches_tracked" not in name}
    optimizer = torch.optim.SGD([torch.zeros(3, requires_grad=True)], lr=0.1)
    scheduler = {"milestones": Counter([50, 100]), "best": 1.5, "mode_worse": math.inf}
    parts = {"optimizer": optimizer.state_dict(), "scheduler": scheduler}
    return {"epoch": 3, "arch": "resnet-18", "state_dict": tensors, **parts}


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    path = tmp_path / "classes.txt"
    path.write_text("brush hair\nriding\nüber\nwalk\nrun\n")
    return path


def test_a_checkpoint_becomes_a_weight_file(tmp_path: Path, classes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(their_checkpoint(their_tensors(3)), tmp_path / "save_3.pth", _use_new_zipfile_serialization=False)
    out = tmp_path / "theirs.safetensors"
    main(ImportConfig(checkpoint=tmp_path / "save_3.pth", classes=classes, out=out, dataset="mini_kinetics"))
    assert capsys.readouterr().out == f"{out}: resnet3d_18_a, 5 actions and a scene head\n"
    model, metadata = load_weights(out)
    assert metadata.classes == ("brush hair", "riding", "über", "walk", "run")
    assert metadata.trained_on == (TrainedOn("mini_kinetics", "1", "train", digest=""),)
    assert clip_config_of(metadata) == ImportConfig(checkpoint=out, classes=classes, out=out).clip
    assert_same_outputs(model.eval(), their_network())
    scene_head = AdversaryHead(512, 365, hidden_layers=3).eval()
    load_scene_head(out, scene_head)
    with torch.no_grad():
        features_BD = torch.ones(1, 512)
        expected_BS = their_heads(3).place_mlp(features_BD)
        torch.testing.assert_close(scene_head(features_BD), expected_BS, rtol=1e-4, atol=1e-5)


def test_imported_weights_can_be_given_the_statistics_of_clean_clips(
    tmp_path: Path, classes: Path, tiny_dataset: Path
) -> None:
    torch.save(their_checkpoint(their_tensors()), tmp_path / "theirs.pth")
    out = tmp_path / "theirs.safetensors"
    main(ImportConfig(checkpoint=tmp_path / "theirs.pth", classes=classes, out=out, clip=ClipConfig(frames=4, size=32)))
    model, metadata = load_weights(out)
    place = ProcessPlace(0, 1, torch.device("cpu"))
    train = ShardDataset.open(tiny_dataset)
    clean = with_clean_statistics(model, clip_config_of(metadata), train, place, threads=1)
    assert clean is not None
    for (name, theirs), ours in zip(model.state_dict().items(), clean.state_dict().values(), strict=True):
        assert torch.equal(theirs, ours) != name.endswith(("running_mean", "running_var")), name


def test_the_list_of_classes_must_be_as_long_as_the_outputs() -> None:
    tensors = their_tensors()
    with pytest.raises(UserError, match=r"their\.pth: tells 5 actions apart, but --classes names 51; give the list"):
        import_model(tensors, 51, PIXELS["activitynet"], "their.pth")


def test_another_network_is_refused() -> None:
    tensors = their_tensors()
    deeper = tensors | {"layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3, 3)}
    wider = tensors | {"bn1.weight": torch.zeros(128)}
    odd = tensors | {"place_mlp.last.fc.weight": torch.zeros(365, 512)}
    for changed, message in (
        (deeper, r"1 tensors do not fit resnet3d_18_a \(first: backbone.trunk.layer1.2.conv1.0.weight is unknown\)"),
        (wider, r"1 tensors do not fit resnet3d_18_a \(first: size mismatch for backbone.trunk.stem.1.weight"),
        ({"conv1.weight": tensors["conv1.weight"]}, r"tensors do not fit .* is missing\)"),
        (odd, r"tensors do not fit the scene head .*; give a checkpoint of resnet, depth 18"),
        (tensors | {"fc.bias": torch.full((ACTIONS,), math.nan)}, "not all finite numbers"),
    ):
        with pytest.raises(UserError, match=rf"^their\.pth: .*{message}"):
            import_model(changed, ACTIONS, PIXELS["activitynet"], "their.pth")


NUMBERS = (
    *(np.dtype(code).type(7) for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")),
    np.float64(0.8125),
    np.dtype(">f8").type(-2.5),
)


@pytest.mark.parametrize("as_zip", [True, False])
def test_numbers_of_numpy_beside_the_weights_are_read_as_numbers(tmp_path: Path, as_zip: bool) -> None:
    """As in checkpoints that tell the best accuracy so far; also in those that were written with NumPy 1."""
    path, tensors = tmp_path / "their.pth", {"conv1.weight": torch.ones(2)}
    saved = {"epoch": 3, "best_acc1": NUMBERS, "state_dict": tensors}
    torch.save(saved, path, _use_new_zipfile_serialization=as_zip)
    content = read_file(path, origin="their.pth", remedy="give another")
    assert content["best_acc1"] == tuple(number.item() for number in NUMBERS)
    assert [type(number) for number in content["best_acc1"]] == [type(number.item()) for number in NUMBERS]
    assert torch.equal(state_dict_in(content, origin="", remedy="")["conv1.weight"], tensors["conv1.weight"])
    if not as_zip:
        older = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        path.write_bytes(older)
        assert b"numpy.core.multiarray" in older
        assert read_file(path, origin="their.pth", remedy="")["best_acc1"] == content["best_acc1"]


@pytest.mark.parametrize(
    "value", [np.zeros(3), np.str_("text"), np.datetime64("2020-01-01"), np.array([{}])[0:1], Path("x")], ids=repr
)
def test_nothing_else_of_numpy_s_is_unpickled(tmp_path: Path, value: object) -> None:
    torch.save({"state_dict": {}, "best": value}, tmp_path / "their.pth")
    with pytest.raises(UserError, match=r"^their\.pth: (holds an object of|no file of weights)"):
        read_file(tmp_path / "their.pth", origin="their.pth", remedy="give another")


def test_files_that_are_none_are_refused_in_one_sentence(tmp_path: Path, classes: Path) -> None:
    def run(checkpoint: Path, out: Path = tmp_path / "out.safetensors") -> None:
        main(ImportConfig(checkpoint=checkpoint, classes=classes, out=out))

    damaged, foreign = tmp_path / "damaged.pth", tmp_path / "foreign.pth"
    damaged.write_bytes(b"PK\x03\x04")
    torch.save({"state_dict": {}, "options": Path("x")}, foreign)
    for path, message in (
        (tmp_path / "none.pth", "no such file"),
        (damaged, "damaged"),
        (foreign, "holds an object of pathlib"),
    ):
        with pytest.raises(UserError, match=rf"{path.name}: .*{message}"):
            run(path)
    good = tmp_path / "good.pth"
    torch.save(their_tensors(), good)
    with pytest.raises(UserError, match=r"--out .*nowhere.* cannot be written \(No such file"):
        run(good, tmp_path / "nowhere" / "out.safetensors")


@pytest.mark.parametrize(("field", "value"), [("pixels", "imagenet"), ("out", Path("weights.pth"))])
def test_bad_configuration_names_the_field(field: str, value: object) -> None:
    options = {"checkpoint": Path("a"), "classes": Path("b"), "out": Path("c.safetensors"), field: value}
    with pytest.raises(ValueError, match=rf"^{field} must "):
        ImportConfig(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "checkpoint and classes must be given"),
        ({"checkpoint": Path("a.pth")}, "checkpoint and classes must be given"),
        ({"network": "r3d_18", "classes": Path("classes.txt")}, "classes must be left out with network"),
        ({"network": "r3d_18", "dataset": "kinetics400"}, "dataset must be left out with network"),
        ({"network": "resnet50"}, "network must be one of r3d_18, mc3_18"),
    ],
)
def test_what_is_known_of_published_weights_is_not_asked_for(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ImportConfig(out=Path("out.safetensors"), **options)


def published_file(folder: Path, name: str) -> tuple[Path, nn.Module]:
    """Random weights in the form in which torchvision publishes them."""
    torch.manual_seed(0)
    network = get_model(name)
    unsettle_norms(network)
    if not name.startswith("mvit"):  # which has no BatchNorm, and takes large clips alone
        with torch.no_grad():
            network.train()(torch.randn(2, 3, 16, 224, 224) if name == "s3d" else torch.randn(2, 3, 8, 32, 32))
    torch.save(network.state_dict(), folder / f"{name}.pth")
    return folder / f"{name}.pth", network.eval()


@pytest.mark.parametrize("name", ["r3d_18", "r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_t"])
def test_what_torchvision_publishes_gives_the_outputs_of_its_network(
    name: TorchvisionNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, network = published_file(tmp_path, name)
    out = tmp_path / "kinetics.safetensors"
    main(ImportConfig(checkpoint=path, network=name, out=out))
    assert capsys.readouterr().out == f"{out}: {name}, 400 actions\n"
    model, metadata = load_weights(out)
    published = get_model_weights(name)["KINETICS400_V1"]
    assert metadata.classes == tuple(published.meta["categories"])
    frames, stride, size = {"s3d": (128, 2, 224), "mvit_v2_s": (16, 4, 224), "swin3d_t": (32, 2, 224)}.get(
        name, (16, 2, 112)
    )
    assert clip_config_of(metadata) == ClipConfig(frames=frames, stride=stride, size=size)
    frames, size = (16, 224) if name in ("s3d", "mvit_v2_s") else (8, 64)
    clip_BTHWC = torch.randint(0, 256, (2, frames, size, size, 3), dtype=torch.uint8)
    as_published = published.transforms(crop_size=(size, size), resize_size=(size, size))
    with torch.inference_mode():
        expected_BA = network(as_published(clip_BTHWC.permute(0, 1, 4, 2, 3)))
        torch.testing.assert_close(model.eval()(clip_BTHWC), expected_BA, rtol=1e-3, atol=1e-4)
    assert expected_BA.std(dim=0).mean() > 1e-3, "the clips are to be told apart"


def test_kinetics_and_its_part_that_published_weights_have_seen_are_refused() -> None:
    for dataset in ("kinetics400", "mini_kinetics"):
        assert seen_reason([TRAINED_ON], TrainedOn(dataset, "1", "train", "1" * 64)) is not None
        assert seen_reason([TRAINED_ON], TrainedOn(dataset, "1", "val", "1" * 64)) is None
    assert seen_reason([TRAINED_ON], TrainedOn("ucf101", "1", "train", "1" * 64)) is None


def test_weights_of_another_network_of_torchvision_are_refused(tmp_path: Path) -> None:
    path, _ = published_file(tmp_path, "mc3_18")
    with pytest.raises(UserError, match=r"do not fit torchvision's r3d_18"):
        main(ImportConfig(checkpoint=path, network="r3d_18", out=tmp_path / "out.safetensors"))
    assert not (tmp_path / "out.safetensors").exists()

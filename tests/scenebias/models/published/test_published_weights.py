import hashlib
import os
import pickle
import re
import tempfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scenebias.models.published.published_weights import PublishedWeights
from shards.errors import UserError


def build():
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4), fc=nn.Linear(4, 365)))


@pytest.fixture
def trained():
    torch.manual_seed(1)
    return build()


@pytest.fixture
def published(tmp_path):
    return PublishedWeights(network="tinynet", url=(tmp_path / "tinynet.pth").as_uri(), option="--net-weights")


@pytest.fixture
def hub(tmp_path):
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub"
    torch.hub.set_dir(before)


def write(path: Path, model: nn.Module, kind: str) -> Path:
    tensors = model.state_dict()
    checkpoint = {"epoch": 90, "arch": "tinynet", "best_prec1": 55.2}
    checkpoint["state_dict"] = OrderedDict((f"module.{name}", tensor) for name, tensor in tensors.items())
    if kind == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(dict(tensors), path)
    else:
        content = checkpoint if "checkpoint" in kind else tensors
        torch.save(content, path, _use_new_zipfile_serialization="legacy" not in kind)
    return path


KINDS = ["state dict", "checkpoint", "legacy state dict", "legacy checkpoint", "safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_weights(tmp_path, trained, published, kind):
    loaded = build()
    published.load_into(loaded, write(tmp_path / "given.pth", trained, kind))
    for name, tensor in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_the_checksum_is_that_of_the_weights_not_of_the_file(tmp_path, trained, published):
    digests = {published.load_into(build(), write(tmp_path / kind, trained, kind)) for kind in KINDS}
    assert len(digests) == 1
    with torch.no_grad():
        trained.fc.bias[7] += 1e-3
    assert published.load_into(build(), write(tmp_path / "other", trained, "checkpoint")) not in digests


class Evil:
    """Unpickled, it creates the file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "in a checkpoint"])
def test_objects_in_a_file_are_never_unpickled(tmp_path, trained, published, kind):
    witness, path = tmp_path / "witness", tmp_path / "evil.pth"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Evil(witness), protocol=2))
        pickle.loads(path.read_bytes())
        assert witness.exists()  # it would have struck
        witness.unlink()
    else:
        content = trained.state_dict() | {"fc.bias": Evil(witness)}
        content = {"state_dict": content} if kind == "in a checkpoint" else content
        torch.save(content, path, _use_new_zipfile_serialization=kind != "legacy")
    with pytest.raises(UserError, match=r"--net-weights .*evil\.pth: holds an object of .*torch\.save\(.*state_dict"):
        published.load_into(build(), path)
    assert not witness.exists()


def test_whole_models_are_refused_and_the_conversion_named(tmp_path, trained, published):
    torch.save(trained, tmp_path / "whole.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(
        UserError, match=r"whole\.pth: holds an object of torch\.nn\.\S+, .*convert it with torch\.save"
    ):
        published.load_into(build(), tmp_path / "whole.pth")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_damaged_file_is_named(tmp_path, trained, published, kind, share):
    path = write(tmp_path / "cut.pth", trained, kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=rf"--net-weights {path}: no file of weights, .*give .*{published.url}"):
        published.load_into(build(), path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"fc.weight": torch.zeros(1000, 4)}, "1 tensors do not fit tinynet .*size mismatch for fc.weight"),
        ({"head.weight": torch.zeros(1)}, r"1 tensors do not fit tinynet \(first: head.weight is unknown\)"),
        ({"fc.bias": None}, r"1 tensors do not fit tinynet \(first: fc.bias is missing\)"),
        ({"fc.bias": torch.full((365,), torch.nan)}, "its weights are not all finite"),
        ({"fc.bias": 7}, "holds no state dict"),
        ({"state_dict": [1]}, "holds no state dict"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, trained, published, change, sentence):
    content = {name: value for name, value in (trained.state_dict() | change).items() if value is not None}
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match=rf"--net-weights .*other\.pth: {sentence}.*; give .* tinynet, file://"):
        published.load_into(build(), tmp_path / "other.pth")


@pytest.mark.parametrize("content", [7, [torch.zeros(2)], torch.zeros(2)])
def test_a_file_of_something_else_is_refused(tmp_path, published, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        published.load_into(build(), tmp_path / "other.pth")


def test_a_missing_file_is_named(tmp_path, published):
    with pytest.raises(UserError, match=r"--net-weights .*none\.pth: no such file; give .*tinynet, file://"):
        published.load_into(build(), tmp_path / "none.pth")


@pytest.mark.parametrize("named", ["right", "wrong", "without"])
def test_downloads_are_checked_against_the_hash_in_their_name(tmp_path, trained, hub, named):
    path = write(tmp_path / "net.pth", trained, "checkpoint")
    digest = {"right": hashlib.sha256(path.read_bytes()).hexdigest()[:8], "wrong": "0123abcd", "without": ""}[named]
    path = path.rename(tmp_path / (f"net-{digest}.pth" if digest else "net.pth"))
    published = PublishedWeights(network="tinynet", url=path.as_uri(), option="--net-weights")
    if named == "wrong":
        with pytest.raises(UserError, match=r"tinynet cannot be fetched from file://.* \(invalid hash value"):
            published.load_into(build(), None)
        return
    first = published.load_into(build(), None)
    path.unlink()
    assert published.load_into(build(), None) == first, "the second time it comes from the cache"
    assert (hub / "checkpoints" / path.name).is_file()


def test_a_failed_download_says_what_to_fetch_by_hand(published, hub):
    sentence = rf"cannot be fetched from {re.escape(published.url)} to {hub} .*as --net-weights FILE"
    with pytest.raises(UserError, match=sentence):
        published.load_into(build(), None)


def test_a_damaged_copy_in_the_cache_is_no_traceback(published, hub):
    cached = hub / "checkpoints" / "tinynet.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"")
    with pytest.raises(UserError, match=rf"from {published.url} to {hub} \(.+\); fetch that file by hand"):
        published.load_into(build(), None)


def test_without_a_home_folder_downloads_lie_among_the_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not in a folder called ~ wherever the command was given."""
    folders: list[str] = []
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda _, model_dir, **__: folders.append(model_dir))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: os.path.expanduser("~/.cache/torch/hub"))  # noqa: PTH111 - as torch does
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    weights = PublishedWeights(network="net", url="http://nowhere/net.pth", option="--weights")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    weights._fetch()
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    weights._fetch()
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    weights._fetch()
    own = tmp_path / f"scenebias-{os.getuid()}" / ".cache" / "torch" / "hub" / "checkpoints"
    assert folders == [str(tmp_path / "home" / ".cache" / "torch" / "hub" / "checkpoints"), str(own), str(own)]

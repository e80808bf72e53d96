"""Where a process stands among others; what takes several processes is in test_training_survival."""

import math
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from scenebias.data.make_shards import MakeShards, _session
from scenebias.distributed import process_place
from scenebias.distributed.process_place import DistributedConfig, ProcessPlace, distributed_session
from shards.errors import UserError
from shards.sources import FolderSource


def test_a_process_without_a_group_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with distributed_session() as place:
        assert (place.rank, place.world_size, place.is_main) == (0, 1, True)
        assert place.gather(torch.arange(3)).tolist() == [[0, 1, 2]]
        place.wait_for_all()


def test_a_rank_whose_main_rank_never_comes_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    server = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    group = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.port)}
    for name, value in group.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"rank 1 waited 0\.5 s"):
        distributed_session(DistributedConfig(collective_timeout_s=0.5)).__enter__()


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_a_time_limit_is_positive_and_finite(seconds: float) -> None:
    with pytest.raises(ValueError, match="collective_timeout_s must be positive and finite"):
        DistributedConfig(collective_timeout_s=seconds)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A machine with two GPUs, of which a process notes what it takes, and how it would meet the others."""
    noted: dict[str, object] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: noted.update(device=device))
    monkeypatch.setattr(process_place, "meet", lambda timeout_s: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **_: noted.update(backend=backend))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: False)
    return noted


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
    for name, value in group.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("gpus", "rank", "device", "backend"),
    [
        ("own", 1, "cuda:1", "nccl"),
        ("shared", 1, "cuda:1", "gloo"),
        ("shared", 2, "cuda:0", "gloo"),  # nccl refuses two processes on one GPU
        ("shared", 4, "cuda:0", "gloo"),
        ("none", 4, "cpu", "gloo"),
    ],
)
def test_gpus_are_ones_own_shared_or_not_used(monkeypatch, two_gpus, gpus, rank, device, backend) -> None:
    as_rank(monkeypatch, rank, 5)
    with distributed_session(gpus=gpus) as place:
        assert place.device == torch.device(device)
    assert two_gpus["backend"] == backend
    assert two_gpus.get("device", torch.device("cpu")) == place.device


def test_more_processes_than_gpus_of_their_own_are_refused(monkeypatch, two_gpus) -> None:
    as_rank(monkeypatch, 2, 5)
    with pytest.raises(UserError, match="process 2 of this machine has no GPU of its own: start at most 2"):
        distributed_session().__enter__()
    assert not two_gpus


@pytest.mark.parametrize(
    ("masks", "scenes", "gpus"),
    [
        ("none", "none", "none"),
        ("folder/of/masks", "scenes.npz", "none"),
        ("lraspp_mobilenet_v3_large", "none", "shared"),
        ("none", "resnet18_places365", "shared"),
    ],
)
def test_packing_takes_gpus_for_networks_alone_and_shares_them(monkeypatch, masks, scenes, gpus) -> None:
    as_rank(monkeypatch, 3, 5)
    asked = {}

    @contextmanager
    def session(**options):
        asked.update(options)
        yield ProcessPlace(rank=3, world_size=5, device=torch.device("cpu"))

    monkeypatch.setattr(process_place, "distributed_session", session)
    config = MakeShards(source=FolderSource(root=Path("videos")), out=Path("out"), masks=masks, scenes=scenes)
    with _session(config):
        assert asked["gpus"] == gpus


def test_a_process_group_of_gpus_is_told_which_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    gpu = torch.device("cuda", 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr(process_place, "_take_device", lambda _gpus: gpu)
    monkeypatch.setattr(process_place, "meet", lambda _: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **given: told.update(given))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with process_place.distributed_session() as place:
        assert place.device == gpu
    assert told["device_id"] == gpu

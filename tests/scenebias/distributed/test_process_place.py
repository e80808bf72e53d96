"""Where a process stands among others; what takes several processes is in test_training_survival."""

import math
from typing import Any

import pytest
import torch

from scenebias.distributed import process_place
from scenebias.distributed.process_place import DistributedConfig, distributed_session
from shards.errors import UserError


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


def test_a_process_group_of_gpus_is_told_which_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    gpu = torch.device("cuda", 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr(process_place, "_take_device", lambda: gpu)
    monkeypatch.setattr(process_place, "meet", lambda _: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **given: told.update(given))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with process_place.distributed_session() as place:
        assert place.device == gpu
    assert told["device_id"] == gpu

"""Where a process stands among others; what takes several processes is in test_training_survival."""

import math

import pytest
import torch

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

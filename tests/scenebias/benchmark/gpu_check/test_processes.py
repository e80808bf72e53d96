"""What must hold of training in several processes, one of which is killed."""

import pytest
import torch

from scenebias.benchmark.gpu_check.processes import check_processes, pose_as_other_clips
from scenebias.data.datasets import RemoteConfig, open_pair


def test_the_same_files_may_be_validated_on(tiny_dataset, tmp_path):
    pose_as_other_clips(tiny_dataset, tmp_path / "val")
    train, val = open_pair(tiny_dataset, tmp_path / "val", RemoteConfig())
    assert len(train) == len(val)
    assert val[0].name == train[0].name


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_all_end_when_one_is_killed_and_the_command_goes_on(small):
    outcome = check_processes(small)
    assert outcome.status == "passed", outcome.problems
    assert outcome.values["ranks"] == 2
    assert outcome.values["steps"] >= 5
    assert outcome.values["ended_after_kill_s"] < 60
    assert outcome.skipped == ("NCCL: no GPU: skipped",)

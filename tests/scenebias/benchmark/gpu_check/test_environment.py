"""What must hold of the look at driver, cards and versions."""

import re
from dataclasses import replace

import pytest
import torch

from scenebias.benchmark.gpu_check.environment import Environment, check_environment, jpeg_engines

GOOD = Environment(
    driver="580.65.06",
    cards=({"name": "NVIDIA H100", "memory_bytes": 2**36, "compute_capability": "9.0"},) * 2,
    torch_version="2.14.0+cu130",
    torch_cuda="13.0",
    torch_gpus=2,
    dali="nvidia-dali-cuda130 2.4.0",
    dali_cuda=13,
    why_no_dali=(),
)


def test_what_goes_together_has_no_problems():
    assert GOOD.problems() == []
    assert replace(GOOD, driver="535.104.05", torch_cuda="12.8", dali_cuda=12).problems() == []


def test_nothing_is_wrong_with_a_machine_without_a_driver():
    assert replace(GOOD, driver=None, cards=(), torch_gpus=0).problems() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"driver": "570.10"}, ["torch is built for CUDA 13", "580.0 or newer; it is 570.10"]),
        ({"driver": "520.61", "torch_cuda": "12.8", "dali_cuda": 12}, ["CUDA 12", "525.60"]),
        ({"dali_cuda": 12}, ["torch is built for CUDA 13.0, DALI for CUDA 12"]),
        ({"dali": None, "dali_cuda": None}, ["DALI is not installed"]),
        ({"torch_gpus": 0}, ["torch finds 0 GPUs, the driver shows 2"]),
        ({"torch_version": "2.9.1"}, ["torch 2.9.1 computes bf16 convolutions in 3-D slowly"]),
        ({"why_no_dali": ("DALI cannot use GPU 1 (x)",)}, ["DALI cannot use GPU 1"]),
    ],
)
def test_what_does_not_go_together_is_said(change, said):
    text = "; ".join(replace(GOOD, **change).problems())
    for part in said:
        assert part in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_nvjpeg_is_asked_for_engines_and_has_none_without_a_gpu():
    assert re.fullmatch(r"nvJPEG opens no engine \(status \d+\)", jpeg_engines())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_passes_with_what_was_skipped(small):
    outcome = check_environment(small)
    assert outcome.status == "passed"
    assert "no GPU: skipped" in outcome.skipped[0]
    assert torch.__version__ in outcome.found
    assert "nvidia-dali-cuda" in outcome.found

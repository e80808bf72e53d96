"""What must hold of the choice of the CUDA that DALI and PyTorch are installed for."""

import configparser
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scenebias import cli, cuda_builds
from scenebias.cuda_builds import DALI_PACKAGES, LEAST_DRIVER, choose, installed_driver, installed_torch_cuda
from tests.project import ROOT


@pytest.mark.parametrize(
    ("driver", "torch_cuda", "extra", "said"),
    [
        ("580.65.06", None, "cuda13", "driver 580.65.06 serves it"),
        ("580.65.06", 12, "cuda12", "torch is here for it"),
        ("579.99", None, "cuda12", "CUDA 13 needs driver 580.0 or newer"),
        ("535.104.05", 13, "cuda12", "CUDA 13 needs driver 580.0 or newer"),
        ("525.60.13", None, "cuda12", "driver 525.60.13 serves it"),
        ("470.82", None, "cuda12", "older than 525.60"),
        (None, None, "cuda13", "no NVIDIA driver is here"),
        (None, 12, "cuda12", "torch is here for it"),
        (None, 11, "cuda13", "no NVIDIA driver is here"),
    ],
)
def test_the_driver_decides_and_then_the_torch_that_is_there(driver, torch_cuda, extra, said):
    choice = choose(driver, torch_cuda)
    assert choice.extra == extra
    assert said in choice.reason


@given(st.integers(400, 700), st.integers(0, 200), st.sampled_from([None, 11, 12, 13]))
def test_what_is_chosen_is_served_wherever_anything_is(major, minor, torch_cuda):
    served = {cuda for cuda, least in LEAST_DRIVER.items() if (major, minor) >= least}
    chosen = choose(f"{major}.{minor}.01", torch_cuda).cuda
    assert chosen in (served or LEAST_DRIVER)
    if torch_cuda in served:
        assert chosen == torch_cuda


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:17:12 UTC 2025",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)",
    ],
)
def test_the_driver_is_read_from_its_kernel_module(monkeypatch, tmp_path, line):
    path = tmp_path / "version"
    path.write_text(f"{line}\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n")
    monkeypatch.setattr(cuda_builds, "KERNEL_MODULE", path)
    assert installed_driver() == "580.65.06"


def test_or_from_nvidia_smi(monkeypatch, tmp_path):
    monkeypatch.setattr(cuda_builds, "KERNEL_MODULE", tmp_path / "nowhere")
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_driver() is None
    program.write_text("#!/bin/sh\necho 550.54.15\necho 550.54.15\n")
    program.chmod(0o755)
    assert installed_driver() == "550.54.15"
    program.write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    assert installed_driver() is None


def test_the_installed_torch_is_known_without_importing_it():
    assert installed_torch_cuda() == (torch.version.cuda and int(torch.version.cuda.split(".")[0]))


def test_every_choice_is_an_extra_and_no_build_is_required_without_one():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for cuda, package in DALI_PACKAGES.items():
        assert package in setup["options.extras_require"][f"cuda{cuda}"]
        assert package not in setup["options"]["install_requires"]


def test_it_needs_nothing_that_is_installed():
    command = [sys.executable, "-I", "-S", "-c", "import runpy, sys; sys.path.insert(0, sys.argv[1]);"]
    command[-1] += "runpy.run_module('scenebias.cuda_builds', run_name='__main__')"
    finished = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=True, timeout=60)
    assert finished.stdout in ("cuda12\n", "cuda13\n")
    assert "DALI and PyTorch for CUDA" in finished.stderr


def test_who_has_no_dali_is_told_how_to_get_it(monkeypatch, capsys):
    def absent(name):
        raise ModuleNotFoundError("No module named 'nvidia.dali'", name="nvidia.dali")

    monkeypatch.setattr(cli, "command", absent)
    with pytest.raises(SystemExit) as leaving:
        cli.start("bench")
    assert leaving.value.code == 2
    assert "error: DALI is not installed: pip install -e '.[cuda1" in capsys.readouterr().err

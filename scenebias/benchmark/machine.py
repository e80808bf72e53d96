"""What the numbers depend on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from scenebias.run_folder.record import package_versions

PEER_PACKAGES = ("torchcodec", "spdl", "simplejpeg", "pillow")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Processor, accelerator and versions, as JSON values."""
    return {
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpus": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": package_versions() | _installed(PEER_PACKAGES),
    }


def _processor() -> str:
    """The model's name; Python itself knows only the architecture on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _installed(packages: tuple[str, ...]) -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions

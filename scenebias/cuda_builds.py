"""For which CUDA to install DALI and PyTorch: what this machine's driver serves. Needs nothing that is installed.

``python -m scenebias.cuda_builds`` prints the extra of setup.cfg to install, and on the standard error why.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

LEAST_DRIVER = {13: (580, 0), 12: (525, 60)}
"""The oldest driver for builds of each CUDA, the newest first; from DALI's page on installing it."""
DALI_PACKAGES = {cuda: f"nvidia-dali-cuda{cuda}0" for cuda in LEAST_DRIVER}
NEWEST = max(LEAST_DRIVER)
KERNEL_MODULE = Path("/proc/driver/nvidia/version")


class Choice(NamedTuple):
    """A CUDA to install builds for."""

    cuda: int
    reason: str

    @property
    def extra(self) -> str:
        """The extra of setup.cfg that installs them."""
        return f"cuda{self.cuda}"


def choose(driver: str | None, torch_cuda: int | None) -> Choice:
    """The CUDA for a machine's ``driver`` (None: there is none), and for the torch that is installed, if any."""
    if driver is None:
        if torch_cuda in LEAST_DRIVER:
            return Choice(torch_cuda, f"torch is here for it; no NVIDIA driver is, so DALI for CUDA {torch_cuda}")
        return Choice(NEWEST, f"no NVIDIA driver is here, and builds for CUDA {NEWEST} run without a GPU too")
    served = [cuda for cuda, least in LEAST_DRIVER.items() if version_of(driver) >= least]
    if not served:
        oldest = min(LEAST_DRIVER)
        return Choice(
            oldest,
            f"driver {driver} is older than {driver_name(oldest)}, which even CUDA {oldest} needs: GPUs cannot be used"
            " until it is updated",
        )
    if torch_cuda in served:
        return Choice(torch_cuda, f"torch is here for it, and driver {driver} serves it")
    newest = max(served)
    reason = f"driver {driver} serves it"
    if newest != NEWEST:
        reason += f"; CUDA {NEWEST} needs driver {driver_name(NEWEST)} or newer"
    return Choice(newest, reason)


def version_of(driver: str) -> tuple[int, ...]:
    """Its first two numbers."""
    return tuple(int(number) for number in re.findall(r"\d+", driver)[:2])


def driver_name(cuda: int) -> str:
    """The version of the oldest driver for builds of that CUDA."""
    return ".".join(map(str, LEAST_DRIVER[cuda]))


def installed_driver() -> str | None:
    """The version of the NVIDIA driver of this machine; None where there is none."""
    if KERNEL_MODULE.exists():
        found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", KERNEL_MODULE.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found[0]
    try:
        finished = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"\d+\.\d+[.\d]*", finished.stdout)
    return found[0] if found and not finished.returncode else None


def installed_torch_cuda() -> int | None:
    """The CUDA that the installed torch is built for; None where there is no torch, or it is for CPUs."""
    spec = importlib.util.find_spec("torch")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "version.py"  # importing torch takes seconds
        if path.exists() and (
            found := re.search(r"^cuda\b.*= '(\d+)\.", path.read_text(encoding="utf-8"), re.MULTILINE)
        ):
            return int(found[1])
    return None


def best_build() -> Choice:
    """What to install here."""
    return choose(installed_driver(), installed_torch_cuda())


if __name__ == "__main__":
    choice = best_build()
    print(f"DALI and PyTorch for CUDA {choice.cuda}: {choice.reason}", file=sys.stderr)
    print(choice.extra)

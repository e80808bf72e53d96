"""Driver, cards, engines and versions: whether they go together."""

import ctypes
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import torch

from dali_pipelines.gpu_decoding import why_no_dali
from scenebias.benchmark.gpu_check.check import NO_GPU, Outcome
from scenebias.benchmark.gpu_check.options import GpuCheck
from scenebias.benchmark.machine import describe_machine
from scenebias.cuda_builds import DALI_PACKAGES, LEAST_DRIVER, driver_name, version_of

LEAST_TORCH = (2, 10)
"""Before it bf16 convolutions in 3-D were slow."""
NVJPEG_PACKAGES = ("nvidia-nvjpeg", "nvidia-nvjpeg-cu12")
NVJPEG_HARDWARE = 3
"""``NVJPEG_BACKEND_HARDWARE`` of nvjpeg.h."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What is here."""

    driver: str | None
    """Its version; None: there is none."""
    cards: tuple[dict[str, Any], ...]
    """Those that the driver shows: name, memory, compute capability."""
    torch_version: str
    torch_cuda: str | None
    torch_gpus: int
    """Those that torch can use."""
    dali: str | None
    """Its package and version."""
    dali_cuda: int | None
    why_no_dali: tuple[str, ...]
    """What keeps DALI from each GPU that it cannot use."""

    def problems(self) -> list[str]:
        """What does not go together."""
        found = []
        if self.driver is not None:
            builds = {"torch": self.torch_cuda and int(self.torch_cuda.split(".")[0]), "DALI": self.dali_cuda}
            for name, cuda in builds.items():
                if cuda in LEAST_DRIVER and version_of(self.driver) < LEAST_DRIVER[cuda]:
                    found.append(
                        f"{name} is built for CUDA {cuda}, which needs driver {driver_name(cuda)} or newer; it is"
                        f" {self.driver}"
                    )
            if self.torch_gpus < len(self.cards):
                found.append(f"torch finds {self.torch_gpus} GPUs, the driver shows {len(self.cards)}")
        if self.dali is None:
            found.append("DALI is not installed")
        if self.torch_cuda and self.dali_cuda and not self.torch_cuda.startswith(f"{self.dali_cuda}."):
            found.append(f"torch is built for CUDA {self.torch_cuda}, DALI for CUDA {self.dali_cuda}")
        if version_of(self.torch_version) < LEAST_TORCH:
            found.append(f"torch {self.torch_version} computes bf16 convolutions in 3-D slowly")
        return found + list(self.why_no_dali)


def check_environment(options: GpuCheck) -> Outcome:
    """Look at what is installed, and at every card."""
    del options
    driver, cards = _driver_and_cards()
    gpus = torch.cuda.device_count()
    dali = _dali()
    environment = Environment(
        driver=driver,
        cards=cards,
        torch_version=torch.__version__,
        torch_cuda=torch.version.cuda,
        torch_gpus=gpus,
        dali=dali and f"{DALI_PACKAGES[dali[0]]} {dali[1]}",
        dali_cuda=dali and dali[0],
        why_no_dali=tuple(filter(None, map(why_no_dali, range(gpus)))),
    )
    values = asdict(environment) | {
        "jpeg_engines": jpeg_engines(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if gpus else None,
        "cudnn": torch.backends.cudnn.version(),
        "machine": describe_machine(torch.device("cuda", 0) if gpus else torch.device("cpu")),
    }
    names = ", ".join(f"{len(cards)} x {name}" for name in sorted({card["name"] for card in cards})) or "no card"
    found = f"driver {driver or 'none'}, {names}; torch {torch.__version__}, {environment.dali}; "
    found += f"{len(os.sched_getaffinity(0))} cores"
    skipped = () if gpus else (f"cards, engines and DALI's use of them: {NO_GPU}",)
    return Outcome(found=found, values=values, problems=tuple(environment.problems()), skipped=skipped)


def _driver_and_cards() -> tuple[str | None, tuple[dict[str, Any], ...]]:
    """As NVML tells; no card where there is no driver, or no NVML."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except (ImportError, pynvml.NVMLError):
        return None, ()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    cards = tuple(
        {
            "name": pynvml.nvmlDeviceGetName(handle),
            "memory_bytes": pynvml.nvmlDeviceGetMemoryInfo(handle).total,
            "compute_capability": ".".join(map(str, pynvml.nvmlDeviceGetCudaComputeCapability(handle))),
        }
        for handle in handles
    )
    return pynvml.nvmlSystemGetDriverVersion(), cards


def _dali() -> tuple[int, str] | None:
    """The CUDA of the DALI that is installed, and its version."""
    for cuda, package in DALI_PACKAGES.items():
        try:
            return cuda, distribution(package).version
        except PackageNotFoundError:
            continue
    return None


def _nvjpeg_library() -> str:
    """That of DALI, else whatever the system finds."""
    for package in NVJPEG_PACKAGES:
        with suppress(PackageNotFoundError):
            for file in distribution(package).files or ():
                if file.name.startswith("libnvjpeg.so"):
                    return str(file.locate())
    return "libnvjpeg.so"


def jpeg_engines() -> dict[str, int] | str:
    """How many JPEG engines the current GPU has, as nvJPEG tells, or why that is not known."""
    try:
        nvjpeg = ctypes.CDLL(_nvjpeg_library())
    except OSError as error:
        return f"nvJPEG cannot be loaded ({error})"
    handle, engines, cores = ctypes.c_void_p(), ctypes.c_uint(), ctypes.c_uint()
    status = nvjpeg.nvjpegCreateEx(NVJPEG_HARDWARE, None, None, 0, ctypes.byref(handle))
    if status:
        return f"nvJPEG opens no engine (status {status})"
    status = nvjpeg.nvjpegGetHardwareDecoderInfo(handle, ctypes.byref(engines), ctypes.byref(cores))
    nvjpeg.nvjpegDestroy(handle)
    return f"nvJPEG does not say (status {status})" if status else {"engines": engines.value, "cores": cores.value}

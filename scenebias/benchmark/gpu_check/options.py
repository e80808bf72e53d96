"""What the checks work on, and how long."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from dali_pipelines import ClipConfig, TrainLoader
from scenebias.models.backbones import BackboneName
from shards.checks import require_at_least
from shards.dataset import ShardDataset


@dataclass(frozen=True, kw_only=True)
class GpuCheck:
    """Check everything that needs a GPU, on this machine."""

    shards: Path
    """Folder of a packed data set of film strips, with human masks and scene labels."""
    checks: tuple[str, ...] = ()
    """Names of the checks to run; none: all, in their order."""
    json: Path = Path("gpu_check.json")
    """File for everything that was found."""
    backbone: BackboneName = "r3d_18"
    """Network to train."""
    batch_size: int = 32
    """Clips of a step on each GPU."""
    steps: int = 20
    """Steps of a profile and of every short run, after those that warm up."""
    seconds: float = 60.0
    """How long pixels are compared under load."""
    repeats: int = 3
    """Turns of whatever is measured."""
    loader_threads: int = 4
    """Decoding threads of each process."""
    wanted_clips_per_s: float = 425.0
    """What a loader must give a GPU: an H100 trains R3D-18 at about so many (16 frames of 112x112, as SPDL's authors
    measured)."""
    longest_idle_share: float = 0.1
    """Share of the steps' time that the GPU may idle."""
    limit_s: float = 1800.0
    """A check that takes longer has failed, and is ended."""
    clip: ClipConfig = field(default_factory=ClipConfig)

    def __post_init__(self) -> None:
        require_at_least(4, batch_size=self.batch_size)
        require_at_least(1, steps=self.steps, repeats=self.repeats, loader_threads=self.loader_threads)
        for name in ("seconds", "wanted_clips_per_s", "limit_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.longest_idle_share <= 1:
            raise ValueError(f"longest_idle_share must be 0 to 1, got {self.longest_idle_share}")


def device_here() -> torch.device:
    """The current GPU, or the CPU where torch finds none."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def loader_here(options: GpuCheck, device: torch.device) -> TrainLoader:
    """The training loader of one process, as asked."""
    return TrainLoader(
        ShardDataset.open(options.shards),
        options.clip,
        global_batch_size=options.batch_size,
        device=device,
        threads=options.loader_threads,
    )

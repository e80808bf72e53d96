"""Options so small that every check runs in seconds on a CPU."""

from pathlib import Path

import pytest

from dali_pipelines import ClipConfig
from scenebias.benchmark.gpu_check.options import GpuCheck


@pytest.fixture(scope="session")
def small(tiny_dataset: Path) -> GpuCheck:
    return GpuCheck(
        shards=tiny_dataset,
        backbone="small3d",
        batch_size=4,
        steps=2,
        seconds=0.1,
        repeats=1,
        loader_threads=1,
        clip=ClipConfig(frames=8, size=32),
    )

"""PyTorch's DataLoader, as it is best used: worker processes that stay, each with one thread, some batches ahead."""

from typing import Any

from torch.utils.data import DataLoader, Dataset

from scenebias.benchmark.loading.setting import Setting
from shards.system.worker_pool import fork_server

PRELOADED = ("torch", "torchvision.transforms.v2", "webdataset")


def load_in_workers(data: Dataset[Any], setting: Setting, batch_size: int | None) -> DataLoader[Any]:
    """Feed ``data`` through worker processes; ``batch_size`` None where it gives whole batches itself.

    The processes come from a fork server, since this one has threads of DALI and must not be forked. They start with
    the first pass, which is not measured.
    """
    context = fork_server()
    context.set_forkserver_preload(list(PRELOADED))
    return DataLoader(
        data,
        batch_size=batch_size,
        num_workers=setting.workers,
        multiprocessing_context=context,
        persistent_workers=True,
        prefetch_factor=setting.prefetch,
        pin_memory=setting.device.type == "cuda",
    )

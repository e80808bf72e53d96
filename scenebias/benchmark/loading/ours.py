"""This project's loader, and the limit: the strips' bytes through DALI's decoder alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline, pipeline_def

from dali_pipelines.clip_decoder import ClipBatch
from dali_pipelines.loader import TrainLoader
from dali_pipelines.windows import frame_indices
from scenebias.benchmark.loading.setting import ClipItem, Pass, Setting
from scenebias.benchmark.loading.windows import EPOCH, SEED
from scenebias.benchmark.measuring import CountedPass

MANY_EPOCHS = 10**9


def train_loader(setting: Setting) -> TrainLoader:
    """Our loader of training clips."""
    return TrainLoader(
        setting.dataset,
        setting.clip,
        global_batch_size=setting.batch_size,
        seed=SEED,
        device=setting.device,
        threads=setting.workers,
        prefetch=setting.prefetch,
        decoding=setting.decoding,
    )


def training_batches(setting: Setting, loader: TrainLoader) -> Iterator[ClipBatch]:
    """The measured batches of an epoch, which are its last."""
    return loader.epoch(EPOCH, _first_step(setting, loader))


def open_ours(setting: Setting) -> Pass:
    """Decode, multi-scale crop, flip, masks, scene labels: what training takes, epoch after epoch without end."""
    loader = train_loader(setting)
    start_step = _first_step(setting, loader)
    return lambda: (_item(batch) for batch in loader.epochs(EPOCH, MANY_EPOCHS, start_step))


def open_crop_only(setting: Setting) -> Pass:
    """The same but for the scale: squares of the network's size are cut out as they are."""
    scale = min(1.0, setting.clip.size / setting.dataset.manifest.frame_height)
    return open_ours(replace(setting, clip=replace(setting.clip, scales=(scale,))))


def _first_step(setting: Setting, loader: TrainLoader) -> int:
    return loader.steps_per_epoch - len(setting.batches)


def _item(batch: ClipBatch) -> ClipItem:
    return ClipItem(batch.sample_B, batch.clip_BTHWC, batch.mask_BTHW, batch.scene_BS, batch.label_B)


def open_decode_only(setting: Setting) -> CountedPass:
    """Decode the windows' frames whole, from memory: what no loader of whole frames of these strips can beat."""
    dataset = setting.dataset
    batches = []
    for windows in setting.batches:
        frames_BT = frame_indices(setting.clip, windows, dataset.frame_counts[windows.sample_B])
        clips = zip(windows.sample_B.tolist(), frames_BT, strict=True)
        strips = [dataset.read_clip(sample, frames_T).parts for sample, frames_T in clips]
        batches.append([np.frombuffer(part.data, np.uint8) for parts in strips for part in parts])
    decoder = StripDecoder(setting, batches)
    return decoder.run


class StripDecoder:
    """A DALI pipeline of a decoder and nothing else."""

    def __init__(self, setting: Setting, batches: list[list[NDArray[np.uint8]]]) -> None:
        self._batches = batches
        self._sizes = [len(windows) for windows in setting.batches]
        self._position = iter(batches)
        on_gpu = setting.device.type == "cuda"
        self._pipeline: Pipeline = _decode_graph(
            lambda: next(self._position),
            "mixed" if on_gpu else "cpu",
            batch_size=max(map(len, batches)),
            num_threads=setting.workers,
            device_id=setting.device.index if on_gpu else None,
            prefetch_queue_depth=setting.prefetch,
            exec_dynamic=on_gpu,  # on a CPU the slower one
        )

    def run(self) -> Iterator[int]:
        """Decode all, and yield the clips of every batch."""
        self._position = iter(self._batches)
        self._pipeline.reset()
        for size in self._sizes:
            self._pipeline.run()
            yield size


@pipeline_def
def _decode_graph(source: Callable[[], list[NDArray[np.uint8]]], backend: str) -> DataNode:
    strip = fn.external_source(source=source, dtype=types.DALIDataType.UINT8, ndim=1)
    return fn.decoders.image(strip, device=backend, output_type=types.DALIImageType.RGB)

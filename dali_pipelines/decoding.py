"""From windows to batches of clips: read the bytes, decode them with DALI, crop.

Three generators in a row: ``_read`` -> ``_decode`` -> ``_crop`` (CPU) or ``_collect`` (GPU). On a CPU all of them run
in a background thread; on a GPU the reading does, and the rest is queued on the consumer's CUDA stream.

Shape suffixes: B clips of a batch, T frames of a window, H W C rows, columns and colours, S scenes.
"""

import weakref
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali.pipeline import Pipeline
from torch import Tensor

from dali_pipelines.augmentation import ClipConfig, Windows, frame_indices
from dali_pipelines.cropping import crop_clip, crop_mask
from dali_pipelines.graph import build_clip_pipeline
from dali_pipelines.prefetch import BackgroundIterator
from shards.dataset import ShardDataset, StoredClip
from shards.errors import UserError
from shards.filmstrip import MAX_STRIP_ROWS


@dataclass(frozen=True)
class ClipBatch:
    """One batch, on the loader's device. B may differ by one from batch to batch."""

    clip_BTHWC: Tensor
    """uint8, contiguous: ``.permute(0, 4, 1, 2, 3)`` is (B, C, T, H, W) in ``channels_last_3d`` without a copy."""
    mask_BTHW: Tensor | None
    """bool, true on people, cut as the clip; all false where a clip has no mask. None: the data set has no masks."""
    has_mask_B: Tensor
    """bool, whether the clip comes with a mask."""
    scene_BS: Tensor | None
    """float32, soft scene label of the clip, zeros where it has none. None: the data set has no scene labels."""
    label_B: Tensor
    """int64, action class."""
    sample_B: Tensor
    """int64, number of the clip in the data set."""
    window_B: Tensor
    """int64, number of the evaluation window in its clip; 0 in training."""


@dataclass(frozen=True)
class _Request:
    """The stored bytes of a batch of windows, and where to cut."""

    windows: Windows
    strips: list[NDArray[np.uint8]]
    frames_shapes: list[NDArray[np.int32]]
    roi_B22: NDArray[np.int64]
    packed_masks: list[NDArray[np.uint8]]
    mask_roi_B22: NDArray[np.float64]
    has_mask_B: NDArray[np.bool_]


@dataclass
class _Source:
    """What DALI calls for its next batch; remembers those it has not given back yet."""

    with_crop: bool
    with_masks: bool
    requests: Iterator[_Request] = field(default_factory=lambda: iter(()))
    in_flight: deque[_Request] = field(default_factory=deque)

    def next_inputs(self) -> tuple[list[NDArray[Any]], ...]:
        request = next(self.requests)
        self.in_flight.append(request)
        inputs: tuple[list[NDArray[Any]], ...] = (request.strips, request.frames_shapes)
        if self.with_crop:
            inputs += (list(request.roi_B22.astype(np.float32)),)
        if self.with_masks:
            inputs += (request.packed_masks, list(request.mask_roi_B22.astype(np.float32)))
        return inputs


class ClipDecoder:
    """Decodes windows of a data set's clips; one DALI pipeline serves all iterations.

    ``crop_in_graph``: crop with DALI (the default on a GPU) or with torch (the default, and faster, on a CPU).
    """

    def __init__(
        self,
        dataset: ShardDataset,
        config: ClipConfig,
        *,
        batch_size: int,
        device: torch.device,
        threads: int,
        prefetch: int,
        crop_in_graph: bool | None = None,
    ) -> None:
        for name, value in (("threads", threads), ("prefetch", prefetch)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"device must be cpu or cuda, got {device}")
        rows = config.frames * dataset.manifest.frame_height
        if rows > MAX_STRIP_ROWS:
            raise UserError(
                f"--frames {config.frames} of {dataset.manifest.frame_height} rows exceed the {MAX_STRIP_ROWS} rows"
                " that one picture may have: take fewer frames, or pack with a smaller --height"
            )
        if device == torch.device("cuda"):
            device = torch.device("cuda", torch.cuda.current_device())
        self._dataset = dataset
        self._config = config
        self._batch_size = batch_size
        self._device = device
        self._threads = threads
        self._prefetch = prefetch
        self._on_gpu = device.type == "cuda"
        self._crop_in_graph = self._on_gpu if crop_in_graph is None else crop_in_graph
        self._crop_pool = ThreadPoolExecutor(threads, thread_name_prefix="crop")
        self._idle_pipeline: tuple[Pipeline, _Source] | None = None
        self._current: weakref.ref[Generator[ClipBatch, None, None]] | None = None

    def batches(self, windows: Iterable[Windows]) -> Generator[ClipBatch, None, None]:
        """Decode one batch for each item of ``windows``, ahead of the consumer.

        Ends the iteration that an earlier call began. Raises UserError, naming the clip, where one cannot be read or
        decoded.
        """
        if self._current is not None and (current := self._current()) is not None:
            current.close()
        generator = self._run(windows)
        self._current = weakref.ref(generator)
        return generator

    def _run(self, windows: Iterable[Windows]) -> Generator[ClipBatch, None, None]:
        finish = self._collect if self._crop_in_graph else self._crop
        if self._on_gpu:
            with closing(BackgroundIterator(self._read(windows), self._prefetch)) as requests:
                yield from finish(self._decode(requests))
        else:
            with closing(BackgroundIterator(finish(self._decode(self._read(windows))), self._prefetch)) as batches:
                yield from batches

    def _read(self, windows: Iterable[Windows]) -> Generator[_Request, None, None]:
        no_mask = np.zeros((self._config.frames, 1, 1), np.uint8)
        for batch in windows:
            frame_size_B2 = self._dataset.frame_sizes[batch.sample_B]
            mask_size_B2 = np.array([self._dataset.mask_size(sample) for sample in batch.sample_B.tolist()])
            roi_B22 = batch.rois()
            stored = self._read_clips(batch)
            yield _Request(
                windows=batch,
                strips=[np.frombuffer(clip.strip, np.uint8) for clip in stored],
                frames_shapes=[np.array([self._config.frames, *size, 3], np.int32) for size in frame_size_B2],
                roi_B22=roi_B22,
                packed_masks=[no_mask if clip.masks is None else clip.masks for clip in stored],
                mask_roi_B22=roi_B22 * (np.maximum(mask_size_B2, 1) / frame_size_B2)[:, None],
                has_mask_B=np.array([clip.masks is not None for clip in stored]),
            )

    def _read_clips(self, windows: Windows) -> list[StoredClip]:
        frames_BT = frame_indices(self._config, windows, self._dataset.frame_counts[windows.sample_B])
        stored = []
        for sample, frames_T in zip(windows.sample_B.tolist(), frames_BT, strict=True):
            try:
                stored.append(self._dataset.read_clip(sample, frames_T))
            except (OSError, ValueError) as error:
                raise UserError(f"{self._describe(sample)} cannot be read ({error}); make the shards again") from error
        return stored

    def _decode(self, requests: Iterator[_Request]) -> Generator[tuple[_Request, Any], None, None]:
        pipeline, source = self._idle_pipeline or self._build_pipeline()
        # A pipeline with batches in flight, after an error or an early stop, is never used again.
        self._idle_pipeline = None
        source.requests = requests
        while True:
            stream = torch.cuda.current_stream(self._device) if self._on_gpu else None
            try:
                outputs = pipeline.run(stream)
            except StopIteration:
                break
            except RuntimeError as error:
                self._name_broken_clip(source.in_flight)
                raise error
            yield source.in_flight.popleft(), outputs
        pipeline.reset()
        self._idle_pipeline = pipeline, source

    def _crop(self, decoded: Generator[tuple[_Request, Any], None, None]) -> Generator[ClipBatch, None, None]:
        for request, (frames,) in decoded:
            yield self._crop_batch(request, frames)

    def _crop_batch(self, request: _Request, frames: Any) -> ClipBatch:
        size = self._config.size
        shape = (len(request.windows), self._config.frames, size, size)
        clip_BTHWC = torch.empty((*shape, 3), dtype=torch.uint8)
        mask_BTHW = torch.empty(shape, dtype=torch.bool) if self._dataset.has_masks else None

        def crop(index: int) -> None:
            clip_BTHWC[index] = crop_clip(torch.from_dlpack(frames[index]), request.roi_B22[index], size)
            if mask_BTHW is not None:
                mask = crop_mask(request.packed_masks[index], request.mask_roi_B22[index], size)
                mask_BTHW[index] = torch.from_numpy(mask)

        list(self._crop_pool.map(crop, range(len(request.windows))))  # list: raises what a thread raised
        return self._batch(request, clip_BTHWC, mask_BTHW)

    def _collect(self, decoded: Generator[tuple[_Request, Any], None, None]) -> Generator[ClipBatch, None, None]:
        for request, outputs in decoded:
            clip_BTHWC, *masks = (torch.from_dlpack(output.as_tensor()) for output in outputs)
            yield self._batch(request, clip_BTHWC, masks[0][..., 0].view(torch.bool) if masks else None)

    def _batch(self, request: _Request, clip_BTHWC: Tensor, mask_BTHW: Tensor | None) -> ClipBatch:
        def to_device(values: NDArray[Any]) -> Tensor:
            return torch.from_numpy(values).to(self._device, non_blocking=True)

        sample_B = request.windows.sample_B
        scenes = self._dataset.scenes
        return ClipBatch(
            clip_BTHWC=clip_BTHWC,
            mask_BTHW=mask_BTHW,
            has_mask_B=to_device(request.has_mask_B),
            scene_BS=None if scenes is None else to_device(scenes[sample_B].astype(np.float32)),
            label_B=to_device(self._dataset.labels[sample_B]),
            sample_B=to_device(sample_B),
            window_B=to_device(request.windows.window_B),
        )

    def _build_pipeline(self) -> tuple[Pipeline, _Source]:
        masks = self._crop_in_graph and self._dataset.has_masks
        source = _Source(with_crop=self._crop_in_graph, with_masks=masks)
        pipeline = build_clip_pipeline(
            self._config,
            source.next_inputs,
            device="gpu" if self._on_gpu else "cpu",
            crop=self._crop_in_graph,
            masks=masks,
            batch_size=self._batch_size,
            threads=self._threads,
            prefetch=self._prefetch,
            device_id=self._device.index,
        )
        return pipeline, source

    def _name_broken_clip(self, requests: Iterable[_Request]) -> None:
        """Raise UserError for the first clip that cannot be decoded, if there is one: DALI only names the batch."""
        for request in requests:
            samples = request.windows.sample_B.tolist()
            for sample, strip, shape in zip(samples, request.strips, request.frames_shapes, strict=True):
                try:
                    self._decode_alone(strip, shape)
                except RuntimeError as error:
                    raise UserError(
                        f"{self._describe(sample)} cannot be decoded, its stored bytes are damaged; "
                        "make the shards again"
                    ) from error

    def _decode_alone(self, strip: NDArray[np.uint8], frames_shape: NDArray[np.int32]) -> None:
        build_clip_pipeline(
            self._config,
            lambda: ([strip], [frames_shape]),
            device="cpu",
            crop=False,
            masks=False,
            batch_size=1,
            threads=1,
            prefetch=1,
        ).run()

    def _describe(self, sample: int) -> str:
        try:
            clip = f"clip {self._dataset.info(sample).name!r}"
        except (UserError, OSError, ValueError):  # its description may be damaged as well
            clip = f"clip number {sample}"
        return f"{clip} in {self._dataset.directory}"

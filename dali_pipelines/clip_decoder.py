"""From windows to batches of clips: read the bytes, decode them, crop.

Three stages in a row: ``RequestReader.read`` -> ``Decoder.decode`` -> ``_crop`` (CPU) or ``_collect`` (GPU). The first
runs in a background thread. On a CPU so does the rest, in another, and where the batches belong on a GPU starts their
copies; on a GPU it is queued on the consumer's CUDA stream.

Shape suffixes: B clips of a batch, T frames of a window, H W C rows, columns and colours, S scenes.
"""

import weakref
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dali_pipelines.cropping import crop_clip, crop_mask
from dali_pipelines.cropping import frame_means as mean_colours
from dali_pipelines.decoders import Decoded, Decoder, GraphDecoder, PyAvDecoder
from dali_pipelines.decoding_config import DecodingConfig
from dali_pipelines.device_copies import DeviceCopies
from dali_pipelines.faults import FaultConfig, Faults
from dali_pipelines.gpu_decoding import decodes_on_gpu
from dali_pipelines.graph import CPU_CODECS, front_end
from dali_pipelines.prefetch import BackgroundIterator
from dali_pipelines.requests import Draw, Request, RequestReader
from dali_pipelines.reused_memory import ReusedMemory
from dali_pipelines.windows import ClipConfig, showings
from shards.checks import require_at_least
from shards.codecs.filmstrip import MAX_STRIP_ROWS
from shards.codecs.registry import FILMSTRIP
from shards.dataset import ShardDataset
from shards.errors import UserError

_DEFAULT_DECODING = DecodingConfig()


@dataclass(frozen=True)
class ClipBatch:
    """One batch, on the loader's device. B may differ from batch to batch."""

    clip_BTHWC: Tensor
    """uint8, contiguous."""
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
    frame_mean_BTC: Tensor | None = None
    """uint8, mean colour of each whole frame, outside the crop too; None: not asked for."""
    repeat_B: Tensor | None = None
    """int64, how often the clip came before in this batch, or of several data sets in the run, each time cut anew;
    None: every clip comes once."""
    skipped_count: int = 0
    """In how many places another clip is than was to be there, because that could not be read or decoded."""

    @property
    def showing_B(self) -> Tensor:
        """int64, what names the random draws of each place: the clip's number, where it comes for the first time."""
        return self.sample_B if self.repeat_B is None else showings(self.sample_B, self.repeat_B)

    @property
    def clip_BCTHW(self) -> Tensor:
        """What 3-D convolutions take: a view of ``clip_BTHWC``, in ``channels_last_3d`` without a copy."""
        return self.clip_BTHWC.permute(0, 4, 1, 2, 3)


class ClipDecoder:
    """Decodes windows of a data set's clips, of any codec; one DALI pipeline serves all iterations.

    Batches lie on ``device``; ``decoding`` says whether they are made there.
    ``threads`` of DALI decode, on a CPU as many others crop; ``prefetch`` batches are read ahead, and as many decoded.
    ``faults`` says what comes of clips that cannot be read or decoded; where they are skipped, a line tells of each
    unless ``quiet``.
    ``frame_means``: decode all of every frame, for its mean colour.
    ``crop_in_graph``: crop with DALI (the default on a GPU) or with torch (the default, and faster, on a CPU).

    Raises UserError where ``decoding`` asks for a GPU that cannot be had.
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
        faults: FaultConfig | None = None,
        quiet: bool = False,
        frame_means: bool = False,
        crop_in_graph: bool | None = None,
        decoding: DecodingConfig = _DEFAULT_DECODING,
    ) -> None:
        require_at_least(1, threads=threads, prefetch=prefetch)
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"device must be cpu or cuda, got {device}")
        if device == torch.device("cuda"):
            device = torch.device("cuda", torch.cuda.current_device())
        self._dataset = dataset
        self._config = config
        self._prefetch = prefetch
        self._on_gpu = decodes_on_gpu(dataset, device, decoding.loader_device, quiet=quiet)
        self._device = device if self._on_gpu else torch.device("cpu")
        goes_to_gpu = device.type == "cuda" and not self._on_gpu
        self._copies: DeviceCopies[ClipBatch] | None = DeviceCopies(device, prefetch) if goes_to_gpu else None
        self._crop_in_graph = self._on_gpu if crop_in_graph is None else crop_in_graph
        self._threads = threads
        self._frame_means = frame_means
        # The batches ahead, the one in the making, the one in use, and the one that is just being let go of.
        self._clip_memory, self._mask_memory = (ReusedMemory(prefetch + 3, pinned=goes_to_gpu) for _ in range(2))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="crop")
        _check_rows(dataset, config)
        fault_config = faults or FaultConfig()
        self.faults = Faults(fault_config, len(dataset), quiet=quiet)
        self._reader = RequestReader(
            dataset,
            config,
            self.faults,
            cut_columns=front_end(dataset.codec, "gpu" if self._on_gpu else "cpu").cuts_columns,
            whole_frames=frame_means,
            check_crc=fault_config.check_crc,
        )
        self._decoder: Decoder
        if self._on_gpu or self._crop_in_graph or dataset.codec in CPU_CODECS:
            self._decoder = GraphDecoder(
                dataset,
                config,
                device=self._device,
                crop=self._crop_in_graph,
                frame_means=frame_means and self._crop_in_graph,
                batch_size=batch_size,
                threads=threads,
                prefetch=prefetch,
                decoding=decoding,
            )
        else:
            self._decoder = PyAvDecoder(dataset, self._pool)
        self._current: weakref.ref[Generator[ClipBatch, None, None]] | None = None

    def batches(self, draws: Iterable[Draw]) -> Generator[ClipBatch, None, None]:
        """Decode one batch for each item of ``draws``, ahead of the consumer.

        Ends the iteration that an earlier call began. Raises UserError, naming the clip, where one cannot be read or
        decoded and may not be passed over.
        """
        if self._current is not None and (current := self._current()) is not None:
            current.close()
        generator = self._run(draws)
        self._current = weakref.ref(generator)
        return generator

    def _run(self, draws: Iterable[Draw]) -> Generator[ClipBatch, None, None]:
        finish = self._collect if self._crop_in_graph else self._crop
        with closing(BackgroundIterator(self._read(draws), self._prefetch)) as requests:
            batches = finish(self._decoder.decode(requests, self._reader.replace))
            if self._on_gpu:
                yield from batches
            elif self._copies is not None:
                with closing(BackgroundIterator(self._copies.started(batches), self._prefetch)) as copies:
                    yield from self._copies.received(copies)
            else:
                with closing(BackgroundIterator(batches, self._prefetch)) as cropped:
                    yield from cropped

    def _read(self, draws: Iterable[Draw]) -> Generator[Request, None, None]:
        with closing(self._dataset.reading_ahead(draws, attrgetter("windows.sample_B"))) as batches:
            for draw in batches:
                yield self._reader.read(draw)

    def _crop(self, decoded: Generator[tuple[Request, Decoded], None, None]) -> Generator[ClipBatch, None, None]:
        for request, (frames,) in decoded:
            yield self._crop_batch(request, frames)

    def _crop_batch(self, request: Request, frames: Sequence[Any]) -> ClipBatch:
        size = self._config.size
        shape = (len(request.windows), self._config.frames, size, size)
        clip_BTHWC = self._clip_memory.empty((*shape, 3))
        mask_BTHW = self._mask_memory.empty(shape) if self._dataset.has_masks else None
        mean_BTC = torch.empty((*shape[:2], 3), dtype=torch.uint8) if self._frame_means else None

        def crop(first: int) -> None:
            for index in range(first, len(request.pieces), self._threads):
                piece = request.pieces[index]
                window, places = piece.window, piece.frames
                frames_THWC = torch.from_numpy(np.asarray(frames[index]))
                crop_clip(frames_THWC, request.roi_B22[window], clip_BTHWC[window, places])
                if mean_BTC is not None:
                    mean_BTC[window, places] = mean_colours(frames_THWC)
                if mask_BTHW is not None:
                    packed_masks, roi_22 = request.packed_masks[window][places], request.mask_roi_B22[window]
                    crop_mask(packed_masks, roi_22, mask_BTHW[window, places].numpy())

        list(self._pool.map(crop, range(self._threads)))  # list: raises what a thread raised
        return self._batch(request, clip_BTHWC, None if mask_BTHW is None else mask_BTHW.view(torch.bool), mean_BTC)

    def _collect(self, decoded: Generator[tuple[Request, Decoded], None, None]) -> Generator[ClipBatch, None, None]:
        for request, outputs in decoded:
            clip_BTHWC, *others = (_join(output).unflatten(0, (-1, self._config.frames)) for output in outputs)
            mean_BTC = others.pop().round().to(torch.uint8) if self._frame_means else None
            yield self._batch(request, clip_BTHWC, others[0][..., 0].view(torch.bool) if others else None, mean_BTC)

    def _batch(
        self, request: Request, clip_BTHWC: Tensor, mask_BTHW: Tensor | None, frame_mean_BTC: Tensor | None
    ) -> ClipBatch:
        def to_device(values: NDArray[Any]) -> Tensor:
            return torch.from_numpy(values).to(self._device, non_blocking=True)

        sample_B, repeat_B = request.windows.sample_B, request.windows.repeat_B
        scenes = self._dataset.scenes
        return ClipBatch(
            clip_BTHWC=clip_BTHWC,
            mask_BTHW=mask_BTHW,
            has_mask_B=to_device(request.has_mask_B),
            scene_BS=None if scenes is None else to_device(scenes[sample_B].astype(np.float32)),
            label_B=to_device(self._dataset.labels[sample_B]),
            sample_B=to_device(sample_B),
            window_B=to_device(request.windows.window_B),
            frame_mean_BTC=frame_mean_BTC,
            repeat_B=to_device(repeat_B) if repeat_B.any() else None,
            skipped_count=request.draw.skipped_count,
        )


def _check_rows(dataset: ShardDataset, config: ClipConfig) -> None:
    rows = config.frames * dataset.manifest.frame_height
    if dataset.codec == FILMSTRIP and rows > MAX_STRIP_ROWS:
        raise UserError(
            f"--frames {config.frames} of {dataset.manifest.frame_height} rows exceed the {MAX_STRIP_ROWS} rows"
            " that one picture may have: take fewer frames, or pack with a smaller --height"
        )


def _join(pieces: Any) -> Tensor:
    """What DALI puts out for every piece, one after another along the frames."""
    if pieces.is_dense_tensor():
        return torch.from_dlpack(pieces.as_tensor()).flatten(0, 1)
    return torch.cat([torch.from_dlpack(pieces[index]) for index in range(len(pieces))])

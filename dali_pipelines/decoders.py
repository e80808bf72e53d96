"""From stored bytes to frames: with a DALI graph, or with PyAV for the video that DALI decodes on GPUs only."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali.pipeline import Pipeline

from dali_pipelines.decoding_config import DecodingConfig
from dali_pipelines.graph import CPU_CODECS, Device, Inputs, build_clip_pipeline, graph_inputs
from dali_pipelines.requests import Piece, Request
from dali_pipelines.windows import ClipConfig
from shards.codecs.parts import DamagedPartError
from shards.codecs.registry import FILMSTRIP, part_format
from shards.dataset import ShardDataset
from shards.errors import DamagedClipError

_DEFAULT_DECODING = DecodingConfig()
Decoded = Sequence[Any]
"""The frames of every piece or, where a graph crops, the clips and the masks: each indexed by piece."""


Replace = Callable[[Request, Mapping[int, DamagedClipError]], Request]


class Decoder(Protocol):
    """Decodes batch after batch, for one iteration after another."""

    def decode(self, requests: Iterator[Request], replace: Replace) -> Generator[tuple[Request, Decoded], None, None]:
        """Yield every request with its frames.

        ``replace`` gives a request with other clips in place of windows that cannot be decoded, or raises.
        """
        ...


class PyAvDecoder:
    """Decodes on the CPU, in the threads of ``pool``: uint8 arrays (F, H, W, 3)."""

    def __init__(self, dataset: ShardDataset, pool: Executor) -> None:
        self._dataset = dataset
        self._pool = pool

    def decode(self, requests: Iterator[Request], replace: Replace) -> Generator[tuple[Request, Decoded], None, None]:
        for request in requests:
            frames = self._decode(request)
            while faults := _faults(request, frames):
                request = replace(request, faults)
                frames = self._decode(request)
            yield request, (frames,)

    def _decode(self, request: Request) -> list[NDArray[np.uint8] | DamagedClipError]:
        return list(self._pool.map(partial(_decode_piece, self._dataset, request), request.pieces))


class GraphDecoder:
    """Decodes with a DALI pipeline, the same one for all iterations, and crops where ``crop`` is set.

    Arguments as of ``build_clip_pipeline``; ``batch_size`` counts windows.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        config: ClipConfig,
        *,
        device: torch.device,
        crop: bool,
        frame_means: bool = False,
        batch_size: int,
        threads: int,
        prefetch: int,
        decoding: DecodingConfig = _DEFAULT_DECODING,
    ) -> None:
        self._dataset = dataset
        self._config = config
        self._device = device
        masks = crop and dataset.has_masks
        graph_device: Device = "gpu" if device.type == "cuda" else "cpu"
        self._inputs = partial(graph_inputs, codec=dataset.codec, device=graph_device, crop=crop, masks=masks)
        self._build_pipeline = partial(
            build_clip_pipeline,
            config,
            codec=dataset.codec,
            device=graph_device,
            crop=crop,
            masks=masks,
            frame_means=frame_means,
            # At worst every frame of a window lies in a part of its own.
            batch_size=batch_size if dataset.codec == FILMSTRIP else batch_size * config.frames,
            threads=threads,
            prefetch=prefetch,
            device_id=device.index,
            decoding=decoding,
            largest_strip=_largest_strip(dataset, config) if graph_device == "gpu" else (0, 0),
        )
        self._idle: tuple[Pipeline, _Source] | None = None

    def decode(self, requests: Iterator[Request], replace: Replace) -> Generator[tuple[Request, Decoded], None, None]:
        pipeline, source = self._idle or self._build()
        # A pipeline with batches in flight, after an error or an early stop, is never used again.
        self._idle = None
        source.requests = requests
        while True:
            stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
            try:
                outputs = pipeline.run(stream)
            except StopIteration:
                break
            except RuntimeError:
                again = self._without_faults(source.in_flight, replace)
                if again is None:
                    raise
                pipeline, source = self._build()
                source.requests = chain(again, requests)
                continue
            yield source.in_flight.popleft(), outputs
        pipeline.reset()
        self._idle = pipeline, source

    def _build(self) -> tuple[Pipeline, "_Source"]:
        source = _Source(self._inputs)
        return self._build_pipeline(source.next_inputs), source

    def _without_faults(self, requests: Iterable[Request], replace: Replace) -> list[Request] | None:
        """The same batches with other clips for those that cannot be decoded; None where that is not what is wrong.

        DALI only names the batch, so every clip is decoded alone, on the CPU.
        """
        mended, found = [], False
        for request in requests:
            while faults := _faults(request, [self._decode_alone(request, piece) for piece in request.pieces]):
                found = True
                request = replace(request, faults)
            mended.append(request)
        return mended if found else None

    def _decode_alone(self, request: Request, piece: Piece) -> DamagedClipError | None:
        codec = self._dataset.codec
        if codec not in CPU_CODECS:
            decoded = _decode_piece(self._dataset, request, piece)
            return decoded if isinstance(decoded, DamagedClipError) else None
        inputs = graph_inputs(request.alone(piece), codec, device="cpu", crop=False, masks=False)
        pipeline = build_clip_pipeline(
            self._config,
            lambda: inputs,
            codec=codec,
            device="cpu",
            crop=False,
            masks=False,
            batch_size=1,
            threads=1,
            prefetch=1,
        )
        try:
            pipeline.run()
        except RuntimeError:
            return _damaged(self._dataset, request, piece, "it cannot be decoded")
        return None


def _largest_strip(dataset: ShardDataset, config: ClipConfig) -> tuple[int, int]:
    """The most rows and columns of a JPEG of one window's frames."""
    rows, columns = dataset.frame_sizes.max(axis=0).tolist()
    return config.frames * rows, columns


@dataclass
class _Source:
    """What DALI calls for its next batch."""

    inputs: Callable[[Request], Inputs]
    """What the graph takes of a request."""
    requests: Iterator[Request] = field(default_factory=lambda: iter(()))
    """Those to come."""
    in_flight: deque[Request] = field(default_factory=deque)
    """Those that DALI has taken and whose batches it has not given back yet, in order."""

    def next_inputs(self) -> Inputs:
        request = next(self.requests)
        self.in_flight.append(request)
        return self.inputs(request)


def _decode_piece(dataset: ShardDataset, request: Request, piece: Piece) -> NDArray[np.uint8] | DamagedClipError:
    try:
        return part_format(dataset.codec).decode(piece.coded)
    except DamagedPartError as error:
        return _damaged(dataset, request, piece, str(error))


def _damaged(dataset: ShardDataset, request: Request, piece: Piece, reason: str) -> DamagedClipError:
    return dataset.damaged(int(request.windows.sample_B[piece.window]), reason)


def _faults(request: Request, decoded: Sequence[Any]) -> dict[int, DamagedClipError]:
    """The windows of those pieces that gave an error, and the error."""
    pieces = zip(request.pieces, decoded, strict=True)
    return {piece.window: error for piece, error in pieces if isinstance(error, DamagedClipError)}

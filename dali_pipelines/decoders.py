"""From stored bytes to frames: with a DALI graph, or with PyAV for the video that DALI decodes on GPUs only."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali.pipeline import Pipeline

from dali_pipelines.augmentation import ClipConfig
from dali_pipelines.graph import CPU_CODECS, FrontEnd, build_clip_pipeline, front_end
from dali_pipelines.requests import Piece, Request, describe_clip
from shards.codecs import FILMSTRIP, part_format
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.parts import DamagedPartError

Decoded = Sequence[Any]
"""The frames of every piece or, where a graph crops, the clips and the masks: each indexed by piece."""


class Decoder(Protocol):
    """Decodes batch after batch, for one iteration after another."""

    def decode(self, requests: Iterator[Request]) -> Generator[tuple[Request, Decoded], None, None]:
        """Yield every request with its frames; raises UserError, naming the clip, where one cannot be decoded."""
        ...


class PyAvDecoder:
    """Decodes on the CPU, in the threads of ``pool``: uint8 arrays (F, H, W, 3)."""

    def __init__(self, dataset: ShardDataset, pool: Executor) -> None:
        self._dataset = dataset
        self._pool = pool

    def decode(self, requests: Iterator[Request]) -> Generator[tuple[Request, Decoded], None, None]:
        for request in requests:
            yield request, (list(self._pool.map(partial(self._decode_piece, request), request.pieces)),)

    def _decode_piece(self, request: Request, piece: Piece) -> NDArray[np.uint8]:
        height = int(request.frame_size_B2[piece.window][0])
        try:
            return part_format(self._dataset.codec).decode(piece.coded, height)
        except DamagedPartError as error:
            raise _cannot_be_decoded(self._dataset, request, piece) from error


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
        batch_size: int,
        threads: int,
        prefetch: int,
    ) -> None:
        self._dataset = dataset
        self._config = config
        self._device = device
        self._crop = crop
        self._masks = crop and dataset.has_masks
        # At worst every frame of a window lies in a part of its own.
        self._batch_size = batch_size if dataset.codec == FILMSTRIP else batch_size * config.frames
        self._threads = threads
        self._prefetch = prefetch
        self._idle: tuple[Pipeline, _Source] | None = None

    def decode(self, requests: Iterator[Request]) -> Generator[tuple[Request, Decoded], None, None]:
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
            except RuntimeError as error:
                self._name_broken_clip(source.in_flight)
                raise error
            yield source.in_flight.popleft(), outputs
        pipeline.reset()
        self._idle = pipeline, source

    def _build(self) -> tuple[Pipeline, "_Source"]:
        source = _Source(partial(_graph_inputs, front_end(self._dataset.codec), self._crop, self._masks))
        pipeline = build_clip_pipeline(
            self._config,
            source.next_inputs,
            codec=self._dataset.codec,
            device="gpu" if self._device.type == "cuda" else "cpu",
            crop=self._crop,
            masks=self._masks,
            batch_size=self._batch_size,
            threads=self._threads,
            prefetch=self._prefetch,
            device_id=self._device.index,
        )
        return pipeline, source

    def _name_broken_clip(self, requests: Iterable[Request]) -> None:
        """Raise UserError for the first clip that cannot be decoded, if there is one: DALI only names the batch."""
        for request in requests:
            for piece in request.pieces:
                try:
                    self._decode_alone(request, piece)
                except (RuntimeError, DamagedPartError) as error:
                    raise _cannot_be_decoded(self._dataset, request, piece) from error

    def _decode_alone(self, request: Request, piece: Piece) -> None:
        """Decode one piece on the CPU: with DALI where it can."""
        codec, frame_size_2 = self._dataset.codec, request.frame_size_B2[piece.window]
        if codec not in CPU_CODECS:
            part_format(codec).decode(piece.coded, int(frame_size_2[0]))
            return
        build_clip_pipeline(
            self._config,
            lambda: _coded_inputs(front_end(codec), [piece], [frame_size_2]),
            codec=codec,
            device="cpu",
            crop=False,
            masks=False,
            batch_size=1,
            threads=1,
            prefetch=1,
        ).run()


GraphInputs = tuple[list[NDArray[Any]], ...]


@dataclass
class _Source:
    """What DALI calls for its next batch; remembers those it has not given back yet."""

    inputs: Callable[[Request], GraphInputs]
    requests: Iterator[Request] = field(default_factory=lambda: iter(()))
    in_flight: deque[Request] = field(default_factory=deque)

    def next_inputs(self) -> GraphInputs:
        request = next(self.requests)
        self.in_flight.append(request)
        return self.inputs(request)


def _graph_inputs(codec_front_end: FrontEnd, crop: bool, masks: bool, request: Request) -> GraphInputs:
    """The inputs of the graph for one batch, one of each kind for every piece."""
    pieces = request.pieces
    inputs = _coded_inputs(codec_front_end, pieces, [request.frame_size_B2[piece.window] for piece in pieces])
    if crop:
        roi_B22 = request.roi_B22.astype(np.float32)
        inputs += ([roi_B22[piece.window] for piece in pieces],)
    if masks:
        mask_roi_B22 = request.mask_roi_B22.astype(np.float32)
        inputs += (
            [request.packed_masks[piece.window][piece.frames] for piece in pieces],
            [mask_roi_B22[piece.window] for piece in pieces],
        )
    return inputs


def _coded_inputs(
    codec_front_end: FrontEnd, pieces: Sequence[Piece], frame_sizes: Sequence[NDArray[np.int64]]
) -> GraphInputs:
    return (
        [np.frombuffer(piece.coded.data, np.uint8) for piece in pieces],
        [codec_front_end.selection(piece.coded, size) for piece, size in zip(pieces, frame_sizes, strict=True)],
    )


def _cannot_be_decoded(dataset: ShardDataset, request: Request, piece: Piece) -> UserError:
    clip = describe_clip(dataset, int(request.windows.sample_B[piece.window]))
    return UserError(f"{clip} cannot be decoded, its stored bytes are damaged; make the shards again")

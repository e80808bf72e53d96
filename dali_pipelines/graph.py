"""The DALI graph: coded bytes become frames, and on request the network's input.

Shape suffixes: P pieces of a batch, each the frames of a window that are decoded together; T frames of a piece; H and W
of what is decoded of a frame, h and w of the stored mask, S side of the network's input. Inputs, from the ``source`` of
the pipeline, in this order:

- ``coded``: uint8, the bytes of one JPEG with T frames stacked top to bottom, or of a video segment;
- of film strips ``shape``: int32 (P, 4), the T, H, W, 3 that come out, and on a CPU ``columns``: int32 (P, 2), where in
  the stored frame they begin and how many they are; of video ``frames``: int32 (T,), which frames of the segment;

and where the graph crops (``crop=True``):

- ``roi``: float32 (P, 2, 2), start and end corner (vertical, horizontal) in pixels of what is decoded; a reversed range
  mirrors;

and where it carries masks too:

- ``packed_mask``: uint8 (T, h, ceil(w / 8)), bits along x, the first pixel in the highest bit;
- ``mask_roi``: float32 (P, 2, 2), as ``roi``, in pixels of the mask.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline, pipeline_def

from dali_pipelines.decoding_config import DecodingConfig
from dali_pipelines.requests import Request
from dali_pipelines.windows import ClipConfig
from shards.codecs.registry import FILMSTRIP, Codec

CPU_CODECS: tuple[Codec, ...] = (FILMSTRIP, "vp9")
"""What DALI decodes on a CPU; on a GPU it decodes every codec."""

JPEG_PIXELS = {"jpeg_fancy_upsampling": True, "use_fast_idct": False}
"""Decides the pixels of film strips, on a CPU and on a GPU alike: colours of 4:2:2 interpolated, the exact inverse
transform. `tools/trials/decoding_floor.py` measures what the faster settings would give."""

_DEFAULT_DECODING = DecodingConfig()
_UINT8, _INT32, _FLOAT = types.DALIDataType.UINT8, types.DALIDataType.INT32, types.DALIDataType.FLOAT

Device = Literal["cpu", "gpu"]
Inputs = tuple[NDArray[Any] | list[NDArray[Any]], ...]
"""Of a batch: for every input an array for each piece, or one array of them all."""
Source = Callable[[], Inputs]


class FrontEnd(Protocol):
    """How the parts of a codec become frames."""

    cuts_columns: bool
    """Whether only the columns of the crop are decoded."""
    dtypes_and_ndims: list[tuple[Any, int]]
    """Of the inputs, sample by sample."""

    def inputs(self, request: Request) -> Inputs:
        """What the graph takes of a batch to decode it."""
        ...

    def frames(self, inputs: Sequence[DataNode]) -> DataNode:
        """Decode to uint8 (T, H, W, 3), layout FHWC."""
        ...


class FilmStripFrontEnd:
    """JPEGs of all the frames of a window.

    On a CPU libjpeg is spared the columns outside the crop; the pixels are the same. A GPU's decoder engines take no
    ranges, so there whole rows are decoded.
    """

    def __init__(self, device: Device, decoding: DecodingConfig, largest_strip: tuple[int, int]) -> None:
        self.cuts_columns = device == "cpu"
        self.dtypes_and_ndims = [(_UINT8, 1), (_INT32, 1)] + [(_INT32, 1)] * self.cuts_columns
        rows, columns = largest_strip if decoding.preallocate else (0, 0)
        self._mixed: dict[str, Any] = {
            "device": "mixed",
            "hw_decoder_load": decoding.hw_decoder_load,
            "hybrid_huffman_threshold": decoding.hybrid_huffman_threshold,
            "preallocate_height_hint": rows,
            "preallocate_width_hint": columns,
        }

    def inputs(self, request: Request) -> Inputs:
        coded = [np.frombuffer(piece.coded.data, np.uint8) for piece in request.pieces]
        frame_counts = [len(piece.coded.frames) for piece in request.pieces]
        begin_B2 = request.decoded_B22[:, 0]
        size_B2 = request.decoded_B22[:, 1] - begin_B2
        shape_B4 = np.column_stack([frame_counts, size_B2, np.full(len(coded), 3)]).astype(np.int32)
        if not self.cuts_columns:
            return coded, shape_B4
        return coded, shape_B4, np.column_stack([begin_B2[:, 1], size_B2[:, 1]]).astype(np.int32)

    def frames(self, inputs: Sequence[DataNode]) -> DataNode:
        coded, shape, *columns = inputs
        pixels: dict[str, Any] = {"output_type": types.DALIImageType.RGB, **JPEG_PIXELS}
        if columns:
            start, size = columns[0][0:1], columns[0][1:2]
            image = fn.decoders.image_slice(coded, start=start, shape=size, axes=[1], **pixels)
        else:
            image = fn.decoders.image(coded, **pixels, **self._mixed)
        return fn.reshape(image, shape=shape, layout="FHWC")


class VideoFrontEnd:
    """Video segments, decoded from their first frame on; a frame beyond the end is an error, never a black frame."""

    cuts_columns = False

    def __init__(self, device: Device) -> None:
        self._backend = "cpu" if device == "cpu" else "mixed"
        self.dtypes_and_ndims = [(_UINT8, 1), (_INT32, 1)]

    def inputs(self, request: Request) -> Inputs:
        coded = [np.frombuffer(piece.coded.data, np.uint8) for piece in request.pieces]
        return coded, [piece.coded.frames.astype(np.int32) for piece in request.pieces]

    def frames(self, inputs: Sequence[DataNode]) -> DataNode:
        coded, frames = inputs
        return fn.decoders.video(coded, frames=frames, pad_mode="none", device=self._backend)


def front_end(
    codec: Codec,
    device: Device,
    decoding: DecodingConfig = _DEFAULT_DECODING,
    largest_strip: tuple[int, int] = (0, 0),
) -> FrontEnd:
    """The part of the graph that depends on the codec; ``decoding`` and ``largest_strip`` matter on a GPU alone."""
    return FilmStripFrontEnd(device, decoding, largest_strip) if codec == FILMSTRIP else VideoFrontEnd(device)


def build_clip_pipeline(
    config: ClipConfig,
    source: Source,
    *,
    codec: Codec = FILMSTRIP,
    device: Device,
    crop: bool,
    masks: bool,
    frame_means: bool = False,
    batch_size: int,
    threads: int,
    prefetch: int,
    device_id: int | None = None,
    decoding: DecodingConfig = _DEFAULT_DECODING,
    largest_strip: tuple[int, int] = (0, 0),
) -> Pipeline:
    """Define the pipeline: frames (T, H, W, 3) or, with ``crop``, clips (T, S, S, 3) and masks (T, S, S, 1), uint8.

    With ``frame_means`` (and ``crop``) the last output is the mean colour of what is decoded of each frame, float32
    (T, 3).

    ``source`` gives the `graph_inputs` of one batch a call, and ends an epoch with ``StopIteration``.
    ``decoding`` sets a GPU's decoder; ``largest_strip``: the most rows and columns of a film strip, 0 if unknown.
    ``batch_size`` is the largest that will come. ``masks`` needs ``crop``. DALI allocates its resources at the
    first run, so a graph for a GPU can be made, and serialised, on a machine without one.

    Raises:
        ValueError: masks without a crop, or a codec that DALI does not decode on ``device``.
    """
    if device == "cpu" and codec not in CPU_CODECS:
        raise ValueError(f"codec must be one of {', '.join(CPU_CODECS)} on a CPU, got {codec!r}")
    if masks and not crop:
        raise ValueError("masks=True needs crop=True: masks only travel through a graph that crops them")
    if frame_means and not crop:
        raise ValueError("frame_means=True needs crop=True: without it the frames themselves come out")
    pipeline: Pipeline = _clip_graph(
        config,
        source,
        codec=codec,
        device=device,
        crop=crop,
        masks=masks,
        frame_means=frame_means,
        decoding=decoding,
        largest_strip=largest_strip,
        batch_size=batch_size,
        num_threads=threads,
        device_id=device_id,
        prefetch_queue_depth=prefetch,
        # On a CPU the other executor is the faster one: it keeps the memory of its outputs.
        exec_dynamic=device == "gpu",
    )
    return pipeline


def graph_inputs(request: Request, codec: Codec, *, device: Device, crop: bool, masks: bool) -> Inputs:
    """What ``source`` gives for a batch, to a pipeline of the same options."""
    inputs = front_end(codec, device).inputs(request)
    window_P = [piece.window for piece in request.pieces]
    if crop:
        inputs += (request.roi_B22[window_P].astype(np.float32),)
    if masks:
        packed_masks = [request.packed_masks[piece.window][piece.frames] for piece in request.pieces]
        inputs += (packed_masks, request.mask_roi_B22[window_P].astype(np.float32))
    return inputs


@pipeline_def
def _clip_graph(
    config: ClipConfig,
    source: Source,
    *,
    codec: Codec,
    device: Device,
    crop: bool,
    masks: bool,
    frame_means: bool,
    decoding: DecodingConfig,
    largest_strip: tuple[int, int],
) -> DataNode | tuple[DataNode, ...]:
    decoder = front_end(codec, device, decoding, largest_strip)
    dtypes_and_ndims = decoder.dtypes_and_ndims + _CROP_INPUTS * crop + _MASK_INPUTS * masks
    dtypes, ndims = map(list, zip(*dtypes_and_ndims, strict=True))
    # One operator for all inputs, so that a batch is fetched by one call of ``source``.
    inputs = list(fn.external_source(source=source, num_outputs=len(dtypes), dtype=dtypes, ndim=ndims))
    decoder_inputs = len(decoder.dtypes_and_ndims)
    frames_THWC = decoder.frames(inputs[:decoder_inputs])
    if not crop:
        return frames_THWC
    roi, *mask_inputs = inputs[decoder_inputs:]
    outputs = [_crop(frames_THWC, roi, config.size, types.DALIInterpType.INTERP_LINEAR)]
    if masks:
        packed_mask, mask_roi = mask_inputs
        outputs.append(_crop(_unpack(packed_mask, device), mask_roi, config.size, types.DALIInterpType.INTERP_NN))
    if frame_means:
        outputs.append(fn.reductions.mean(frames_THWC, axes=[1, 2]))
    return tuple(outputs)


_CROP_INPUTS: list[tuple[Any, int]] = [(_FLOAT, 2)]
_MASK_INPUTS: list[tuple[Any, int]] = [(_UINT8, 3), (_FLOAT, 2)]


def _unpack(packed_Thw8: DataNode, device: Device) -> DataNode:
    if device == "gpu":
        packed_Thw8 = packed_Thw8.gpu()
    shifts = types.Constant(np.arange(7, -1, -1, dtype=np.uint8), device=device)
    bits = (fn.expand_dims(packed_Thw8, axes=[3]) >> shifts) & np.uint8(1)
    return fn.reshape(bits, rel_shape=[1, 1, 8, 0.125], layout="FHWC")


def _crop(frames: DataNode, roi: DataNode, size: int, interpolation: types.DALIInterpType) -> DataNode:
    resized = fn.resize(frames, roi_start=roi[0], roi_end=roi[1], size=[size, size], interp_type=interpolation)
    return cast(DataNode, resized)

"""The DALI graph: coded bytes become frames, and on request the network's input.

Shape suffixes: T frames of a window, or those of them that lie in one video segment; H and W of the stored frame, h and
w of the stored mask, S side of the network's input. Inputs of a sample, from the ``source`` of the pipeline, in this
order:

- ``coded``: uint8, the bytes of one JPEG with T frames stacked top to bottom, or of a video segment;
- ``selection``: int32, of the JPEG (4,), its T, H, W, 3; of a segment (T,), which of its frames are wanted;

and where the graph crops (``crop=True``):

- ``roi``: float32 (2, 2), start and end corner (vertical, horizontal) in pixels; a reversed range mirrors;

and where it carries masks too:

- ``packed_mask``: uint8 (T, h, ceil(w / 8)), bits along x, the first pixel in the highest bit;
- ``mask_roi``: float32 (2, 2), as ``roi``, in pixels of the mask.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline, pipeline_def

from dali_pipelines.augmentation import ClipConfig
from shards.codecs import FILMSTRIP, Codec
from shards.parts import CodedFrames

CPU_CODECS: tuple[Codec, ...] = (FILMSTRIP, "vp9")
"""What DALI decodes on a CPU; on a GPU it decodes every codec."""

GPU_LEAST_SIZES: dict[Codec, tuple[int, int]] = {
    FILMSTRIP: (1, 1),
    "h264": (16, 48),
    "hevc": (144, 144),
    "vp9": (128, 128),
}
"""The smallest frames (H, W) that NVIDIA's decoder engines take, from the Video Codec SDK's table of capabilities."""

Device = Literal["cpu", "gpu"]
Source = Callable[[], tuple[list[np.ndarray], ...]]


class FrontEnd(Protocol):
    """How the parts of a codec become frames."""

    def selection(self, coded: CodedFrames, frame_size_2: NDArray[np.int64]) -> NDArray[np.int32]:
        """The graph's second input; ``frame_size_2`` is (H, W)."""
        ...

    def frames(self, coded: DataNode, selection: DataNode, backend: Literal["cpu", "mixed"]) -> DataNode:
        """Decode to uint8 (T, H, W, 3), layout FHWC."""
        ...


class FilmStripFrontEnd:
    """A JPEG of all the frames."""

    def selection(self, coded: CodedFrames, frame_size_2: NDArray[np.int64]) -> NDArray[np.int32]:
        return np.array([len(coded.frames), *frame_size_2, 3], np.int32)

    def frames(self, coded: DataNode, selection: DataNode, backend: Literal["cpu", "mixed"]) -> DataNode:
        image = fn.decoders.image(coded, device=backend, output_type=types.DALIImageType.RGB)
        return fn.reshape(image, shape=selection, layout="FHWC")


class VideoFrontEnd:
    """A video segment, decoded from its first frame on; a frame beyond its end is an error, never a black frame."""

    def selection(self, coded: CodedFrames, frame_size_2: NDArray[np.int64]) -> NDArray[np.int32]:
        del frame_size_2  # the segment says it
        return coded.frames.astype(np.int32)

    def frames(self, coded: DataNode, selection: DataNode, backend: Literal["cpu", "mixed"]) -> DataNode:
        return fn.decoders.video(coded, frames=selection, pad_mode="none", device=backend)


def front_end(codec: Codec) -> FrontEnd:
    """The part of the graph that depends on the codec."""
    return FilmStripFrontEnd() if codec == FILMSTRIP else VideoFrontEnd()


def build_clip_pipeline(
    config: ClipConfig,
    source: Source,
    *,
    codec: Codec = FILMSTRIP,
    device: Device,
    crop: bool,
    masks: bool,
    batch_size: int,
    threads: int,
    prefetch: int,
    device_id: int | None = None,
) -> Pipeline:
    """Define the pipeline: frames (T, H, W, 3) or, with ``crop``, clips (T, S, S, 3) and masks (T, S, S, 1), uint8.

    ``source`` gives one batch a call, a tuple of lists of arrays, and ends an epoch with ``StopIteration``.
    ``batch_size`` is the largest that will come. ``masks`` needs ``crop``. DALI allocates its resources at the
    first run, so a graph for a GPU can be made, and serialised, on a machine without one.

    Raises:
        ValueError: masks without a crop, or a codec that DALI does not decode on ``device``.
    """
    if device == "cpu" and codec not in CPU_CODECS:
        raise ValueError(f"codec must be one of {', '.join(CPU_CODECS)} on a CPU, got {codec!r}")
    if masks and not crop:
        raise ValueError("masks=True needs crop=True: masks only travel through a graph that crops them")
    pipeline: Pipeline = _clip_graph(
        config,
        source,
        codec=codec,
        device=device,
        crop=crop,
        masks=masks,
        batch_size=batch_size,
        num_threads=threads,
        device_id=device_id,
        prefetch_queue_depth=prefetch,
        exec_dynamic=True,
    )
    return pipeline


@pipeline_def
def _clip_graph(
    config: ClipConfig, source: Source, *, codec: Codec, device: Device, crop: bool, masks: bool
) -> DataNode | tuple[DataNode, DataNode]:
    inputs = _inputs(source, crop=crop, masks=masks)
    coded, selection = inputs[:2]
    frames_THWC = front_end(codec).frames(coded, selection, "mixed" if device == "gpu" else "cpu")
    if not crop:
        return frames_THWC
    clip_TSSC = _crop(frames_THWC, inputs[2], config.size, types.DALIInterpType.INTERP_LINEAR)
    if not masks:
        return clip_TSSC
    packed_mask, mask_roi = inputs[3:]
    mask_TSS1 = _crop(_unpack(packed_mask, device), mask_roi, config.size, types.DALIInterpType.INTERP_NN)
    return clip_TSSC, mask_TSS1


def _inputs(source: Source, *, crop: bool, masks: bool) -> list[DataNode]:
    """One operator for all inputs, so that a batch is fetched by one call of ``source``."""
    dtypes_and_ndims: list[tuple[Any, int]] = [(types.DALIDataType.UINT8, 1), (types.DALIDataType.INT32, 1)]
    if crop:
        dtypes_and_ndims.append((types.DALIDataType.FLOAT, 2))
    if masks:
        dtypes_and_ndims.extend([(types.DALIDataType.UINT8, 3), (types.DALIDataType.FLOAT, 2)])
    dtypes, ndims = map(list, zip(*dtypes_and_ndims, strict=True))
    return list(fn.external_source(source=source, num_outputs=len(dtypes), dtype=dtypes, ndim=ndims))


def _unpack(packed_Thw8: DataNode, device: Device) -> DataNode:
    if device == "gpu":
        packed_Thw8 = packed_Thw8.gpu()
    shifts = types.Constant(np.arange(7, -1, -1, dtype=np.uint8), device=device)
    bits = (fn.expand_dims(packed_Thw8, axes=[3]) >> shifts) & np.uint8(1)
    return fn.reshape(bits, rel_shape=[1, 1, 8, 0.125], layout="FHWC")


def _crop(frames: DataNode, roi: DataNode, size: int, interpolation: types.DALIInterpType) -> DataNode:
    resized = fn.resize(frames, roi_start=roi[0], roi_end=roi[1], size=[size, size], interp_type=interpolation)
    return cast(DataNode, resized)

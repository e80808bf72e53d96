"""Videos made on the spot."""

import io
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from PIL import Image


def write_test_video(
    path: Path,
    frames: Iterable[np.ndarray | av.VideoFrame],
    *,
    fps: int = 25,
    codec: str = "libx264",
    pixel_format: str = "yuv444p",
    pixel_aspect: Fraction = Fraction(1),
    options: dict[str, str] | None = None,
    prepare: Callable[[VideoStream], object] = lambda stream: None,
) -> Path:
    """Write frames, near to lossless where no ``options`` of the codec say otherwise.

    Args:
        path: the new file.
        fps: frames a second.
        frames: uint8 (H, W, C), red, green and blue; or frames with a time of their own.
        codec: name of the encoder.
        pixel_format: what the encoder is to be given.
        pixel_aspect: width over height of a pixel.
        options: of the encoder.
        prepare: called with the stream before anything is encoded.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if options is None:
        options = {"crf": "4", "preset": "ultrafast"} if codec == "libx264" else {}
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        for number, frame in enumerate(frames):
            if isinstance(frame, np.ndarray):
                frame = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if frame.pts is None:
                frame.pts, frame.time_base = number, Fraction(1, fps)
            if number == 0:
                stream.height, stream.width = frame.height, frame.width
                stream.pix_fmt = pixel_format
                stream.codec_context.sample_aspect_ratio = pixel_aspect
                prepare(stream)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """The function `write_test_video`."""
    return write_test_video


def write_test_jpegs(path: Path, images: Sequence[Image.Image], **options: Any) -> Path:
    """Write Motion JPEG, whose frames may differ in size; ``options`` are Pillow's for saving a JPEG."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height = images[0].size
        stream.pix_fmt = "yuvj420p"
        stream.encode(av.VideoFrame(*images[0].size, "yuvj420p"))  # or the container could not describe the stream
        for number, image in enumerate(images):
            jpeg = io.BytesIO()
            image.save(jpeg, "JPEG", quality=95, **options)
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            container.mux(packet)
    return path


@pytest.fixture(scope="session")
def write_jpegs() -> Callable[..., Path]:
    """The function `write_test_jpegs`."""
    return write_test_jpegs


@pytest.fixture(scope="session")
def quadrants() -> Callable[..., np.ndarray]:
    """Make ``count`` frames whose corners are red, green (top right), blue (bottom left) and white."""

    def make(count: int = 6, height: int = 96, width: int = 128) -> np.ndarray:
        frame = np.empty((height, width, 3), np.uint8)
        top, left = slice(0, height // 2), slice(0, width // 2)
        bottom, right = slice(height // 2, None), slice(width // 2, None)
        frame[top, left], frame[top, right] = (255, 0, 0), (0, 255, 0)
        frame[bottom, left], frame[bottom, right] = (0, 0, 255), (255, 255, 255)
        return np.stack([frame] * count)

    return make

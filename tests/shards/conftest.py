"""Videos made on the spot."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


def write_test_video(
    path: Path,
    frames_NHWC: np.ndarray,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv444p",
    pixel_aspect: Fraction = Fraction(1),
) -> Path:
    """Write uint8 RGB frames at 25 fps, near to lossless."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames_NHWC.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        if codec == "libx264":
            stream.options = {"crf": "4", "preset": "ultrafast"}
        for frame in frames_NHWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """The function `write_test_video`."""
    return write_test_video


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

"""What is said of a video from which the wanted frames cannot be had."""

from collections.abc import Iterator
from contextlib import contextmanager

import av


class BrokenClipError(Exception):
    """A video from which the wanted frames cannot all be decoded; the text says why."""


@contextmanager
def refusal() -> Iterator[None]:
    """Whatever FFmpeg cannot do inside comes out as BrokenClipError."""
    try:
        yield
    except av.FFmpegError as error:
        raise BrokenClipError(f"cannot be decoded ({error.strerror})") from error
    except OSError as error:  # of a file that is read for FFmpeg
        raise BrokenClipError(f"cannot be read ({error.strerror or error})") from error

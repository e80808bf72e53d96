"""The videos that the shards were packed from."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scenebias.benchmark.loading.windows import ClipWindow
from shards.decoding.refusal import BrokenClipError
from shards.decoding.video import open_video
from shards.errors import UserError
from shards.sources.files.video_files import read_video_tree


def find_videos(root: Path, windows: Sequence[ClipWindow]) -> dict[str, Path]:
    """The video of every window's clip, by the clip's name: ``root/<class>/<clip>.<extension>``.

    Raises:
        UserError: no folder, or a video is not there.
    """
    tree = read_video_tree(root, "the original videos, one folder a class")
    found = {str(Path(video).with_suffix("")): root / video for video in tree.videos if video not in tree.members}
    for window in windows:
        if window.name not in found:
            raise UserError(f"--videos {root}: there is no video of clip {window.name!r} of the shards in it")
    return {window.name: found[window.name] for window in windows}


def read_frames(
    video: Path, first: int | None = None, end: int | None = None, height: int | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Decode frames ``first <= n < end``, uint8 (H, W, 3), of the video's own height unless told otherwise.

    Raises:
        UserError: the video is damaged.
    """
    try:
        with open_video(video) as opened:
            for frame in opened.frames(first, end):
                yield frame.rgb(height or opened.info.height)
    except BrokenClipError as error:
        raise UserError(f"--videos: {video} is not what the shards were packed from: {error}") from error

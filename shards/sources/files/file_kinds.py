"""Which files are videos: by their suffix where that tells it, else by their content."""

import re
from itertools import islice
from pathlib import PurePosixPath

from shards.decoding.archive_member import VideoPath
from shards.decoding.video import BrokenClipError, open_video


def _suffixes(names: str) -> tuple[str, ...]:
    return tuple(f".{name}" for name in names.split())


VIDEO_SUFFIXES = _suffixes("""
    264 265 3g2 3gp amv asf avi divx dv f4v flv h264 h265 hevc ivf m1v m2t m2ts m2v m4v mjpeg mjpg mk3d mkv mov mp4 mpe
    mpeg mpg mpv mts mxf nut obu ogm ogv qt rm rmvb ts vob webm wmv wtv y4m
""")
"""Containers and bare streams of pictures. A file that is called so is a video; one that cannot be read is broken."""

TEXT_SUFFIXES = _suffixes("""
    ans asc ass bib cfg csv diz htm html ini ipynb json jsonl log lrc md md5 nfo py rst sbv sh sha1 sha256 srt ssa sub
    tex toml tsv txt vtt xml yaml yml
""")
"""Text, some of which FFmpeg would draw."""
PICTURE_SUFFIXES = _suffixes("""
    ai avif bmp cr2 dng eps exr hdr heic heif ico jp2 jpe jpeg jpg jxl nef pbm pdf pfm pgm png pnm ppm psd svg tga tif
    tiff webp xcf
""")
SOUND_SUFFIXES = _suffixes("aac ac3 aif aiff amr ape au flac m4a m4b mid mka mp2 mp3 oga opus wav wma")
DATA_SUFFIXES = _suffixes("""
    7z arrow bz2 ckpt db dll doc docx exe feather flo gz h5 hdf5 lmdb lock mat msgpack npy npz onnx parquet pickle pkl
    pt pth pyc rar safetensors so sqlite swp tar tgz torrent url xls xlsx xz zip zst
""")
"""Numbers, tables, programs, archives."""
OTHER_SUFFIXES = frozenset(TEXT_SUFFIXES + PICTURE_SUFFIXES + SOUND_SUFFIXES + DATA_SUFFIXES)
"""Files that are called so are not looked into."""

_UNFINISHED = re.compile(
    rf"({'|'.join(map(re.escape, VIDEO_SUFFIXES))})"
    r"\.(part|partial|filepart|crdownload|download|opdownload|tmp|temp|!qb|!ut|part-frag\d+\S*|gz|bz2|xz|zst|7z|rar|zip)$"
)


def is_named_like_a_video(name: str) -> bool:
    """Whether the suffix says so, in upper or lower case."""
    return name.lower().endswith(VIDEO_SUFFIXES)


def is_unfinished(name: str) -> bool:
    """Whether a file is called like the part of a video that a download has left, or like a compressed video."""
    return _UNFINISHED.search(name.lower()) is not None


def holds_video(path: VideoPath) -> bool:
    """Whether a file without a suffix that tells it is a video: whether the decoder finds two pictures in it.

    Files with `OTHER_SUFFIXES` are not looked into. One picture is a picture, or a page of text.
    """
    if PurePosixPath(path.name.lower()).suffix in OTHER_SUFFIXES:
        return False
    try:
        with open_video(path) as video:
            return len(list(islice(video.frames(), 2))) == 2
    except BrokenClipError:
        return False

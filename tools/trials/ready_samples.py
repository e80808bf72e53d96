"""Samples made of frames that are there already, and data sets of them: for trials and tests, which pack no videos.

Shape suffixes: N frames, H rows, W columns, C = 3 colours (RGB).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.codecs.filmstrip import encode_strips
from shards.codecs.masks import pack_masks
from shards.codecs.registry import FILMSTRIP, Codec, clip_encoder
from shards.format.growing_shard import GrowingShard, shard_name
from shards.format.index import merge_indexes
from shards.format.manifest import Manifest, ShardRecord
from shards.format.sample import ClipInfo, Sample


def sample_from_frames(
    frames_NHWC: NDArray[np.uint8],
    *,
    name: str,
    label: int = 0,
    mask_NHW: NDArray[np.bool_] | None = None,
    scene: NDArray[np.float16] | None = None,
    fps: float = 25.0,
    codec: Codec = FILMSTRIP,
    quality: int = 85,
    crf: int = 20,
    frames_per_part: int = 1000,
    source_sha256: str = "",
) -> Sample:
    """Make a sample as packing does of a decoded video.

    Args:
        frames_NHWC: The frames, of the size in which they are stored.
        name: "class/clip".
        label: Index of the class.
        mask_NHW: Human masks of any size, which is kept.
        scene: Soft scene label, (365,).
        fps: Frames a second.
        codec: How the frames are stored.
        quality: JPEG quality of film strips.
        crf: Constant rate factor of video.
        frames_per_part: Frames in every film strip or video segment but the last.
        source_sha256: Checksum of the video from which the frames are said to be.
    """
    frame_count, height, width, _ = frames_NHWC.shape
    if codec == FILMSTRIP:
        parts = encode_strips(frames_NHWC, quality, max_rows=height * frames_per_part)
    else:
        encoder = clip_encoder(codec, quality=quality, crf=crf, segment_frames=frames_per_part, height=height)
        starts = range(0, frame_count, frames_per_part)
        parts = [encoder.encode(frames_NHWC[start : start + frames_per_part], fps) for start in starts]
    return Sample(
        label=label,
        info=ClipInfo(
            name=name,
            class_name=name.partition("/")[0],
            fps=fps,
            frame_count=frame_count,
            width=width,
            height=height,
            mask_width=0 if mask_NHW is None else mask_NHW.shape[2],
            mask_height=0 if mask_NHW is None else mask_NHW.shape[1],
            person_share=None if mask_NHW is None else float(mask_NHW.any(axis=(1, 2)).mean()),
            source_sha256=source_sha256,
            codec=codec,
        ),
        parts=tuple(parts),
        masks=None if mask_NHW is None else pack_masks(mask_NHW),
        scene=scene,
    )


def write_samples(
    directory: Path,
    samples: Iterable[Sample],
    classes: Sequence[str],
    *,
    dataset: str = "synthetic",
    split: str = "1",
    subset: str = "train",
    quality: int = 85,
    samples_per_shard: int = 256,
) -> Manifest:
    """Write samples of one codec and height into a folder, which is made if need be; returns the manifest."""
    directory.mkdir(parents=True, exist_ok=True)
    remaining = iter(samples)
    keys = count()
    infos: list[ClipInfo] = []
    shards: list[ShardRecord] = []
    while chunk := list(islice(remaining, samples_per_shard)):
        path = directory / shard_name(len(shards))
        with GrowingShard(path.with_suffix(".tmp")) as shard:
            for sample in chunk:
                shard.append(next(keys), sample.components())
            shards.append(shard.finish(path))
        infos += [sample.info for sample in chunk]
    merge_indexes(directory, [directory / shard.name for shard in shards])
    clips_of_class = Counter(info.class_name for info in infos)
    manifest = Manifest(
        dataset=dataset,
        split=split,
        subset=subset,
        classes=tuple(classes),
        class_counts=tuple(clips_of_class[name] for name in classes),
        frame_height=infos[0].height,
        quality=quality,
        codec=infos[0].codec,
        shards=tuple(shards),
    )
    manifest.save(directory)
    return manifest

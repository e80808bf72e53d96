"""Turn a listing of videos into a data set of shards.

Worker processes decode, scale and encode one clip at a time; the parent alone writes, in an order that depends on the
seed only. So the same input and options give the same bytes, whatever the number of workers.

Arrays: N frames, H height, W width, C colours, S scene categories.
"""

import hashlib
import json
import os
import signal
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

import av
import numpy as np
import PIL

from shards.errors import UserError
from shards.filmstrip import MAX_STRIP_ROWS, encode_strips
from shards.manifest import MANIFEST_NAME, AbsentClip, Manifest
from shards.masks import pack_masks, resize_masks
from shards.output_folder import replace_folder
from shards.pack_report import PackReport
from shards.randomness import Permutation
from shards.sample import SCENE_COUNT, ClipInfo, Sample
from shards.sources.listing import ClipEntry, Listing, utf8_name
from shards.video import BrokenClipError, open_video
from shards.writer import ShardWriter

REPORT_NAME = "report.json"

Result = TypeVar("Result")


class MaskSource(Protocol):
    """Where human masks come from. It travels to the worker processes, so it must be small and picklable."""

    def path(self, entry: ClipEntry) -> Path | None:
        """The file that holds the masks of ``entry``, or None where there is none."""
        ...

    def settings(self) -> dict[str, Any]:
        """Whatever else decides the masks, as JSON values; kept in the manifest."""
        ...

    def load(self, entry: ClipEntry, frame_count: int, height: int, width: int, fps: float) -> np.ndarray | None:
        """Return bool (frame_count, height, width), or None where there is none; a UserError where they misfit."""
        ...


class SceneSource(Protocol):
    """Where soft scene labels come from."""

    def __contains__(self, entry: ClipEntry) -> bool:
        """Whether there is a label for ``entry``."""
        ...

    def vector(self, entry: ClipEntry) -> np.ndarray:
        """Return float (SCENE_COUNT,), which sums to 1; a UserError where there is none for ``entry``."""
        ...


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """How clips are stored."""

    height: int = 128
    """Stored frame height in pixels, a multiple of 16; the width follows from the display aspect."""
    quality: int = 85
    """JPEG quality, 1 to 95."""
    mask_scale: float = 0.5
    """Stored size of the masks, as a fraction of the stored frame's."""
    samples_per_shard: int = 256
    """Clips in one tar file."""
    seed: int = 0
    """Seed of the order in which clips are stored."""
    workers: int | None = None
    """Processes that decode; by default one for each CPU core. It does not change the output."""

    def __post_init__(self) -> None:
        if not 16 <= self.height <= MAX_STRIP_ROWS or self.height % 16:
            raise ValueError(f"height must be a multiple of 16 up to {MAX_STRIP_ROWS}, got {self.height}")
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality must be 1 to 95, got {self.quality}")
        if not 0 < self.mask_scale <= 1:
            raise ValueError(f"mask_scale must be above 0 and at most 1, got {self.mask_scale}")
        if self.samples_per_shard < 1:
            raise ValueError(f"samples_per_shard must be at least 1, got {self.samples_per_shard}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")


def pack(
    listing: Listing,
    out: Path,
    config: PackConfig,
    *,
    mask_source: MaskSource | None = None,
    scene_source: SceneSource | None = None,
    strict: bool = False,
    overwrite: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> PackReport | None:
    """Pack every clip of ``listing`` into the folder ``out``, and a ``report.json`` beside the shards.

    A clip that cannot be decoded is set aside and reported. On an error nothing is left behind.

    Args:
        listing: what to pack.
        out: folder of the new data set.
        config: how to store it.
        mask_source: human masks, if any.
        scene_source: soft scene labels, if any.
        strict: make any missing or broken clip, and any without masks where ``mask_source`` is given, an error.
        overwrite: replace the data set that is in ``out``.
        progress: called once for each clip that is done.

    Returns:
        The report, or None where ``out`` already holds the result of the same input and options.

    Raises:
        UserError: ``out`` holds something else, annotations do not fit the videos, or nothing can be packed.
    """
    if not listing.clips:
        example = f", for example {listing.missing[0].path}" if listing.missing else ""
        raise UserError(f"{listing.dataset}, {listing.subset}: none of its videos is there{example}; check --root")
    if scene_source and not any(entry in scene_source for entry in listing.clips):
        scene_source.vector(listing.clips[0])  # its UserError, before hours of decoding
    request = _fingerprint(listing, config, mask_source, scene_source)
    if (out / MANIFEST_NAME).is_file() and Manifest.load(out).provenance.get("request_sha256") == request:
        return None
    if strict and listing.missing:
        raise UserError(f"--strict: missing: {_some([str(entry.path) for entry in listing.missing])}; add the videos")
    if strict and mask_source and (bare := [e.name for e in listing.clips if mask_source.path(e) is None]):
        raise UserError(f"--strict: without a mask file: {_some(bare)}; add the masks, or give --masks none")
    order = Permutation(len(listing.clips), config.seed)(np.arange(len(listing.clips)))
    labels = {name: label for label, name in enumerate(listing.classes)}
    entries = [listing.clips[i] for i in order]
    tasks = (partial(make_sample, entry, labels[entry.class_name], config, mask_source) for entry in entries)
    workers = config.workers or len(os.sched_getaffinity(0))
    broken: dict[str, str] = {}
    without_masks: list[str] = []
    with (
        replace_folder(out, overwrite=overwrite) as folder,
        _worker_pool(workers) as executor,
        ShardWriter(folder, samples_per_shard=config.samples_per_shard) as writer,
    ):
        for entry, future in zip(entries, _in_order(executor, tasks, in_flight=4 * workers), strict=True):
            try:
                sample = future.result()
            except BrokenClipError as error:
                broken[entry.name] = str(error)
            except BrokenProcessPool as error:
                raise UserError(
                    f"a worker process died near {entry.path}, out of memory or by a fault in a decoder; "
                    "try fewer --workers, or remove that video"
                ) from error
            else:
                if scene_source:  # asked for here, so that a broken clip needs no label
                    sample = replace(sample, scene=scene_source.vector(entry).astype(np.float16))
                writer.write(sample)
                if mask_source and sample.masks is None:
                    without_masks.append(entry.name)
            progress()
        report = PackReport(listing, broken, tuple(without_masks))
        reasons = [f"{name} ({reason})" for name, reason in broken.items()]
        if strict and broken:
            raise UserError(f"--strict: broken: {_some(reasons)}; replace or remove the videos")
        if not report.packed_count:
            raise UserError(f"no clip could be packed: {_some(reasons)}; replace the videos")
        report.save(folder / REPORT_NAME)
        writer.close(_manifest(report, config, mask_source, request))
    return report


def make_sample(entry: ClipEntry, label: int, config: PackConfig, mask_source: MaskSource | None) -> Sample:
    """Decode one clip, once, and encode it, without a scene label.

    Raises:
        BrokenClipError: the video cannot be read or decoded.
        UserError: the masks do not fit the video.
    """
    if entry.path.name != utf8_name(entry.path.name):
        raise BrokenClipError("its name is not UTF-8: rename it")
    try:
        if not entry.path.stat().st_size:
            raise BrokenClipError("empty file")
        with entry.path.open("rb") as file:
            source_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BrokenClipError(f"cannot be read ({error.strerror})") from error
    strips: list[bytes] = []
    frame_count = 0
    with open_video(entry.path, config.height) as video:
        frames = video.frames(entry.start_frame, entry.end_frame)
        # One strip at a time, so that a long video does not fill the memory.
        while chunk := list(islice(frames, MAX_STRIP_ROWS // config.height)):
            frame_count += len(chunk)
            try:
                strips += encode_strips(np.stack(chunk), config.quality)
            except ValueError as error:
                raise BrokenClipError(f"cannot be stored ({error})") from error
        info = video.info
    mask_NHW = mask_source.load(entry, frame_count, info.height, info.width, info.fps) if mask_source else None
    mask_height = mask_width = 0
    if mask_NHW is not None:
        mask_height = max(1, round(config.height * config.mask_scale))
        mask_width = max(1, round(info.stored_width * config.mask_scale))
    return Sample(
        label=label,
        info=ClipInfo(
            name=entry.name,
            class_name=entry.class_name,
            fps=info.fps,
            frame_count=frame_count,
            width=info.stored_width,
            height=config.height,
            mask_width=mask_width,
            mask_height=mask_height,
            person_share=None if mask_NHW is None else float(mask_NHW.any(axis=(1, 2)).mean()),
            source_sha256=source_sha256,
        ),
        strips=tuple(strips),
        masks=None if mask_NHW is None else pack_masks(resize_masks(mask_NHW, (mask_height, mask_width))),
    )


@contextmanager
def _worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that leave Ctrl-C to their parent; work that they have not begun at the end is dropped."""
    executor = ProcessPoolExecutor(
        workers,
        # Forked from a clean server: imports are paid once, and no thread or lock of ours is copied.
        mp_context=get_context("forkserver"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _in_order(
    executor: ProcessPoolExecutor, tasks: Iterable[Callable[[], Result]], in_flight: int
) -> Iterator[Future[Result]]:
    """Yield the futures of ``tasks`` in their order, with at most ``in_flight`` of them begun and not yet yielded."""
    pending: deque[Future[Result]] = deque()
    for task in tasks:
        pending.append(executor.submit(task))
        if len(pending) == in_flight:
            yield pending.popleft()
    while pending:
        yield pending.popleft()


def _fingerprint(
    listing: Listing, config: PackConfig, mask_source: MaskSource | None, scene_source: SceneSource | None
) -> str:
    """SHA-256 over all that decides the output; the size of a video stands for its content.

    Masks are read: regenerated ones often have the size of those before.
    """

    def checksum(path: Path | None) -> int | None:
        return zlib.crc32(path.read_bytes()) if path else None

    request = [
        [listing.dataset, listing.split, listing.subset, listing.classes, _output_options(config)],
        [
            [e.name, e.start_frame, e.end_frame, e.path.stat().st_size, mask_source and checksum(mask_source.path(e))]
            for e in listing.clips
        ],
        [entry.name for entry in listing.missing],
        mask_source and mask_source.settings(),
    ]
    digest = hashlib.sha256(json.dumps(request).encode())
    if scene_source:
        for entry in listing.clips:
            scene_S = scene_source.vector(entry) if entry in scene_source else np.zeros(SCENE_COUNT)
            digest.update(scene_S.astype("<f2").tobytes())
    return digest.hexdigest()


def _manifest(report: PackReport, config: PackConfig, mask_source: MaskSource | None, request: str) -> Manifest:
    listing = report.listing
    return Manifest(
        dataset=listing.dataset,
        split=listing.split,
        subset=listing.subset,
        classes=listing.classes,
        frame_height=config.height,
        quality=config.quality,
        provenance={
            "options": _output_options(config),
            "masks": mask_source.settings() if mask_source else None,
            "request_sha256": request,
            "versions": {"av": av.__version__, "pillow": PIL.__version__},
        },
        missing=tuple(
            AbsentClip(name=entry.name, class_name=entry.class_name, reason="the video does not exist")
            for entry in listing.missing
        ),
        broken=tuple(
            AbsentClip(name=entry.name, class_name=entry.class_name, reason=report.broken[entry.name])
            for entry in listing.clips
            if entry.name in report.broken
        ),
    )


def _output_options(config: PackConfig) -> dict[str, Any]:
    """The options that decide the output."""
    return {name: value for name, value in asdict(config).items() if name != "workers"}


def _some(names: list[str], limit: int = 3) -> str:
    """The first few of ``names``, and how many there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

"""What a worker process does: read, decode and encode one clip.

Array suffixes: N frames, H height, W width, C colours.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.checks import require_at_least
from shards.codecs.filmstrip import MAX_STRIP_ROWS
from shards.codecs.masks import pack_masks, resize_masks
from shards.codecs.registry import ClipEncoder, Codec, clip_encoder
from shards.decoding.display import VideoInfo
from shards.decoding.refusal import BrokenClipError
from shards.decoding.video import EntryPoint, Frame, open_video
from shards.errors import UserError
from shards.format.focus import WHOLE_FRAMES, Focus, FocusName
from shards.format.sample import ClipInfo, Crop, Sample
from shards.format.truth import NO_TRUTH, Truth
from shards.packing.annotations import MaskSource
from shards.packing.entry_points import SharedVideo
from shards.packing.part_spool import PartSpool
from shards.packing.person_crop import person_crop
from shards.packing.truth_fitting import Problem, View, fit_truth, with_boxes_of_masks
from shards.sources.listing import ClipEntry, utf8_name
from shards.system.checksums import sha256_of


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """How clips are stored."""

    height: int = 128
    """Stored frame height in pixels, a multiple of 16; the width follows from the display aspect."""
    codec: Codec = "filmstrip"
    """filmstrip: JPEG, made for reading any frames fast. h264, hevc, vp9: video, five times smaller, and three to six
    times slower to read on a CPU. GPUs decode hevc from 144 rows on, vp9 from 128."""
    quality: int = 85
    """JPEG quality of a film strip, 1 to 95."""
    crf: int | None = None
    """Constant rate factor of a video, 1 to 51 (vp9: to 63): lower is better and larger. By default 20 for h264, 22 for
    hevc, 28 for vp9."""
    segment_frames: int = 32
    """Frames in each self-contained segment of a video."""
    mask_scale: float = 0.5
    """Stored size of the masks, as a fraction of the stored frame's."""
    focus: FocusName = "frame"
    """What of each frame is stored. frame: all of it. person: a square around the people, one for a whole clip, cut out
    before it is scaled; it needs ready-made masks. Clips whose masks show nobody are cut in the centre, and counted."""
    focus_margin: float = 1.3
    """Side of that square over the larger side of the people's extent in the clip, at least 1. The square is at most as
    large as the frame's shorter side, and is shifted to lie inside the frame."""
    network_side: int = 256
    """Shorter side of the frames that the networks for masks and scenes see; smaller videos are not enlarged."""
    samples_per_shard: int = 256
    """Clips in one tar file, those that turn out broken included."""
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
        require_at_least(
            1,
            segment_frames=self.segment_frames,
            network_side=self.network_side,
            samples_per_shard=self.samples_per_shard,
        )
        require_at_least(1, workers=self.workers)
        Focus(self.focus, self.focus_margin)  # which checks both
        self.encoder()  # which checks what concerns its codec

    def encoder(self) -> ClipEncoder:
        """The encoder that these options ask for."""
        return clip_encoder(
            self.codec,
            quality=self.quality,
            crf=self.crf,
            segment_frames=self.segment_frames,
            height=self.height,
        )

    @property
    def stored_focus(self) -> Focus:
        """What of each frame is stored."""
        return WHOLE_FRAMES if self.focus == "frame" else Focus(self.focus, self.focus_margin)

    def output_options(self) -> dict[str, Any]:
        """The options that decide the output."""
        without_effect = {"workers"} | ({"focus", "focus_margin"} if self.focus == "frame" else set())
        return {name: value for name, value in asdict(self).items() if name not in without_effect}


@dataclass(frozen=True)
class FrameDemand:
    """Which frames the networks want: for each of them, frames 0, every, 2 * every, ... of a clip."""

    strides: frozenset[int] = frozenset()
    """The distances between the frames that each network wants."""

    def wants(self, frame: int) -> bool:
        return any(frame % every == 0 for every in self.strides)


@dataclass(frozen=True, eq=False)
class PreparedClip:
    """A clip as a worker gives it back: all but what the parent process adds."""

    sample: Sample
    """The clip, without what networks add."""
    network_frames: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    """The frames that networks want, by frame number: RGB (H, W, C)."""
    truth_problems: tuple[Problem, ...] = ()
    """What of the labels within the clip did not fit its video."""
    spooled: Path | None = None
    """The file in which the parts of a long clip wait; to be removed when they are in their shard."""


def prepare_clip(
    entry: ClipEntry,
    label: int,
    config: PackConfig,
    mask_source: MaskSource | None = None,
    demand: FrameDemand = FrameDemand(),
    shared: SharedVideo | None = None,
    spool_folder: Path | None = None,
) -> PreparedClip:
    """Decode and encode one clip, with the masks of ``mask_source`` and without a scene label.

    It is decoded once, or twice where ``config.focus`` is on people: they must be found before the first frame is cut.
    Where its video is ``shared`` with other clips, it is decoded from the entry point before it. Its parts are put into
    ``spool_folder`` where it is long; without masks and networks, then, the memory does not grow with its length.

    Raises:
        BrokenClipError: the video cannot be read or decoded, or its masks do not fit it.
        UserError: nothing can be written to ``spool_folder``.
    """
    try:
        with PartSpool(spool_folder, entry.name) as spool:
            return _prepare(entry, label, config, mask_source, demand, shared, spool)
    except OSError as error:
        raise BrokenClipError(f"cannot be read ({error.strerror or error})") from error


def _prepare(
    entry: ClipEntry,
    label: int,
    config: PackConfig,
    mask_source: MaskSource | None,
    demand: FrameDemand,
    shared: SharedVideo | None,
    spool: PartSpool,
) -> PreparedClip:
    if entry.path.name != utf8_name(entry.path.name):
        raise BrokenClipError("its name is not UTF-8: rename it")
    survey = shared.survey() if shared else None
    entry_point = survey.entry_for(entry.start_frame) if survey else None
    mask_NHW = crop = None
    if config.focus == "person":
        mask_NHW, crop = _find_person(entry, entry_point, config, mask_source)
    with open_video(entry.path) as video:
        source_sha256 = survey.sha256 if survey else sha256_of(entry.path)
        frames = video.frames(entry.start_frame, entry.end_frame, entry_point)
        frame_count, network_frames = _encode(frames, video.info, config, demand, crop, spool)
        info = video.info
    if crop is None:
        mask_NHW = _load_masks(mask_source, entry, frame_count, info)
    width = config.height if crop else info.width_at(config.height)
    view = View(info, entry.start_frame or 0, frame_count, entry.end_frame is None, crop, width, config.height)
    truth, problems = _find_truth(entry, label, view, mask_NHW)
    if crop is not None and mask_NHW is not None:
        mask_NHW = crop.cut(mask_NHW)
    sample = Sample(
        label=label,
        info=ClipInfo(
            name=entry.name,
            class_name=entry.class_name,
            fps=info.fps,
            frame_count=frame_count,
            width=width,
            height=config.height,
            source_sha256=source_sha256,
            source_frames=_range_of(entry, frame_count),
            codec=config.codec,
            crop=crop,
            key_frames_only=truth.key_frames_only,
        ),
        parts=spool.parts(),
        truth=truth,
    )
    sample = sample if mask_NHW is None else with_masks(sample, mask_NHW, config.mask_scale)
    return PreparedClip(sample, network_frames, problems, spool.file)


def _find_person(
    entry: ClipEntry, entry_point: EntryPoint | None, config: PackConfig, mask_source: MaskSource | None
) -> tuple[NDArray[np.bool_] | None, Crop]:
    """The masks, and what to cut from every frame. For this the frames are counted, by decoding them."""
    with open_video(entry.path) as video:
        frame_count = sum(1 for _ in video.frames(entry.start_frame, entry.end_frame, entry_point))
        info = video.info
    mask_NHW = _load_masks(mask_source, entry, frame_count, info)
    return mask_NHW, person_crop(mask_NHW, info.height, info.width, info.aspect, config.focus_margin)


def _find_truth(
    entry: ClipEntry, label: int, view: View, mask_NHW: NDArray[np.bool_] | None
) -> tuple[Truth, tuple[Problem, ...]]:
    """What happens within a clip; its masks are as large as its video."""
    if entry.truth is None:
        return NO_TRUTH, ()
    return fit_truth(with_boxes_of_masks(entry.truth, mask_NHW, label, view.first_frame), view)


def _load_masks(
    source: MaskSource | None, entry: ClipEntry, frame_count: int, info: VideoInfo
) -> NDArray[np.bool_] | None:
    if source is None:
        return None
    try:
        return source.load(entry, frame_count, info.height, info.width, info.fps)
    except UserError as error:
        raise BrokenClipError(str(error)) from error


def with_masks(sample: Sample, mask_NHW: NDArray[np.bool_], mask_scale: float) -> Sample:
    """Add human masks, one a frame and of any size, stored at ``mask_scale`` of the stored frame's size."""
    info = sample.info
    height = max(1, round(info.height * mask_scale))
    width = max(1, round(info.width * mask_scale))
    person_share = float(mask_NHW.any(axis=(1, 2)).mean())
    return replace(
        sample,
        info=replace(info, mask_width=width, mask_height=height, person_share=person_share),
        masks=pack_masks(resize_masks(mask_NHW, (height, width))),
    )


def _range_of(entry: ClipEntry, frame_count: int) -> tuple[int, int] | None:
    """Which frames of its video a clip of so many frames is; None: all of them."""
    start = entry.start_frame or 0
    return None if start == 0 and entry.end_frame is None else (start, start + frame_count)


def _encode(
    frames: Iterable[Frame],
    info: VideoInfo,
    config: PackConfig,
    demand: FrameDemand,
    crop: Crop | None,
    spool: PartSpool,
) -> tuple[int, dict[int, NDArray[np.uint8]]]:
    """Decode every frame once, and put the encoded parts into ``spool``: how many frames, and what networks want."""
    encoder = config.encoder()
    network_height = _network_height(info.height, info.width_at(info.height), config.network_side)
    chunk: list[NDArray[np.uint8]] = []
    network_frames: dict[int, NDArray[np.uint8]] = {}
    frame_count = 0

    def flush() -> None:
        try:
            part = encoder.encode(np.stack(chunk), info.fps)
        except ValueError as error:
            raise BrokenClipError(f"cannot be stored ({error})") from error
        chunk.clear()  # one part at a time, so that a long video does not fill the memory
        spool.add(part)

    for frame in frames:
        chunk.append(frame.rgb(config.height, crop))
        if demand.wants(frame_count):
            network_frames[frame_count] = frame.rgb(network_height)
        frame_count += 1
        if len(chunk) == encoder.frames_per_part:
            flush()
    if chunk:
        flush()
    return frame_count, network_frames


def _network_height(height: int, width: int, network_side: int) -> int:
    """Height of the frames for networks, whose shorter side is at most ``network_side``."""
    return round(height * min(1.0, network_side / min(height, width)))

"""Make the truth of a stored clip from what label files say of its video: cut to its frames, scaled to its pixels.

What does not fit the video is left out or cut to it, and told: labels of real data sets are seldom without such slips.
Only boxes that belong to other frames than these set a clip aside, since all of them would be wrong.

Array suffix: M boxes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.decoding.display import VideoInfo
from shards.decoding.refusal import BrokenClipError
from shards.format.sample import Crop
from shards.format.truth import BOX_DTYPE, SIDES, Segment, Truth, box_corners, duration_of, in_order, mask_extents
from shards.sources.truths.listed import ListedBoxes, ListedSegment, ListedTruth, VideoPromise

LEAST_LEFT = 0.1
"""Of a box that the frame or the square around people cuts, the least share of its area that is still worth a box."""
RATE_TOLERANCE = 0.01
"""By such a share the frame rate may differ from that of the labels: 29.97 is called 30."""
LENGTH_TOLERANCE = 0.05
"""By such a share the length may."""
FRAME_TOLERANCE = 2
"""By so many frames it always may: decoders differ in what they make of the last packets."""
PIXEL_TOLERANCE = 0.5
"""By so many pixels a box may reach beyond the frame without a word."""

BEYOND = "segments beyond the end of the video, left out"
OVERHANG = "segments that end after the video, cut off at its end"
NO_FRAME = "boxes in frames that the video does not have, left out"
OUTSIDE = "boxes outside the frame, left out"
ACROSS = "boxes that reach beyond the frame, cut off at its edge"
SAME_FRAME = "boxes of one actor and action whose times are in one frame, all but the first left out"
CUT = "boxes that the square around people cuts or leaves out"
OTHER_VIDEO = "labels of another length or frame rate than the video"


class Problem(NamedTuple):
    """What did not fit."""

    kind: str
    """What is wrong, the same words for all of the kind, and what was done."""
    sentence: str
    """Where it stands, and what it says."""


@dataclass(frozen=True)
class View:
    """Which part of a video a stored clip shows, and how large."""

    info: VideoInfo
    """The video."""
    first_frame: int
    """The frame of the video with which the clip begins."""
    frame_count: int
    """Frames of the clip."""
    to_the_end: bool
    """Whether the clip ends with its video."""
    crop: Crop | None
    """The part of its frames that is shown; None: all of them."""
    width: int
    """Columns of a stored frame."""
    height: int
    """Rows of a stored frame."""


def fit_truth(listed: ListedTruth, view: View) -> tuple[Truth, tuple[Problem, ...]]:
    """The truth of a clip, and what of the labels did not fit it.

    Raises:
        BrokenClipError: the labels count other frames than the video has.
    """
    problems = list(_other_video(listed, view))
    segments = boxes = None
    if listed.segments is not None:
        segments = _fit_segments(listed.segments, view, problems)
    if listed.boxes is not None:
        boxes = _fit_boxes(listed.boxes, view, problems)
        if listed.segments_from_boxes:
            segments = _filled_by(listed.boxes, view)
    key_frames_only = listed.boxes is not None and listed.boxes.times_s is not None
    return Truth(segments, boxes, key_frames_only), tuple(problems)


def with_boxes_of_masks(
    listed: ListedTruth, mask_NHW: NDArray[np.bool_] | None, label: int, first_frame: int
) -> ListedTruth:
    """``listed``, with a box around each mask where it asks for that; masks are as large as the video."""
    if not listed.boxes_from_masks or mask_NHW is None:
        return listed
    extent_N4 = mask_extents(mask_NHW)
    frames = np.flatnonzero(extent_N4.any(axis=1))
    rows = np.zeros(len(frames), BOX_DTYPE)
    rows["frame"], rows["label"] = first_frame + frames, label
    for side, corner_M in zip(SIDES, extent_N4[frames].T, strict=True):
        rows[side] = corner_M
    return replace(listed, boxes=ListedBoxes(rows, "the masks"))


def _other_video(listed: ListedTruth, view: View) -> Iterator[Problem]:
    """What the labels say of the video and is not so."""
    promise = listed.promise
    if promise is None:
        return
    if promise.fps and abs(view.info.fps / promise.fps - 1) > RATE_TOLERANCE:
        yield Problem(
            OTHER_VIDEO, f"{promise.where}: of a video of {promise.fps:.6g} fps, this one has {view.info.fps:.6g}"
        )
    if not view.to_the_end:
        return
    frame_count = view.first_frame + view.frame_count
    if promise.frame_count is not None:
        yield from _other_length(listed, promise, promise.frame_count, frame_count)
    elif promise.duration_s is not None:
        duration_s = duration_of(frame_count, view.info.fps)
        if abs(duration_s - promise.duration_s) > max(1, LENGTH_TOLERANCE * promise.duration_s):
            sentence = f"{promise.where}: of a video of {promise.duration_s:.1f} s, this one has {duration_s:.1f} s"
            yield Problem(OTHER_VIDEO, sentence)


def _other_length(
    listed: ListedTruth, promise: VideoPromise, promised_count: int, frame_count: int
) -> Iterator[Problem]:
    difference = abs(frame_count - promised_count)
    sentence = f"{promise.where}: of a video of {promised_count} frames, this one has {frame_count}"
    is_other = difference > max(FRAME_TOLERANCE, LENGTH_TOLERANCE * promised_count)
    if is_other and listed.boxes is not None and listed.boxes.times_s is None:
        raise BrokenClipError(f"{sentence}, so its boxes are of other frames; take the data set's own videos")
    if is_other or (difference and listed.boxes is not None):
        yield Problem(OTHER_VIDEO, sentence)


def _fit_segments(listed: tuple[ListedSegment, ...], view: View, problems: list[Problem]) -> tuple[Segment, ...]:
    first_s = duration_of(view.first_frame, view.info.fps)
    length_s = duration_of(view.frame_count, view.info.fps)
    fitted = []
    for segment in listed:
        start_s, end_s = segment.start_s - first_s, segment.end_s - first_s
        if view.to_the_end and end_s > length_s + 1 / view.info.fps:
            span = f"{segment.where}: {segment.start_s:.6g} to {segment.end_s:.6g} s"
            kind = BEYOND if start_s >= length_s else OVERHANG
            problems.append(Problem(kind, f"{span}, the video ends at {first_s + length_s:.6g} s"))
        start_s, end_s = max(start_s, 0.0), min(end_s, length_s)
        if start_s < end_s:
            fitted.append(Segment(start_s, end_s, segment.label))
    return tuple(sorted(fitted, key=lambda segment: (segment.start_s, segment.end_s)))


def _filled_by(listed: ListedBoxes, view: View) -> tuple[Segment, ...]:
    """The stretches of frames of the clip in which each class has a box, whether or not what is stored shows it."""
    frame_M = _frames_of(listed, view)
    segments = []
    for label in np.unique(listed.rows["label"]).tolist():
        frames = np.unique(frame_M[listed.rows["label"] == label])
        frames = frames[(frames >= 0) & (frames < view.frame_count)]
        for run in np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1) if len(frames) else ():
            first_s, end_s = (duration_of(int(frame), view.info.fps) for frame in (run[0], run[-1] + 1))
            segments.append(Segment(first_s, end_s, label))
    return tuple(sorted(segments, key=lambda segment: (segment.start_s, segment.end_s)))


def _frames_of(listed: ListedBoxes, view: View) -> NDArray[np.int64]:
    """The frame of the clip in which each box is, also before its first or after its last."""
    frame_M = listed.rows["frame"].astype(np.int64)
    if listed.times_s is not None:
        frame_M = np.floor(listed.times_s * view.info.fps + 0.5).astype(np.int64)
    return frame_M - view.first_frame


def _fit_boxes(listed: ListedBoxes, view: View, problems: list[Problem]) -> NDArray:
    rows = listed.rows.copy()
    frame_M = _frames_of(listed, view)
    if view.to_the_end:
        problems += _told(NO_FRAME, listed, frame_M >= view.frame_count)
    first_M = np.zeros(len(rows), np.bool_)
    first_M[np.unique([frame_M, rows["tube"], rows["label"]], axis=1, return_index=True)[1]] = True
    problems += _told(SAME_FRAME, listed, ~first_M)
    size = np.array([view.info.width, view.info.height] * 2)
    corner_M4 = box_corners(rows).astype(np.float64) * (size if listed.in_shares else 1)
    shown_M = first_M & (frame_M >= 0) & (frame_M < view.frame_count)
    left_M4, share_M = _cut(corner_M4, np.array([0, 0, *size[:2]]))
    overhang_M = np.abs(left_M4 - corner_M4).max(axis=1, initial=0) > PIXEL_TOLERANCE
    problems += _told(OUTSIDE, listed, shown_M & (share_M < LEAST_LEFT))
    problems += _told(ACROSS, listed, shown_M & (share_M >= LEAST_LEFT) & overhang_M)
    shown_M &= share_M >= LEAST_LEFT
    if view.crop is not None:
        crop = view.crop
        edges = np.array([crop.left, crop.top, crop.left + crop.width, crop.top + crop.height])
        left_M4, share_M = _cut(left_M4, edges)
        problems += _told(CUT, listed, shown_M & (share_M < 1))
        shown_M &= share_M >= LEAST_LEFT
        left_M4 = left_M4 - edges[[0, 1, 0, 1]]
        size = np.array([crop.width, crop.height] * 2)
    stored_M4 = (left_M4 * np.array([view.width, view.height] * 2) / size).astype(np.float32)
    shown_M &= (stored_M4[:, :2] < stored_M4[:, 2:]).all(axis=1)
    rows["frame"] = frame_M.clip(-1, view.frame_count)
    for side, stored_M in zip(SIDES, stored_M4.T, strict=True):
        rows[side] = stored_M
    return in_order(rows[shown_M])


def _cut(corner_M4: NDArray[np.float64], edges: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What of boxes lies within the rectangle ``edges``, x1 y1 x2 y2, and which share of their area that is."""
    low, high = np.tile(edges[:2], 2), np.tile(edges[2:], 2)
    left_M4 = corner_M4.clip(low, high)
    area_M = np.prod(corner_M4[:, 2:] - corner_M4[:, :2], axis=1)
    left_area_M = np.prod(left_M4[:, 2:] - left_M4[:, :2], axis=1)
    return left_M4, left_area_M / np.where(area_M > 0, area_M, 1)


def _told(kind: str, listed: ListedBoxes, found_M: NDArray[np.bool_]) -> list[Problem]:
    """One problem of all the rows that are found; the first of them by its place."""
    count = int(np.count_nonzero(found_M))
    if not count:
        return []
    others = f" and {count - 1} more of this clip" if count > 1 else ""
    return [Problem(kind, listed.where(int(found_M.argmax())) + others)]

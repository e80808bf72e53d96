"""What a detector finds in the key frames of test videos, and what that is worth.

Shape suffixes: V videos, K key frames, B windows of a batch, N found boxes, M true boxes.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dali_pipelines.windows import ClipConfig
from scenebias.detect.detector import ActionDetector
from scenebias.detect.key_frames import DEFAULT_INPUT, InputConfig, KeyFrames, frame_boxes
from scenebias.detect.windows_ahead import DEFAULT_READING, ReadingConfig, evaluation_batches
from scenebias.detection.average_precision import Matches
from scenebias.detection.comparing import match_frames, match_tubes
from scenebias.detection.instances import FrameBoxes, Tube
from scenebias.detection.linking import DEFAULT_LINKING, LinkingConfig, link
from scenebias.distributed.interruption import Interruption
from scenebias.distributed.process_place import ProcessPlace
from shards.checks import require_at_least


@dataclass(frozen=True, kw_only=True)
class DetectorTestConfig:
    """Which frames of the test videos are looked at."""

    key_frame_every: int = 1
    """Every so many frames; the truth counts in these alone."""
    test_batch_size: int = 16
    """Windows at a time, of each process."""

    def __post_init__(self) -> None:
        require_at_least(1, key_frame_every=self.key_frame_every, test_batch_size=self.test_batch_size)


DEFAULT_TEST = DetectorTestConfig()


@dataclass(frozen=True, eq=False)
class VideoBoxes:
    """One video: what is known of it, and what was found."""

    sample: int
    """Its number in the data set."""
    name: str
    """The clip's original name."""
    frame_K: NDArray[np.int64]
    """The frames that were looked at, ascending."""
    rows: NDArray
    """`BOX_DTYPE` (M,), the true boxes of these, in stored pixels."""
    found: FrameBoxes
    """In stored pixels."""

    @property
    def truth(self) -> FrameBoxes:
        """``rows`` as they are compared."""
        return frame_boxes(self.rows)

    @property
    def actors(self) -> FrameBoxes:
        """The same, but each box once, whatever its actor does, and all of class 0."""
        _, first = np.unique(np.stack([self.rows["frame"], self.rows["tube"]], axis=1), axis=0, return_index=True)
        return _of_one_class(frame_boxes(self.rows[np.sort(first)]))

    def best(self, most: int | None) -> FrameBoxes:
        """The ``most`` best boxes of every frame, whatever their class, and all of class 0; None: all."""
        found = self.found[self.found.scores.argsort(descending=True, stable=True)]
        if most is not None:
            rank_N = torch.empty(len(found), dtype=torch.int64)
            for frame in found.frame_N.unique():
                in_frame = found.frame_N == frame
                rank_N[in_frame] = torch.arange(int(in_frame.sum()))
            found = found[rank_N < most]
        return _of_one_class(found)

    @property
    def true_tubes(self) -> list[Tube]:
        """Actors from key frame to key frame, which are numbered as if there were no frames between."""
        keys = np.unique(np.stack([self.rows["tube"], self.rows["label"]], axis=1), axis=0)
        return [
            self._tube(self.rows[(self.rows["tube"] == tube) & (self.rows["label"] == label)]) for tube, label in keys
        ]

    def _tube(self, rows: NDArray) -> Tube:
        boxes = frame_boxes(rows)
        return Tube(frame_T=self._numbered(boxes), box_T4=boxes.box_N4, label=int(boxes.label_N[0]))

    def found_tubes(self, config: LinkingConfig) -> list[Tube]:
        """What was found, linked from key frame to key frame, numbered likewise."""
        return link(replace(self.found, frame_N=self._numbered(self.found)), config)

    def _numbered(self, boxes: FrameBoxes) -> torch.Tensor:
        return torch.from_numpy(np.searchsorted(self.frame_K, boxes.frame_N.numpy()))


@dataclass(frozen=True, eq=False)
class BoxEvaluation:
    """What a detector found in test videos."""

    videos: Sequence[VideoBoxes]
    """Those of which any frame was looked at, in the order of the data set."""
    classes: tuple[str, ...]

    def frame_matches(self) -> Matches:
        """For frame-mAP."""
        return match_frames(self._found, [video.truth for video in self.videos], len(self.classes))

    def video_matches(self, config: LinkingConfig = DEFAULT_LINKING) -> Matches:
        """For video-mAP: boxes are linked to tubes by ``config``, whose gaps are counted in key frames."""
        found, truth = [v.found_tubes(config) for v in self.videos], [v.true_tubes for v in self.videos]
        return match_tubes(found, truth, len(self.classes))

    def recall(self, most: int | None = None) -> float:
        """Share of the true boxes that any found one overlaps by an IoU of .5, whatever their classes, 0 to 1.

        ``most`` limits what is found in a frame, to the best boxes. NaN without truth.
        """
        found, truth = [video.best(most) for video in self.videos], [video.actors for video in self.videos]
        return float(match_frames(found, truth, 1).recall_K[0])

    @property
    def _found(self) -> list[FrameBoxes]:
        return [video.found for video in self.videos]

    def summary(self, linking: LinkingConfig = DEFAULT_LINKING) -> dict[str, float]:
        """All measures, 0 to 1, and how many boxes there are in a frame on average."""
        tubes = self.video_matches(linking)
        low, *others = tubes.thresholds
        frames = sum(len(video.frame_K) for video in self.videos)
        return {
            "frame_map_50": self.frame_matches().mean_average_precision,
            "video_map_20": tubes.at(low).mean_average_precision,
            "video_map_50": tubes.at(0.5).mean_average_precision,
            "video_map_50_95": tubes.at(*others).mean_average_precision,
            "recall_50": self.recall(),
            "recall_50_of_best": self.recall(most=1),
            "boxes_per_frame": sum(map(len, self._found)) / frames,
            "videos": len(self.videos),
            "key_frames": frames,
        }


def evaluate_detector(
    detector: ActionDetector,
    key_frames: KeyFrames,
    clip: ClipConfig,
    place: ProcessPlace,
    *,
    input_config: InputConfig = DEFAULT_INPUT,
    batch_size: int = DEFAULT_TEST.test_batch_size,
    reading: ReadingConfig = DEFAULT_READING,
    interruption: Interruption | None = None,
) -> BoxEvaluation:
    """Look at all key frames, shared out over the ranks; the same on every rank, in float32.

    Raises:
        UserError: a video is damaged, or its shard cannot be fetched.
        Interrupted: on all ranks, where ``interruption`` asks any of them to end.
    """
    size = input_config.size(clip)
    mine: list[tuple[int, FrameBoxes]] = []
    for batch in evaluation_batches(
        key_frames, clip, size, batch_size, rank=place.rank, world_size=place.world_size, reading=reading
    ):
        if interruption is not None and interruption.requested is not None:
            break
        video_B, frame_B = key_frames.video_K[batch.number_B].tolist(), key_frames.first_K[batch.number_B].tolist()
        found = detector.find(batch.clip_BTHWC.to(place.device), frame_B)
        for video, boxes in zip(video_B, found, strict=True):
            box_N4 = key_frames.placement(video, size).to_frame(boxes.box_N4)
            mine.append((video, replace(boxes, box_N4=box_N4)))
    if interruption is not None:
        interruption.end_together(place)
    return gathered(key_frames, place.concatenate(mine))


def gathered(key_frames: KeyFrames, found: Sequence[tuple[int, FrameBoxes]]) -> BoxEvaluation:
    """The evaluation of boxes of frames, each with the number of its video, beside the truth of the key frames."""
    dataset, videos = key_frames.dataset, []
    of_video: defaultdict[int, list[FrameBoxes]] = defaultdict(list)
    for video, boxes in found:
        of_video[video].append(boxes)
    for video in np.unique(key_frames.video_K).tolist():
        frame_K = key_frames.first_K[key_frames.video_K == video]
        rows = key_frames.rows[video]
        rows = rows[np.isin(rows["frame"], frame_K)]
        videos.append(VideoBoxes(video, dataset.info(video).name, frame_K, rows, joined(of_video[video])))
    return BoxEvaluation(videos, dataset.classes)


def joined(boxes: Sequence[FrameBoxes]) -> FrameBoxes:
    """Detections of several frames as those of their video."""
    return FrameBoxes(
        frame_N=torch.cat([torch.zeros(0, dtype=torch.int64), *(b.frame_N for b in boxes)]),
        box_N4=torch.cat([torch.zeros(0, 4), *(b.box_N4 for b in boxes)]),
        label_N=torch.cat([torch.zeros(0, dtype=torch.int64), *(b.label_N for b in boxes)]),
        score_N=torch.cat([torch.zeros(0), *(b.scores for b in boxes)]),
    )


def _of_one_class(boxes: FrameBoxes) -> FrameBoxes:
    return replace(boxes, label_N=torch.zeros_like(boxes.label_N))

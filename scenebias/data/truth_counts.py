"""How many segments and boxes a packed data set has, and in which of its clips."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shards.dataset import ShardDataset


@dataclass(frozen=True)
class Coverage:
    """In which clips something is annotated."""

    with_some: int
    """Clips that have some."""
    without: int
    """Clips in which none were found."""
    not_looked_at: int
    """Clips in which nobody looked for any."""

    def __str__(self) -> str:
        told = [f"{self.with_some} clip{'s' * (self.with_some != 1)}"]
        told += [f"{self.without} without any"] if self.without else []
        told += [f"{self.not_looked_at} not looked at"] if self.not_looked_at else []
        return ", ".join(told)


@dataclass(frozen=True, eq=False)
class TruthCounts:
    """The segments and boxes of a data set, C classes."""

    segment_clips: Coverage
    """Clips by their segments."""
    segments_C: NDArray[np.int64]
    """Segments of each class."""
    ambiguous_count: int
    """Segments of no class."""
    box_clips: Coverage
    """Clips by their boxes."""
    boxes_C: NDArray[np.int64]
    """Boxes of each class; one with several labels counts for each."""
    tubes_C: NDArray[np.int64]
    """What actors do, counted once a clip and tube, of each class."""
    key_frame_clips: int
    """Clips of which only frames with a box were looked at."""

    @classmethod
    def of(cls, dataset: ShardDataset) -> Self | None:
        """Count; reads the segments and boxes of every clip that has them. None where no clip was looked at.

        Raises:
            UserError: a shard is damaged, as of `ShardDataset.truth`.
        """
        if not dataset.manifest.has_truth:
            return None
        class_count, clip_count = len(dataset.classes), len(dataset)
        segments_C, boxes_C, tubes_C = (np.zeros(class_count, np.int64) for _ in range(3))
        segment_lengths, box_lengths = [], []
        ambiguous_count = key_frame_clips = 0
        for truth in map(dataset.truth, range(clip_count)):
            if truth.segments is not None:
                segment_lengths.append(len(truth.segments))
                labels = [segment.label for segment in truth.segments if segment.label is not None]
                ambiguous_count += len(truth.segments) - len(labels)
                segments_C += np.bincount(np.array(labels, np.int64), minlength=class_count)
            if truth.boxes is not None:
                box_lengths.append(len(truth.boxes))
                key_frame_clips += truth.key_frames_only
                boxes_C += np.bincount(truth.boxes["label"], minlength=class_count)
                tubes_C += np.bincount(np.unique(truth.boxes[["tube", "label"]])["label"], minlength=class_count)
        return cls(
            _coverage(segment_lengths, clip_count),
            segments_C,
            ambiguous_count,
            _coverage(box_lengths, clip_count),
            boxes_C,
            tubes_C,
            key_frame_clips,
        )

    def facts(self) -> dict[str, str]:
        """What to print of what there is."""
        told = {}
        if self.segment_clips.with_some or self.segment_clips.without:
            ambiguous = f" and {self.ambiguous_count} ambiguous ones" if self.ambiguous_count else ""
            told["segments"] = f"{self.segments_C.sum()}{ambiguous} in {self.segment_clips}"
        if self.box_clips.with_some or self.box_clips.without:
            key_frames = f"; only key frames in {self.key_frame_clips} of them" if self.key_frame_clips else ""
            told["boxes"] = f"{self.boxes_C.sum()}, of {self.tubes_C.sum()} tubes, in {self.box_clips}{key_frames}"
        return told


def _coverage(lengths: list[int], clip_count: int) -> Coverage:
    with_some = sum(length > 0 for length in lengths)
    return Coverage(with_some, len(lengths) - with_some, clip_count - len(lengths))

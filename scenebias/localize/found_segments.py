"""What was found in the test videos, beside their truth, as a file in the form of ActivityNet's (segments.json)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scenebias.commands import write_output
from scenebias.detection.average_precision import Matches
from scenebias.detection.comparing import THUMOS_THRESHOLDS, match_segments
from scenebias.detection.instances import AMBIGUOUS, Segments
from scenebias.detection.matching import Protocol
from scenebias.evaluation.result_file import reading

SEGMENTS_NAME = "segments.json"
TODAY = THUMOS_THRESHOLDS[2:]
"""The thresholds of the mean that is reported today."""
MEASURES: Mapping[str, str] = {
    **{f"map@{threshold}": f"{threshold:g}" for threshold in THUMOS_THRESHOLDS},
    "map@0.1:0.7": "mean .1–.7",
    "map@0.3:0.7": "mean .3–.7",
}
"""What is measured, with its title: mAP at thresholds of temporal IoU, and means over some."""
HEADLINE = "map@0.3:0.7"


@dataclass(frozen=True, eq=False)
class Video:
    """One test video."""

    name: str
    duration_s: float
    truth: Segments
    found: Segments
    """The most probable first."""


@dataclass(frozen=True, eq=False)
class FoundSegments:
    """All test videos, in the order of the data set."""

    classes: tuple[str, ...]
    videos: Sequence[Video]

    def matches(self, protocol: Protocol) -> Matches:
        """Found and true segments compared at `THUMOS_THRESHOLDS`."""
        return match_segments(
            [video.found for video in self.videos],
            [video.truth for video in self.videos],
            len(self.classes),
            THUMOS_THRESHOLDS,
            protocol,
        )

    def save(self, path: Path) -> None:
        """Write the file: ``results`` as ActivityNet's evaluation takes them, ``database`` with the truth.

        ``path`` appears only when it is complete. Raises UserError where it cannot be written.
        """
        write_output(
            path,
            {
                "version": "scenebias",
                "classes": list(self.classes),
                "database": {
                    video.name: {"duration": video.duration_s, "annotations": self._plain(video.truth)}
                    for video in self.videos
                },
                "results": {video.name: self._plain(video.found) for video in self.videos},
            },
        )

    def _plain(self, segments: Segments) -> list[dict[str, Any]]:
        found = []
        for number, label in enumerate(segments.label_N.tolist()):
            one: dict[str, Any] = {
                "label": None if label == AMBIGUOUS else self.classes[label],
                "segment": [float(segments.start_s_N[number]), float(segments.end_s_N[number])],
            }
            if segments.score_N is not None:
                one["score"] = float(segments.score_N[number])
            found.append(one)
        return found

    @classmethod
    def load(cls, path: Path) -> "FoundSegments":
        """Read what `save` wrote; UserError where it is missing or damaged."""
        with reading(path):
            content = json.loads(path.read_text(encoding="utf-8"))
            classes = tuple(content["classes"])
            videos = [
                Video(
                    name,
                    float(known["duration"]),
                    _segments(known["annotations"], classes, scored=False),
                    _segments(content["results"][name], classes, scored=True),
                )
                for name, known in content["database"].items()
            ]
        return cls(classes, videos)


def _segments(listed: Sequence[Mapping[str, Any]], classes: Sequence[str], *, scored: bool) -> Segments:
    labels = [AMBIGUOUS if one["label"] is None else classes.index(one["label"]) for one in listed]
    bounds_N2 = torch.tensor([one["segment"] for one in listed], dtype=torch.float64).reshape(-1, 2)
    return Segments(
        start_s_N=bounds_N2[:, 0],
        end_s_N=bounds_N2[:, 1],
        label_N=torch.tensor(labels, dtype=torch.int64),
        score_N=torch.tensor([one["score"] for one in listed], dtype=torch.float64) if scored else None,
    )


def summary_of(matches: Matches) -> dict[str, float]:
    """The `MEASURES` of segments that were compared at `THUMOS_THRESHOLDS`."""
    each = {f"map@{t}": float(matches.at(t).mean_average_precision) for t in THUMOS_THRESHOLDS}
    return each | {
        "map@0.1:0.7": matches.mean_average_precision,
        HEADLINE: matches.at(*TODAY).mean_average_precision,
    }

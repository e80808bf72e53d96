"""What the cuts of videos are worth by themselves: the control for videos that are joined from clips.

Shape suffixes: S spans between cuts, A actions, N segments.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from scenebias.detection.instances import Segments
from scenebias.localize.found_segments import FoundSegments
from shards.errors import UserError


def read_cuts(path: Path) -> dict[str, list[float]]:
    """Times of cuts, in seconds, by the name of the video: what `scenebias splice` has written. UserError otherwise."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [float(time_s) for time_s in times_s] for name, times_s in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"--cuts {path} cannot be read ({error}): give a JSON file of times in seconds by video, such as"
            " cuts.json of scenebias splice"
        ) from error


def spans_found(found: FoundSegments, cuts: Mapping[str, Sequence[float]], said: str, seed: int = 0) -> FoundSegments:
    """The same videos; found is each span between two cuts, once for every action, with a random score.

    UserError where the cuts of a video are not told; ``said`` is how their file is called.
    """
    generator = torch.Generator().manual_seed(seed)
    videos = []
    for video in found.videos:
        name = video.name.rpartition("/")[2]
        if name not in cuts:
            raise UserError(f"{said}: says nothing of video {name}; give the file of the videos of --val")
        edge_s = torch.tensor([0.0, *cuts[name], video.duration_s], dtype=torch.float64)
        spans, actions = len(edge_s) - 1, len(found.classes)
        segments = Segments(
            start_s_N=edge_s[:-1].repeat_interleave(actions),
            end_s_N=edge_s[1:].repeat_interleave(actions),
            label_N=torch.arange(actions).repeat(spans),
            score_N=torch.rand(spans * actions, generator=generator, dtype=torch.float64),
        )
        videos.append(replace(video, found=segments))
    return FoundSegments(found.classes, videos)

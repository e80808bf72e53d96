"""What is in a packed data set: its numbers, and a page to look at some of its clips.

Shape suffixes: T frames, H rows, W columns, C colours.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenebias.annotators import scene_categories
from scenebias.reports.html import Section, page, paragraph, picture, some_frames
from shards.codecs.masks import resize_masks, unpack_masks
from shards.dataset import ShardDataset
from shards.format.focus import WHOLE_FRAMES

HISTOGRAM_BINS = 8
FRAMES_SHOWN = 8
TOP_SCENES = 3
MASK_COLOUR = np.array([255, 40, 120])


@dataclass(frozen=True)
class Summary:
    """Numbers of a data set."""

    clip_count: int
    frame_count: int
    bytes_per_frame: float
    """Size of the shards over the number of frames."""
    frame_histogram: tuple[tuple[int, int, int], ...]
    """(lowest, highest, clips) for each range of clip lengths, both ends included."""
    masked_count: int
    """Clips with masks."""
    centred_count: int
    """Clips that show the centre of the frame, as no mask told where the people are."""
    person_share: float | None
    """Mean share of frames with a person over the clips with masks; None where no clip has any."""
    scene_counts: tuple[tuple[int, int], ...]
    """(category, clips) by top category, the most frequent first."""
    frame_sizes: tuple[tuple[int, int, int], ...]
    """(width, height, clips), the most frequent first."""
    class_person_shares: tuple[float | None, ...]
    """The same share of each class's clips; None where none has masks."""
    class_scenes: tuple[tuple[tuple[int, float], ...], ...]
    """For each class, (category, mean probability) of its `TOP_SCENES` most probable scenes."""


def summarize(dataset: ShardDataset) -> Summary:
    """Gather the numbers; reads the information of every clip that has masks or is cut, but no pixels."""
    share_N = np.full(len(dataset), np.nan)
    masked = np.flatnonzero(dataset.mask_sizes(np.arange(len(dataset))).all(axis=1)).tolist()
    for i in masked:
        share = dataset.info(i).person_share
        share_N[i] = np.nan if share is None else share
    is_cut = dataset.manifest.focus != WHOLE_FRAMES
    crops = [dataset.info(i).crop for i in range(len(dataset))] if is_cut else []
    members = [np.flatnonzero(dataset.labels == label) for label in range(len(dataset.manifest.classes))]
    frame_count = int(dataset.frame_counts.sum())
    return Summary(
        clip_count=len(dataset),
        frame_count=frame_count,
        bytes_per_frame=sum(shard.bytes for shard in dataset.manifest.shards) / frame_count,
        frame_histogram=_histogram(dataset.frame_counts),
        masked_count=len(masked),
        centred_count=sum(crop is not None and not crop.on_person for crop in crops),
        person_share=_mean_of_known(share_N),
        scene_counts=_scene_counts(dataset.scenes),
        frame_sizes=tuple(
            (width, height, count)
            for (height, width), count in Counter(map(tuple, dataset.frame_sizes.tolist())).most_common()
        ),
        class_person_shares=tuple(_mean_of_known(share_N[clips]) for clips in members),
        class_scenes=tuple(_mean_scenes(dataset, clips) for clips in members),
    )


def render_page(
    dataset: ShardDataset,
    samples_per_class: int,
    scene_names: Sequence[str] | None = None,
    more: Sequence[Section] = (),
) -> str:
    """Return a page, whole in itself: an overview, ``more``, and frames of the first clips of every class, tinted.

    ``scene_names`` are those of the scene categories; by default Places365's.
    """
    scene_names = scene_names or scene_categories()
    manifest = dataset.manifest
    overview = Section(
        "Overview",
        paragraph(
            f"{len(dataset)} clips of {len(manifest.classes)} classes, {int(dataset.frame_counts.sum())} frames; digest"
            f" {manifest.digest[:16]}. Human masks are tinted."
        ),
    )
    sections = [overview, *more]
    for label, class_name in enumerate(manifest.classes):
        members = np.flatnonzero(dataset.labels == label)
        figures = (_figure(dataset, int(i), scene_names) for i in members[:samples_per_class])
        count = paragraph(f"{len(members)} clips" if len(members) else "no clip!")
        sections.append(Section(class_name, count + "".join(figures)))
    return page(f"{manifest.dataset}, split {manifest.split}, {manifest.subset}", sections)


def _figure(dataset: ShardDataset, i: int, scene_names: Sequence[str]) -> str:
    info = dataset.info(i)
    facts = [info.name, f"{info.frame_count} frames", f"{info.width}x{info.height}", f"{info.fps:.4g} fps"]
    if info.crop is not None:
        left, top = info.crop.left, info.crop.top
        about = "its people" if info.crop.on_person else "nobody: the centre"
        facts.append(f"{info.crop.width}x{info.crop.height} at ({left}, {top}) around {about}")
    if info.person_share is not None:
        facts.append(f"person in {info.person_share:.0%} of frames")
    if dataset.scenes is not None and dataset.scenes[i].any():
        facts += [
            f"{scene_names[category]} {probability:.0%}"
            for category, probability in _mean_scenes(dataset, np.array([i]))
        ]
    return picture(_contact_strip(dataset, i), " · ".join(facts))


def _contact_strip(dataset: ShardDataset, i: int) -> NDArray[np.uint8]:
    """Frames spread evenly over a clip, side by side, people tinted: uint8 (H, T * W, C)."""
    frame_count = int(dataset.frame_counts[i])
    indices = some_frames(frame_count, min(FRAMES_SHOWN, frame_count))
    height, width = dataset.frame_sizes[i].tolist()
    clip = dataset.read_clip(i, indices)
    frame_THWC = dataset.decode(i, clip)
    if clip.masks is not None:
        mask_THW = resize_masks(unpack_masks(clip.masks, int(dataset.mask_sizes(i)[1])), (height, width))
        frame_THWC[mask_THW] = (frame_THWC[mask_THW] + MASK_COLOUR) // 2
    return np.concatenate(list(frame_THWC), axis=1)


def _histogram(frame_counts: NDArray[np.int64]) -> tuple[tuple[int, int, int], ...]:
    lowest, highest = int(frame_counts.min()), int(frame_counts.max())
    step = -(-(highest - lowest + 1) // HISTOGRAM_BINS)
    counts = np.bincount((frame_counts - lowest) // step)
    return tuple((lowest + k * step, lowest + (k + 1) * step - 1, int(count)) for k, count in enumerate(counts))


def _mean_of_known(share_N: NDArray[np.float64]) -> float | None:
    known = share_N[~np.isnan(share_N)]
    return float(known.mean()) if known.size else None


def _mean_scenes(dataset: ShardDataset, clips: NDArray[np.int64]) -> tuple[tuple[int, float], ...]:
    """The most probable categories on average over those of ``clips`` that have a scene label."""
    if dataset.scenes is None:
        return ()
    scene_NS = dataset.scenes[clips]
    labelled_NS = scene_NS[scene_NS.any(axis=1)]
    if not len(labelled_NS):
        return ()
    mean_S = labelled_NS.mean(axis=0, dtype=np.float64)
    return tuple(
        (int(category), float(mean_S[category])) for category in np.argsort(-mean_S, kind="stable")[:TOP_SCENES]
    )


def _scene_counts(scenes: NDArray[np.float16] | None) -> tuple[tuple[int, int], ...]:
    if scenes is None:
        return ()
    labelled = scenes[scenes.any(axis=1)]
    return tuple(Counter(labelled.argmax(axis=1).tolist()).most_common())

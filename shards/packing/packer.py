"""Complete the shards of one process: workers decode, scale and encode; the process adds what networks see, and writes.

A shard is made from a run of the shuffled clips, in groups. Nothing in it depends on who wrote it, when, or how often
that was interrupted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Protocol, Self

import numpy as np

from shards.decoding.refusal import BrokenClipError
from shards.errors import UserError
from shards.format.growing_shard import GrowingShard
from shards.format.sample import Sample
from shards.packing.clip_preparation import PreparedClip, prepare_clip
from shards.packing.entry_points import shared_videos
from shards.packing.journal import Commit, ShardJournal
from shards.packing.network_annotation import add_masks, add_scenes
from shards.packing.report import some_broken, strict_error
from shards.packing.request import PackRequest
from shards.packing.work_folder import ShardLocks, WorkFolder
from shards.randomness import Permutation
from shards.sources.listing import ClipEntry, utf8_name
from shards.system.worker_pool import run_in_order

GROUP_CLIPS = 16
"""Clips that are annotated together and then made durable together: no more are lost with a killed process. Networks
never see frames of two groups in one batch, so that what they answer does not depend on where a pack was continued."""


class PackProgress(Protocol):
    """Whoever shows how far a process is."""

    def begin(self, done: int, total: int) -> None:
        """Of ``total`` clips ``done`` are done already."""
        ...

    def update(self, done: int) -> None:
        """So many clips are done."""
        ...


@dataclass(frozen=True)
class PlannedShard:
    """One shard of the plan."""

    number: int
    """Its place among the shards, which its file name tells."""
    entries: Sequence[ClipEntry]
    """The clips that it is made from."""
    journal: ShardJournal
    """What has been done of it."""

    @classmethod
    def plan(cls, request: PackRequest, work: WorkFolder, locks: ShardLocks, rank: int, world_size: int) -> list[Self]:
        """The shards of one process: every ``world_size``-th."""
        clips, size = request.listing.clips, request.config.samples_per_shard
        order = Permutation(len(clips), request.config.seed)(np.arange(len(clips)))
        shards = []
        for number in range(rank, shard_count(request), world_size):
            entries = [clips[i] for i in order[number * size : (number + 1) * size]]
            locks.take(number)
            checksum = request.shard_checksum(entries)
            shards.append(cls(number, entries, ShardJournal.load(checksum, work.shard_files(number))))
        return shards

    def groups(self) -> Iterator[tuple[int, Sequence[ClipEntry]]]:
        """The groups that are still to do, each with the position of its first clip in the shard."""
        for start in range(self.journal.clips, len(self.entries), GROUP_CLIPS):
            yield start, self.entries[start : start + GROUP_CLIPS]


def shard_count(request: PackRequest) -> int:
    """Shards in the plan."""
    return -(-len(request.listing.clips) // request.config.samples_per_shard)


class Packer:
    """Packs shards of one request.

    Args:
        request: What is packed.
        work: Where surveys of videos with several clips are kept, and the parts of long clips wait.
        workers: Processes that decode.
        strict: Whether a broken clip, or one without annotation where an annotator is given, is an error.
        progress: Told of every group that is done; None: nobody.
    """

    def __init__(
        self, request: PackRequest, work: WorkFolder, workers: int, strict: bool, progress: PackProgress | None
    ) -> None:
        self._request = request
        self._work = work
        self._workers = workers
        self._strict = strict
        self._progress = progress
        self._done_clips = 0
        self._any_packed = False
        self._broken_at_first: dict[str, str] = {}

    def complete(self, shards: Sequence[PlannedShard]) -> None:
        """Complete every shard.

        Raises:
            UserError: as many clips as a group has are broken and none before them is packed, or, with ``strict``,
                any clip is broken.
        """
        self._done_clips = sum(shard.journal.clips for shard in shards)
        self._any_packed = self._done_clips > sum(len(shard.journal.broken) for shard in shards)
        if self._progress:
            self._progress.begin(self._done_clips, sum(len(shard.entries) for shard in shards))
        todo = [shard for shard in shards if not shard.journal.finished]
        if not todo:
            return
        # A clip with frames for networks weighs tens of megabytes, and what is done waits here in memory.
        in_flight = self._workers + 1 if self._request.annotators.demand.strides else 4 * self._workers
        futures = run_in_order(self._tasks(todo), workers=self._workers, in_flight=in_flight)
        with closing(futures):
            for shard in todo:
                self._complete(shard, futures)

    def _tasks(self, shards: Iterable[PlannedShard]) -> Iterator[Callable[[], PreparedClip]]:
        labels = {name: label for label, name in enumerate(self._request.listing.classes)}
        annotators = self._request.annotators
        shared = shared_videos(self._request.listing.clips, self._work.surveys)
        for shard in shards:
            for entry in shard.entries[shard.journal.clips :]:
                yield partial(
                    prepare_clip,
                    entry,
                    labels[entry.class_name],
                    self._request.config,
                    annotators.mask_source,
                    annotators.demand,
                    shared.get(entry.path),
                    self._work.spool,
                )

    def _complete(self, shard: PlannedShard, futures: Iterator[Future[PreparedClip]]) -> None:
        journal = shard.journal
        with GrowingShard(journal.files.growing, journal.bytes) as file:
            for start, entries in shard.groups():
                first_number = shard.number * self._request.config.samples_per_shard + start
                journal.add(self._pack_group(file, first_number, entries, islice(futures, len(entries))))
                self._done_clips += len(entries)
                if self._progress:
                    self._progress.update(self._done_clips)
            if file.samples:
                journal.finish(file.finish(journal.files.final))
            else:
                file.discard()
                journal.finish(None)

    def _pack_group(
        self,
        file: GrowingShard,
        first_number: int,
        entries: Sequence[ClipEntry],
        futures: Iterator[Future[PreparedClip]],
    ) -> Commit:
        """Append the clips of one group to a shard and make them durable."""
        positions = {entry.name: k for k, entry in enumerate(entries)}
        broken: dict[str, str] = {}
        without_masks, without_scenes, without_person = [], [], []
        truth_problems: list[tuple[str, str]] = []
        for clip in self._annotate(_whole_clips(entries, futures, broken)):
            truth_problems += clip.truth_problems
            sample = clip.sample
            position = positions[sample.info.name]
            sample = self._add_source_scene(sample, entries[position])
            file.append(first_number + position, sample.components())
            if clip.spooled:
                clip.spooled.unlink()
            self._any_packed = True
            if sample.masks is None and self._request.annotators.mask_source:
                without_masks.append(sample.info.name)
            if sample.scene is None and self._request.annotators.scene_source:
                without_scenes.append(sample.info.name)
            if sample.info.crop and not sample.info.crop.on_person:
                without_person.append(sample.info.name)
        self._refuse(broken)
        size, crc32 = file.sync()
        return Commit(
            clips=len(entries),
            bytes=size,
            crc32=crc32,
            broken=broken,
            without_masks=tuple(without_masks),
            without_scenes=tuple(without_scenes),
            without_person=tuple(without_person),
            truth_problems=tuple(truth_problems),
        )

    def _annotate(self, clips: Iterator[PreparedClip]) -> Iterator[PreparedClip]:
        annotators = self._request.annotators
        if annotators.mask_network:
            clips = add_masks(clips, annotators.mask_network, self._request.config.mask_scale)
        if annotators.scene_network:
            clips = add_scenes(clips, annotators.scene_network)
        return clips

    def _add_source_scene(self, sample: Sample, entry: ClipEntry) -> Sample:
        source = self._request.annotators.scene_source
        if source is None or entry not in source:
            return sample
        return replace(sample, scene=source.vector(entry).astype(np.float16))

    def _refuse(self, broken: dict[str, str]) -> None:
        if broken and self._strict:
            raise strict_error(broken)
        if not self._any_packed:
            self._broken_at_first |= broken
            if len(self._broken_at_first) >= min(GROUP_CLIPS, len(self._request.listing.clips)):
                raise UserError(
                    f"none of the first {len(self._broken_at_first)} clips could be packed: "
                    f"{some_broken(self._broken_at_first)}"
                )


def _whole_clips(
    entries: Sequence[ClipEntry], futures: Iterator[Future[PreparedClip]], broken: dict[str, str]
) -> Iterator[PreparedClip]:
    """Yield what the workers made; clips that they could not make are put into ``broken``, with the reason."""
    for entry, future in zip(entries, futures, strict=True):
        try:
            clip = future.result()
        except BrokenClipError as error:
            broken[entry.name] = utf8_name(str(error))
        except BrokenProcessPool:
            broken[entry.name] = "decoding it kills the process: out of memory, or a fault in a decoder"
        else:
            yield clip

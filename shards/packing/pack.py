"""Turn a listing of videos into a data set of shards.

The clips are shuffled once, and each run of ``samples_per_shard`` of them makes a shard. Where several processes pack
together, each makes every so many-th shard. The same input and options give the same bytes with any number of workers
and processes, and after any number of interruptions.
"""

import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from shards.codecs.registry import FILMSTRIP
from shards.codecs.video_segments import choose_crf
from shards.dataset import ShardDataset
from shards.errors import UserError, fault_while_writing
from shards.format.clip_sources import SOURCES_NAME
from shards.format.growing_shard import shard_name
from shards.format.index import merge_indexes
from shards.format.manifest import MANIFEST_NAME, AbsentClip, Manifest, ShardRecord
from shards.packing.clip_preparation import PackConfig
from shards.packing.journal import ShardJournal
from shards.packing.packer import Packer, PackProgress, PlannedShard, shard_count
from shards.packing.report import PackReport, by_kind, refuse_misfits, refuse_shared, some_broken, strict_error
from shards.packing.request import Annotators, PackRequest, versions
from shards.packing.source_files import SourceFiles, stored_videos
from shards.packing.work_folder import WorkFolder
from shards.shared_clips import names_in_others, require_known_videos
from shards.sources.listing import Listing
from shards.sources.remarks import equal_files
from shards.sources.texts import some

REPORT_NAME = "report.json"


class Share(Protocol):
    """The part of this process among several that pack together."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0 on."""
        ...

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        ...

    @property
    def local_world_size(self) -> int:
        """Processes on this machine, which share its cores."""
        ...

    def wait_for_all(self) -> None:
        """Return when every process has called this."""
        ...

    def from_main(self, value: int) -> int:
        """Give every process the value with which that of rank 0 comes."""
        ...


@dataclass(frozen=True)
class _Alone:
    """One process that packs everything."""

    rank: int = 0
    """As of `Share`."""
    world_size: int = 1
    """As of `Share`."""
    local_world_size: int = 1
    """As of `Share`."""

    def wait_for_all(self) -> None:
        pass

    def from_main(self, value: int) -> int:
        return value


NO_ANNOTATORS = Annotators()
ALONE: Share = _Alone()


def pack(
    listing: Listing,
    out: Path,
    config: PackConfig,
    *,
    annotators: Annotators = NO_ANNOTATORS,
    share: Share = ALONE,
    apart_from: Sequence[ShardDataset] = (),
    strict: bool = False,
    overwrite: bool = False,
    progress: PackProgress | None = None,
) -> PackReport | None:
    """Pack every clip of ``listing`` into the folder ``out``, and a ``report.json`` beside the shards.

    A clip that cannot be decoded, or whose masks do not fit it, is set aside and reported. Until the data set is
    complete it grows in a hidden folder beside ``out``; what is done there is not done again by a later call.

    Args:
        listing: What to pack.
        out: Folder of the new data set.
        config: How to store it.
        annotators: Where masks and scene labels come from.
        share: Which part of it this process packs; all of them must be called alike.
        apart_from: Data sets that should have no clip of this one; the report tells those that they have.
        strict: Make any missing or broken clip, any video that is not read, any clip without annotation where an
            annotator is given, any label that does not fit its video, and any clip that another data set has too, an
            error.
        overwrite: Replace the data set that is in ``out``, or an unfinished one of another request.
        progress: Told of the clips that are done, of those of this process.

    Returns:
        The report on rank 0; None on the others, and where ``out`` already holds the result of the same input and
        options.

    Raises:
        UserError: ``out`` holds something else or cannot be written, nothing can be packed, or a data set of
            ``apart_from`` does not say of which videos its clips are.
    """
    request = PackRequest(listing, config, annotators)
    _check_listing(request, strict)
    require_known_videos(apart_from)
    try:
        return _pack(request, WorkFolder(out), share, apart_from, strict, overwrite, progress)
    except OSError as error:
        if (fault := fault_while_writing(error, out, "--out")) is None:
            raise
        raise UserError(f"{fault}; mend that and give the same command to go on") from error


def _pack(
    request: PackRequest,
    work: WorkFolder,
    share: Share,
    apart_from: Sequence[ShardDataset],
    strict: bool,
    overwrite: bool,
    progress: PackProgress | None,
) -> PackReport | None:
    is_main = share.rank == 0
    sources = request.look_at_sources() if is_main else None
    # Rank 0 decides for all: they could disagree, and wait for each other for ever.
    if share.from_main(sources is not None and _is_done(work.out, request, sources, strict)):
        if is_main:
            work.remove_leftovers()
        return None
    workers = request.config.workers or max(1, len(os.sched_getaffinity(0)) // share.local_world_size)
    alone = share.world_size == 1
    checksum = request.work_checksum
    with work.prepared(checksum, overwrite=overwrite, alone=alone) if is_main else nullcontext():
        share.wait_for_all()
        if not work.path.is_dir():
            raise UserError(f"--out {work.out}: process {share.rank} does not see {work.path}; give a shared folder")
        if not work.holds(checksum):
            raise UserError(f"process {share.rank} has other videos or options than process 0; give all the same")
        with work.shard_locks() as locks:
            shards = PlannedShard.plan(request, work, locks, share.rank, share.world_size)
            Packer(request, work, workers, strict, progress).complete(shards)
        share.wait_for_all()
        if sources is None:
            return None
        report = _finish(request, work, sources, apart_from, strict)
        work.move_into_place(overwrite=overwrite)
    return report


def _check_listing(request: PackRequest, strict: bool) -> None:
    listing, annotators = request.listing, request.annotators
    if not listing.clips:
        example = f", for example {listing.missing[0].path}" if listing.missing else ""
        raise UserError(f"{listing.dataset}, {listing.subset}: none of its videos is there{example}; check --root")
    if request.config.focus == "person" and annotators.mask_network:
        raise UserError(
            "--focus person: a network makes the masks of frames that are already cut; pack once without --focus, then"
            " give that data set as --masks"
        )
    if request.config.focus == "person" and not annotators.mask_source:
        raise UserError("--focus person: needs masks that tell where the people are; give --masks")
    if not annotators.mask_source and any(entry.truth and entry.truth.boxes_from_masks for entry in listing.clips):
        raise UserError("boxes of actors are made from ready-made masks; give --masks FOLDER")
    if not strict:
        return
    if listing.missing:
        raise UserError(f"--strict: missing: {some([str(entry.path) for entry in listing.missing])}; add the videos")
    if listing.unlisted:
        raise UserError(
            f"--strict: not read: {some(listing.unlisted)}; bring them into the form that the source reads, or move "
            "them elsewhere"
        )
    masks, scenes = annotators.mask_source, annotators.scene_source
    if masks and (bare := [entry.name for entry in listing.clips if not masks.files(entry)]):
        raise UserError(f"--strict: without masks: {some(bare)}; add the masks, or give --masks none")
    if scenes and (bare := [entry.name for entry in listing.clips if entry not in scenes]):
        raise UserError(f"--strict: without a scene label: {some(bare)}; add the labels, or give --scenes none")
    wanted = {entry.class_name for entry in listing.clips} | {entry.class_name for entry in listing.missing}
    if not listing.may_lack_classes and (bare := [name for name in listing.classes if name not in wanted]):
        raise UserError(f"--strict: classes without any clip: {some(bare)}; add videos, or leave the classes out")


def _is_done(out: Path, request: PackRequest, sources: SourceFiles, strict: bool) -> bool:
    """Whether ``out`` is the whole data set of this request, made from files of this content."""
    if not (out / MANIFEST_NAME).is_file():
        return False
    try:
        dataset = ShardDataset.open(out)
    except UserError:
        return False  # damaged: the caller may replace it
    if dataset.manifest.provenance.get("request_sha256") != sources.checksum:
        return False
    if not sources.are_those_of(dataset, request.rows(), request.videos):
        return False
    if strict and dataset.manifest.broken:
        broken = {clip.name: clip.reason for clip in dataset.manifest.broken}
        raise strict_error(broken)
    if strict and (out / REPORT_NAME).is_file():
        refuse_misfits(json.loads((out / REPORT_NAME).read_bytes()).get("truth", {}))
    return True


def _finish(
    request: PackRequest, work: WorkFolder, sources: SourceFiles, apart_from: Sequence[ShardDataset], strict: bool
) -> PackReport:
    """Merge what all processes have made into a complete data set."""
    journals = [ShardJournal.finished_one(work.shard_files(number)) for number in range(shard_count(request))]
    commits = [commit for journal in journals for commit in journal.commits]
    broken = {name: reason for journal in journals for name, reason in journal.broken.items()}
    report = PackReport(
        request.listing,
        broken,
        without_masks=tuple(name for commit in commits for name in commit.without_masks),
        without_scenes=tuple(name for commit in commits for name in commit.without_scenes),
        without_person=tuple(name for commit in commits for name in commit.without_person),
        truth_problems=by_kind(problem for commit in commits for problem in commit.truth_problems),
    )
    if strict and broken:
        raise strict_error(broken)
    if strict:
        refuse_misfits(report.truth_problems)
    if not report.packed_count:
        raise UserError(f"none of the {len(broken)} clips could be packed: {some_broken(broken)}")
    records = [journal.record for journal in journals if journal.record]
    assert sum(record.samples for record in records) == report.packed_count, "a clip is neither packed nor set aside"
    if request.look_at_sources() != sources:
        raise UserError("videos or annotations have changed meanwhile; give the same command again to take them up")
    # Of clips that are all broken there is no shard; the others are numbered without gaps.
    work.close_gaps([number for number, journal in enumerate(journals) if journal.record])
    records = [replace(record, name=shard_name(number)) for number, record in enumerate(records)]
    merge_indexes(work.dataset, [work.dataset / record.name for record in records])
    manifest = _manifest(request, report, records, sources.checksum)
    packed = ShardDataset.of_manifest(work.dataset, manifest, work.out)
    stored = stored_videos(packed, request.videos)
    packed_clips = (entry for entry in request.listing.clips if entry.name not in broken)
    report = replace(report, equal_files=equal_files((stored[entry.path], entry) for entry in packed_clips))
    if apart_from:
        report = replace(report, shared=names_in_others(packed, apart_from))
        if strict:
            refuse_shared(report.shared)
    report.save(work.dataset / REPORT_NAME)
    sources.save(work.dataset, request.rows(), stored)
    manifest.save(work.dataset)
    return report


def _manifest(request: PackRequest, report: PackReport, records: Sequence[ShardRecord], content: str) -> Manifest:
    listing, config, counts = request.listing, request.config, report.counts()
    return Manifest(
        dataset=listing.dataset,
        split=listing.split,
        subset=listing.subset,
        classes=listing.classes,
        class_counts=tuple(counts[name].packed for name in listing.classes),
        frame_height=config.height,
        quality=config.quality if config.codec == FILMSTRIP else choose_crf(config.codec, config.crf),
        codec=config.codec,
        focus=config.stored_focus,
        provenance={
            "options": config.output_options(),
            **request.annotators.settings(),
            "request_sha256": content,
            "sources": SOURCES_NAME,
            "versions": versions(),
        },
        missing=tuple(
            AbsentClip(name=entry.name, class_name=entry.class_name, reason=entry.reason) for entry in listing.missing
        ),
        broken=tuple(
            AbsentClip(name=entry.name, class_name=entry.class_name, reason=report.broken[entry.name])
            for entry in report.broken_clips
        ),
        shards=tuple(records),
    )

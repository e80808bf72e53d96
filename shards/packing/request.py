"""What a pack is made from, as checksums: so that a second run knows what is done already."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import av
import numpy as np
import PIL

from shards.decoding.archive_member import VideoPath
from shards.format.manifest import FORMAT_VERSION
from shards.packing.annotations import MaskNetwork, MaskSource, SceneNetwork, SceneSource
from shards.packing.clip_preparation import FrameDemand, PackConfig
from shards.packing.source_files import SourceFiles, state_of
from shards.sources.listing import ClipEntry, Listing


@dataclass(frozen=True, kw_only=True)
class Annotators:
    """Who annotates the clips; for masks and for scenes at most one each."""

    mask_source: MaskSource | None = None
    """Who has masks."""
    mask_network: MaskNetwork | None = None
    """Who finds masks."""
    scene_source: SceneSource | None = None
    """Who has scene labels."""
    scene_network: SceneNetwork | None = None
    """Who recognises scenes."""

    def __post_init__(self) -> None:
        if self.mask_source and self.mask_network:
            raise ValueError("mask_source and mask_network exclude each other")
        if self.scene_source and self.scene_network:
            raise ValueError("scene_source and scene_network exclude each other")

    @property
    def demand(self) -> FrameDemand:
        """The frames that networks want."""
        return FrameDemand(frozenset(network.every for network in (self.mask_network, self.scene_network) if network))

    def settings(self) -> dict[str, Any]:
        """What decides the annotations, as JSON values."""
        masks, scenes = self.mask_source or self.mask_network, self.scene_source or self.scene_network
        return {"masks": masks.settings() if masks else None, "scenes": scenes.settings() if scenes else None}


@dataclass(frozen=True)
class PackRequest:
    """Everything that decides a data set."""

    listing: Listing
    """What to pack."""
    config: PackConfig
    """How to store it."""
    annotators: Annotators
    """Where masks and scene labels come from."""

    @cached_property
    def plan_checksum(self) -> str:
        """SHA-256 of what decides which clips lie in which shard, and how they are stored."""
        listing = self.listing
        digest = hashlib.sha256()
        _add(digest, [listing.dataset, listing.split, listing.subset, listing.classes])
        _add(digest, [self.config.output_options(), self.annotators.settings()])
        for entry in listing.clips:
            _add(digest, [entry.name, entry.class_name, entry.start_frame, entry.end_frame])
            if entry.truth is not None:
                _add(digest, entry.truth.values())
        for absent in listing.missing:
            _add(digest, [absent.name, absent.class_name])
        return digest.hexdigest()

    @property
    def videos(self) -> dict[str, VideoPath]:
        """The videos by the names of the clips."""
        return {entry.name: entry.path for entry in self.listing.clips}

    @property
    def work_checksum(self) -> str:
        """SHA-256 of the plan and of the programs that carry it out: what is half done, only the same may finish."""
        return hashlib.sha256(json.dumps([self.plan_checksum, FORMAT_VERSION, versions()]).encode()).hexdigest()

    def look_at_sources(self) -> SourceFiles:
        """All files that it is made from, as they are now."""
        return SourceFiles.look_at(self.rows(), self.plan_checksum)

    def shard_checksum(self, entries: Iterable[ClipEntry]) -> str:
        """SHA-256 of the plan and the sizes and times of all files that make one shard."""
        digest = hashlib.sha256(self.plan_checksum.encode())
        _add(digest, [*map(state_of, self._scene_files())])
        for entry in entries:
            _add(digest, [entry.name, *([*map(state_of, files)] for files in self._files(entry))])
        return digest.hexdigest()

    def rows(self) -> Iterator[Sequence[VideoPath]]:
        """The rows of `inputs.npy`: the files of each."""
        for entry in self.listing.clips:
            yield from self._files(entry)
        yield self._scene_files()

    def _files(self, entry: ClipEntry) -> tuple[Sequence[VideoPath], Sequence[VideoPath]]:
        source = self.annotators.mask_source
        return [entry.path], source.files(entry) if source else ()

    def _scene_files(self) -> Sequence[VideoPath]:
        source = self.annotators.scene_source
        return source.files() if source else ()


def versions() -> dict[str, str]:
    """The versions of the programs that decide the bytes."""
    return {"av": av.__version__, "numpy": np.__version__, "pillow": PIL.__version__}


def _add(digest: "hashlib._Hash", value: Any) -> None:
    digest.update(json.dumps(value).encode() + b"\n")

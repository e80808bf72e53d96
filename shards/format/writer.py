"""Write samples into shards. A file has its final name only when it is complete, and the manifest comes last of all."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from shards.checks import require_at_least
from shards.errors import UserError
from shards.format.growing_shard import GrowingShard, shard_name
from shards.format.index import merge_indexes
from shards.format.manifest import Manifest, ShardRecord
from shards.format.sample import Sample


class ShardWriter:
    """Writes one data set into a directory.

    Use it as a context manager, and end with ``close``: leaving the block without it, by an exception or otherwise,
    drops the unfinished shard and leaves a directory without a manifest.

    Args:
        directory: Where the data set goes; made if need be.
        samples_per_shard: Samples of every shard but the last.

    Raises:
        UserError: the directory is not empty, or it is a file.
    """

    def __init__(self, directory: Path, *, samples_per_shard: int = 256) -> None:
        require_at_least(1, samples_per_shard=samples_per_shard)
        self._directory = directory
        self._samples_per_shard = samples_per_shard
        self._open_shard: GrowingShard | None = None
        self._shards: list[ShardRecord] = []
        self._samples_written = 0
        self._class_counts: Counter[tuple[int, str]] = Counter()
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UserError(f"{directory} is not an empty directory; choose another output directory")
        directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._open_shard is not None:
            self._open_shard.discard()
            self._open_shard = None

    def write(self, sample: Sample) -> None:
        """Append a sample; a UserError that names the clip if its parts do not agree."""
        components = sample.components()
        if self._open_shard is None:
            self._open_shard = GrowingShard(self._directory / f".{shard_name(len(self._shards))}.tmp")
        self._open_shard.append(self._samples_written, components)
        self._samples_written += 1
        self._class_counts[sample.label, sample.info.class_name] += 1
        if self._open_shard.samples == self._samples_per_shard:
            self._finish_shard()

    def close(self, manifest: Manifest) -> Manifest:
        """Finish the data set; returns ``manifest`` as stored, with the shards and the counts by class filled in.

        Raises:
            UserError: no sample was written.
            ValueError: labels or class names of the samples are not those of ``manifest.classes``.
        """
        if not self._samples_written:
            raise UserError(f"no clip could be packed into {self._directory}; check the listing and the video folder")
        for label, class_name in self._class_counts:
            if manifest.classes[label : label + 1] != (class_name,):
                raise ValueError(f"label {label} is not class {class_name!r} in the manifest's classes")
        if self._open_shard is not None:
            self._finish_shard()
        merge_indexes(self._directory, [self._directory / shard.name for shard in self._shards])
        class_counts = tuple(self._class_counts[label, name] for label, name in enumerate(manifest.classes))
        manifest = replace(manifest, shards=tuple(self._shards), class_counts=class_counts)
        manifest.save(self._directory)
        return manifest

    def _finish_shard(self) -> None:
        assert self._open_shard is not None
        self._shards.append(self._open_shard.finish(self._directory / shard_name(len(self._shards))))
        self._open_shard = None

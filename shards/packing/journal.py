"""What has been done of one shard: a file of lines, each written once what it says lies safely on the disk.

A pack that was killed, whenever it was, reads the journals of its shards and goes on after the last whole line. The
first line says what the shard is made from; the journal of anything else is not believed. A line whose bytes in the
shard file are not those that it says, and all lines after it, do not count.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from shards.errors import UserError
from shards.format.manifest import ShardRecord
from shards.system.atomic import atomic_write
from shards.system.checksums import crc32_of_range


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What became of the next clips of a shard."""

    clips: int
    """Clips that this line tells of, packed or set aside."""
    bytes: int
    """Size of the shard file with them in it."""
    crc32: int
    """CRC-32 of the bytes that they added."""
    broken: dict[str, str] = field(default_factory=dict)
    """Name of every clip that was set aside, and why."""
    without_masks: tuple[str, ...] = ()
    """Packed clips for which the mask source has no file."""
    without_scenes: tuple[str, ...] = ()
    """Packed clips for which the scene source has no label."""
    without_person: tuple[str, ...] = ()
    """Packed clips whose masks show nobody to focus on."""
    truth_problems: tuple[tuple[str, str], ...] = ()
    """What of the labels within packed clips did not fit their videos: kinds and sentences."""


@dataclass(frozen=True)
class ShardFiles:
    """Where the parts of one shard lie."""

    final: Path
    """The complete shard."""
    growing: Path
    """The shard in the making."""
    journal: Path
    """What has been done of it."""

    @property
    def indexes(self) -> tuple[Path, Path]:
        """The indexes beside the complete shard."""
        return self.final.with_suffix(".idx"), self.final.with_suffix(".index.npz")

    @property
    def complete(self) -> tuple[Path, Path, Path]:
        """What becomes part of the data set: the shard and its indexes."""
        return (self.final, *self.indexes)

    def are_complete(self, size: int) -> bool:
        """Whether the shard has this many bytes, and its indexes are there."""
        return _size(self.final) == size and all(map(_size, self.indexes))

    def remove(self) -> None:
        """Remove them all, indexes included."""
        for path in (self.journal, self.growing, *self.complete):
            path.unlink(missing_ok=True)


@dataclass
class ShardJournal:
    """The journal of one shard; ``load`` it, then add to it."""

    files: ShardFiles
    """Where the shard and its journal lie."""
    request: str
    """Checksum of all that the shard is made from."""
    commits: list[Commit] = field(default_factory=list)
    """What became of the clips so far, in order."""
    finished: bool = False
    """Whether all is done."""
    record: ShardRecord | None = None
    """The complete shard; None where it is not finished or, all its clips being broken, has no file."""
    _open: bool = False
    """Whether the file holds just what is here, and can be added to."""

    @classmethod
    def load(cls, request: str, files: ShardFiles) -> Self:
        """Read what is true of a journal; one of another ``request`` counts as absent, and its shard is removed."""
        journal = cls(files, request)
        lines = read_lines(files.journal)
        if not lines or lines[0] != {"request": request}:
            files.remove()
            return journal
        if "finished" in lines[-1]:
            record = lines[-1]["finished"]
            if record is None or files.are_complete(record["bytes"]):
                return cls.finished_one(files)
            lines.pop()
        if files.final.is_file() and not files.growing.is_file():  # killed just before the last line
            files.final.replace(files.growing)
        for commit in map(_commit, lines[1:]):
            if not files.growing.is_file():
                break
            if crc32_of_range(files.growing, journal.bytes, commit.bytes) != commit.crc32:
                break
            journal.commits.append(commit)
        return journal

    @classmethod
    def finished_one(cls, files: ShardFiles) -> Self:
        """Read the journal of a shard that is complete; a UserError where it is not."""
        lines = read_lines(files.journal)
        if not lines or "finished" not in lines[-1]:
            raise UserError(f"{files.journal}: its shard is not complete; give the same command again")
        head, *commits, last = lines
        record = last["finished"]
        return cls(files, head["request"], list(map(_commit, commits)), True, record and ShardRecord(**record))

    @property
    def clips(self) -> int:
        """Clips that are done."""
        return sum(commit.clips for commit in self.commits)

    @property
    def broken(self) -> dict[str, str]:
        """Name of every clip that was set aside, and why."""
        return {name: reason for commit in self.commits for name, reason in commit.broken.items()}

    @property
    def bytes(self) -> int:
        """Size up to which the growing shard holds them."""
        return self.commits[-1].bytes if self.commits else 0

    def add(self, commit: Commit) -> None:
        """Add a line; the bytes that it tells of must be on the disk."""
        self.commits.append(commit)
        self._append(asdict(commit))

    def finish(self, record: ShardRecord | None) -> None:
        """Say that the shard is complete."""
        self.finished, self.record = True, record
        self._append({"finished": record and asdict(record)})

    def _append(self, value: dict[str, Any]) -> None:
        if not self._open:
            # Anew, so that nothing stays behind the lines that are true.
            with atomic_write(self.files.journal) as file:
                commits = self.commits if self.finished else self.commits[:-1]
                for line in ({"request": self.request}, *map(asdict, commits), value):
                    file.write(_line(line))
            self._open = True
            return
        with self.files.journal.open("ab") as file:
            file.write(_line(value))
            file.flush()
            os.fsync(file.fileno())


def _size(path: Path) -> int:
    """The size of a file; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _commit(line: dict[str, Any]) -> Commit:
    lists = {name: tuple(line.get(name, ())) for name in ("without_masks", "without_scenes", "without_person")}
    problems = tuple((kind, sentence) for kind, sentence in line.get("truth_problems", ()))
    return Commit(**(line | lists | {"truth_problems": problems}))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal: none where there is no file, and not the one that was being written at the end."""
    if not path.is_file():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0]
    try:
        lines = [json.loads(line) for line in whole.split(b"\n")]
    except ValueError:  # zeros, where the machine itself went down
        return []
    return lines if all(isinstance(line, dict) for line in lines) else []

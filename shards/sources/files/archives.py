"""Which files uncompressed tar archives hold, and where their bytes are. Only headers are read."""

import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shards.decoding.archive_member import ArchiveMember
from shards.sources.files.file_kinds import OTHER_SUFFIXES, is_named_like_a_video, is_unfinished
from shards.sources.listing import utf8_name

COMPRESSED = "a compressed archive, in which no video can be read alone: decompress it to a .tar, as gunzip does"

_SHARD = re.compile(r"shard-\d{6,}\.tar")
_COMPRESSED_NAME = re.compile(r"\.(tar\.(gz|bz2|xz)|tgz|tbz2?|txz)$")
_FAULTS = (tarfile.TarError, EOFError, ValueError, OverflowError)


@dataclass(frozen=True)
class Archive:
    """What an archive holds."""

    members: tuple[ArchiveMember, ...]
    """Its files, but for text, pictures and the like; of several with one path the last, which unpacking leaves."""
    faults: tuple[str, ...]
    """What of it cannot be read, and what can be done."""

    @property
    def is_flat(self) -> bool:
        """Whether a video lies in no folder of the archive."""
        return any("/" not in member.inner_path and is_named_like_a_video(member.name) for member in self.members)


def is_archive(name: str) -> bool:
    """Whether a file is called like an uncompressed archive, but not like a shard of clips that are packed already."""
    return name.lower().endswith(".tar") and not name.startswith(".") and not _SHARD.fullmatch(name)


def is_compressed_archive(path: Path) -> bool:
    """Whether a file is called like a compressed archive, and the first file in it like a video."""
    if path.name.startswith(".") or not _COMPRESSED_NAME.search(path.name.lower()):
        return False
    try:
        with tarfile.open(path, "r|*") as tar:
            return is_named_like_a_video(next((member.name for member in tar if member.isfile()), ""))
    except (*_FAULTS, OSError):
        return False


def read_archive(path: Path) -> Archive:
    """Read where the files of an archive begin and end. What cannot be read, be it all, is among its faults."""
    found: dict[str, ArchiveMember] = {}
    faults: list[str] = []
    last = ""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as tar:
            archive_bytes = os.fstat(file.fileno()).st_size
            for header in tar:
                if header.size < 0 or (header.isreg() and header.offset_data + header.size > archive_bytes):
                    raise tarfile.ReadError("ends within a file")
                last = _inner_path(header.name)
                _add_member(path, header, found, faults)
            file.seek(tar.offset)
            end = file.read(tarfile.BLOCKSIZE)
            if not end:
                faults.append(f"may be cut short after {utf8_name(last)}: the mark of its end lacks; fetch it again")
            elif any(end):
                raise tarfile.ReadError("no header")
    except _FAULTS:
        place = f"cut short or damaged after {utf8_name(last)}" if last else "no tar archive, or damaged"
        faults.append(f"{place}; fetch it again")
    except OSError as error:
        faults.append(f"cannot be read ({error.strerror}); make it readable or move it")
    return Archive(tuple(found.values()), tuple(faults))


def _add_member(archive: Path, header: tarfile.TarInfo, found: dict[str, ArchiveMember], faults: list[str]) -> None:
    """Add a file of an archive to those ``found`` before it, or to the ``faults``."""
    inner_path = _inner_path(header.name)
    suffix = PurePosixPath(inner_path.lower()).suffix
    if suffix in OTHER_SUFFIXES and not is_unfinished(inner_path):
        return
    target = found.get(_inner_path(header.linkname)) if header.islnk() else None
    if ".." in PurePosixPath(inner_path).parts:
        faults.append(f"{utf8_name(inner_path)} leads out of it; unpack it by hand")
    elif header.isreg() and not header.issparse():
        found[inner_path] = ArchiveMember(archive, inner_path, header.offset_data, header.size)
    elif target:
        found[inner_path] = ArchiveMember(archive, inner_path, target.start_byte, target.size_bytes)
    elif not header.isdir() and is_named_like_a_video(inner_path):
        faults.append(f"{utf8_name(inner_path)} is a link or has holes; unpack it")


def _inner_path(name: str) -> str:
    """A path in an archive without what unpacking passes over: ``./`` and ``/`` at its start."""
    return "/".join(part for part in PurePosixPath(name).parts if part != "/")

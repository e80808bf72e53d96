"""Where a data set grows until it is complete: the folder ``.NAME.packing`` beside its final place ``NAME``.

It outlives the process, so that a pack that was stopped goes on where it was, and several processes may fill it:

    .NAME.packing/request.json   what is being packed
                  .lock          held by the process of rank 0
                  shard_locks    one byte for each shard, held by the process that makes it
                  journals/      the journal of every shard, and its unfinished file
                  surveys/       where the videos of several clips may be entered
                  spool/         parts of long clips that are not in their shards yet
                  dataset/       complete shards; becomes NAME
                  moves.json     which of them get other numbers at the end
                  replaced/      the data set that NAME was, for the moment between two renames
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shards.errors import UserError
from shards.format.growing_shard import shard_name
from shards.packing.journal import ShardFiles
from shards.packing.output_folder import refuse_other_content
from shards.system.atomic import sync_folder, write_json
from shards.system.locks import LOCK_NAME, locked_folder, try_lock


@dataclass(frozen=True)
class WorkFolder:
    """Where the data set ``out`` is made."""

    out: Path
    """The final place of the data set."""

    @property
    def path(self) -> Path:
        """The folder itself; where ``out`` is a link, it lies on the disk of the link's target."""
        final = self.out.resolve()
        return final.with_name(f".{final.name}.packing")

    @property
    def dataset(self) -> Path:
        """What becomes ``out``."""
        return self.path / "dataset"

    @property
    def surveys(self) -> Path:
        """Where surveys of videos are kept."""
        return self.path / "surveys"

    @property
    def spool(self) -> Path:
        """Where parts of long clips wait."""
        return self.path / "spool"

    def shard_files(self, number: int) -> ShardFiles:
        """Where the parts of one shard lie."""
        name = shard_name(number)
        return ShardFiles(self.dataset / name, self._journals / name, self._journals / f"{name}.journal")

    def holds(self, request: str) -> bool:
        """Whether the folder holds the unfinished data set of ``request``."""
        try:
            return self._is_unfinished() and json.loads(self._request_file.read_bytes()) == request
        except ValueError:  # damaged
            return False

    @contextmanager
    def shard_locks(self) -> Iterator["ShardLocks"]:
        """Locks that keep a process that an earlier call left behind from writing the same shards."""
        with (self.path / "shard_locks").open("ab") as file:
            yield ShardLocks(file)

    @contextmanager
    def prepared(self, request: str, *, overwrite: bool, alone: bool = True) -> Iterator[None]:
        """Make the folder, or take up the one that an earlier process left, and keep other processes out of it.

        On an error before any clip is done, the folder is removed; later, it stays. At the end it is removed where the
        data set has been moved into place.

        Args:
            request: Checksum of all that decides which clips lie in which shard, and how.
            overwrite: Replace the data set in ``out``, and drop an unfinished one of another request.
            alone: Whether no process of other ranks may be at work in the folder; else an error never removes it.

        Raises:
            UserError: ``out`` must not be replaced, an unfinished pack of another request is there, or another
                process is at work.
        """
        refuse_other_content(self.out, overwrite)
        final = self.out.resolve()
        replaced = locked_folder(final, f"--out {self.out}", "writing to") if final.exists() else nullcontext()
        with self._locked(), replaced:
            try:
                refuse_other_content(self.out, overwrite)  # again, since the process before may have made it
                self._take_up(request, overwrite)
                yield
            except BaseException:
                if alone and not any(self._journals.glob("*.journal")):
                    self._clear()
                raise
            if not self.dataset.exists():
                self._clear()

    def close_gaps(self, numbers: Sequence[int]) -> None:
        """Give the complete shards ``numbers``, in ascending order, the numbers from 0 on.

        A process that takes the folder up puts them back first, so that the journals are true of them.
        """
        moves = [(number, place) for place, number in enumerate(numbers) if place != number]
        if not moves:
            return
        write_json(self._moves_file, moves)
        for number, place in moves:
            for path, new_path in zip(self.shard_files(number).complete, self.shard_files(place).complete, strict=True):
                path.rename(new_path)

    def move_into_place(self, *, overwrite: bool) -> None:
        """Make the complete data set ``out``; the one that it replaces is lost only then.

        Raises:
            UserError: something that must not be replaced has come to ``out`` meanwhile.
        """
        refuse_other_content(self.out, overwrite)
        final = self.out.resolve()
        try:
            if final.exists():
                final.rename(self._replaced)
            self.dataset.rename(final)
        except BaseException:
            if self._replaced.exists() and not final.exists():
                self._replaced.rename(final)
            raise
        sync_folder(final.parent)

    def remove_leftovers(self) -> None:
        """Remove the folder if its data set has been moved into place; another process at work in it does so itself."""
        if self.path.is_dir() and not self.dataset.exists():
            with suppress(UserError, OSError), self._locked():
                if not self.dataset.exists():
                    self._clear()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes out of the folder, which is gone afterwards if nothing is in it."""
        try:
            with locked_folder(self.path, f"--out {self.out}", "packing into"):
                yield
        finally:
            with suppress(OSError):  # work that a later call takes up
                self.path.rmdir()

    def _clear(self) -> None:
        """Remove all that is in the folder but the lock."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK_NAME:
                path.unlink()

    def _take_up(self, request: str, overwrite: bool) -> None:
        with self.shard_locks() as locks:
            locks.take_all()
        final = self.out.resolve()
        if self._replaced.exists() and not final.exists():  # killed between two renames
            self._replaced.rename(final)
        if not self.holds(request):
            if self._is_unfinished() and not overwrite:
                raise UserError(
                    f"--out {self.out}: {self.path} holds an unfinished pack of other videos or options; give those "
                    "to finish it, choose another folder, or add --overwrite to drop it"
                )
            self._request_file.unlink(missing_ok=True)
            self._moves_file.unlink(missing_ok=True)
            for folder in (self.dataset, self._journals, self.surveys, self._replaced):
                if folder.exists():
                    shutil.rmtree(folder)
            self._journals.mkdir()
            self.surveys.mkdir()
            self.dataset.mkdir()
            write_json(self._request_file, request)
        self._open_gaps()
        self.spool.mkdir(exist_ok=True)
        for leftover in (
            *self.path.glob(".*.tmp"),
            *self.dataset.glob(".*.tmp"),
            *self._journals.glob(".*.tmp"),
            *self.surveys.glob(".*.tmp"),
            *self.spool.iterdir(),
        ):
            leftover.unlink()

    def _open_gaps(self) -> None:
        """Undo those moves of an earlier `close_gaps` that were made: all up to the last whose source is not there."""
        if not self._moves_file.is_file():
            return
        moves = json.loads(self._moves_file.read_bytes())
        for part in range(len(self.shard_files(0).complete)):
            paths = [[self.shard_files(number).complete[part] for number in move] for move in moves]
            made = max((k for k, (path, _) in enumerate(paths, start=1) if not path.exists()), default=0)
            for path, new_path in reversed(paths[:made]):
                if new_path.exists():
                    new_path.rename(path)
        self._moves_file.unlink()

    def _is_unfinished(self) -> bool:
        return self._request_file.is_file() and self.dataset.is_dir()

    @property
    def _journals(self) -> Path:
        return self.path / "journals"

    @property
    def _replaced(self) -> Path:
        return self.path / "replaced"

    @property
    def _moves_file(self) -> Path:
        return self.path / "moves.json"

    @property
    def _request_file(self) -> Path:
        return self.path / "request.json"


@dataclass(frozen=True)
class ShardLocks:
    """The locks of the shards that this process makes; they end with it."""

    file: BinaryIO
    """The open file whose bytes are locked, one for each shard."""

    def take(self, number: int) -> None:
        """Lock a shard; a UserError where another process has it."""
        if not try_lock(self.file, number):
            raise self._refusal(shard_name(number))

    def take_all(self) -> None:
        """Lock every shard; a UserError where another process has one."""
        if not try_lock(self.file, length=0):
            raise self._refusal("shards")

    def _refusal(self, what: str) -> UserError:
        return UserError(
            f"{self.file.name}: another process makes {what}, perhaps one left of an earlier call; end it and give the"
            " same command again"
        )

"""What a data set has in common with others: clips of the same videos, and clips that look alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from scenebias.data.frame_hashes import FrameHashes, hash_dataset
from scenebias.data.near_duplicates import LARGEST_DISTANCE, NearDuplicate, find_near_duplicates, matching_frames
from scenebias.reports.html import Section, grid, paragraph, picture
from scenebias.reports.progress import ProgressDisplay
from scenebias.reports.terminal import number_table
from shards.dataset import ShardDataset
from shards.shared_clips import SharedClips

PAIRS_PRINTED, PAIRS_PICTURED = 20, 100
FRAMES_SHOWN, STRIP_WIDTH_REM = 4, 24


@dataclass(frozen=True, eq=False)
class HashedDataset:
    """A data set and the hashes of its frames."""

    dataset: ShardDataset
    hashes: FrameHashes

    @classmethod
    def of(cls, dataset: ShardDataset) -> "HashedDataset":
        """Hash it, with a bar on the terminal."""
        with ProgressDisplay(f"hashing {dataset.location}", len(dataset), "clips") as progress:
            return cls(dataset, hash_dataset(dataset, progress.update))

    def name(self, clip: int) -> str:
        """What a clip is called."""
        return self.dataset.info(clip).name


@dataclass(frozen=True, eq=False)
class Duplicates:
    """What one data set has in common with another, or with itself."""

    ours: HashedDataset
    theirs: HashedDataset
    shared: SharedClips
    """Our clips that share frames of a video with theirs, by the checksums; of a data set with itself, none."""
    pairs: Sequence[NearDuplicate]
    """Clips that look alike, the nearest first."""

    @classmethod
    def find(cls, ours: HashedDataset, theirs: HashedDataset) -> "Duplicates":
        """Compare two data sets; the same one twice is compared with itself."""
        same = ours.dataset.manifest.digest == theirs.dataset.manifest.digest
        nothing = SharedClips(ours.dataset, np.empty(0, np.int64))
        shared = nothing if same else SharedClips.find(ours.dataset, theirs.dataset.material)
        return cls(ours, theirs, shared, find_near_duplicates(ours.hashes, theirs.hashes, same=same))

    def report(self, console: Console) -> None:
        """Print how many there are, and the nearest."""
        for sentence in self.sentences():
            console.print(sentence)
        if self.pairs:
            console.print(self._table())

    def sentences(self) -> Iterator[str]:
        """What was found, in words."""
        place = self.theirs.dataset.location
        if len(self.shared):
            yield f"{self.shared} are of frames of video files that {place} has too"
        many = f", of {len({pair.ours for pair in self.pairs})} of our clips" if self.pairs else ""
        yield f"{len(self.pairs)} pairs of clips look alike here and in {place}{many}"
        for data in (self.ours, self.theirs):
            if flat := data.hashes.flat_clips:
                yield f"{flat} clips of {data.dataset.location} are flat in every frame, and look like nothing"
        if self.ours.dataset.manifest.focus != self.theirs.dataset.manifest.focus:
            yield f"{place} shows {self.theirs.dataset.manifest.focus}, and we another part: copies may look unlike"

    def values(self) -> list[dict[str, Any]]:
        """Every pair, as JSON values."""
        return [
            {
                "ours": self.ours.name(pair.ours),
                "theirs": self.theirs.name(pair.theirs),
                "distance": pair.distance,
                "mirrored": pair.mirrored,
                "same_video": self._is_same_video(pair),
            }
            for pair in self.pairs
        ]

    def section(self) -> Section:
        """The nearest pairs side by side, by the frames that match."""
        shown = "".join(map(self._pair_shown, self.pairs[:PAIRS_PICTURED]))
        left_out = self._left_out(PAIRS_PICTURED)
        more = paragraph(left_out) if left_out else ""
        words = "".join(paragraph(f"{sentence}.") for sentence in self.sentences())
        return Section(f"Also in {self.theirs.dataset.location}", words + shown + more)

    def _pair_shown(self, pair: NearDuplicate) -> str:
        frame_K, their_frame_K = matching_frames(pair, self.ours.hashes, self.theirs.hashes, FRAMES_SHOWN)
        strips = [
            picture(_strip(self.ours.dataset, pair.ours, frame_K), self.ours.name(pair.ours)),
            picture(_strip(self.theirs.dataset, pair.theirs, their_frame_K), self.theirs.name(pair.theirs)),
        ]
        return paragraph(f"Distance in bits of 63: {self._said(pair)}") + grid(strips, STRIP_WIDTH_REM)

    def _table(self) -> Table:
        rows = [
            (self.ours.name(pair.ours), self.theirs.name(pair.theirs), self._said(pair))
            for pair in self.pairs[:PAIRS_PRINTED]
        ]
        header = (str(self.ours.dataset.location), str(self.theirs.dataset.location), "bits of 63")
        return number_table(
            f"Pairs at most {LARGEST_DISTANCE:g} bits apart",
            header,
            rows,
            texts=2,
            caption=self._left_out(PAIRS_PRINTED),
        )

    def _left_out(self, shown: int) -> str | None:
        """How many pairs follow those that are ``shown``; None where none does."""
        count = len(self.pairs) - shown
        return f"and {count} pairs that are further apart" if count > 0 else None

    def _said(self, pair: NearDuplicate) -> str:
        facts = [f"{pair.distance:g}", *(["mirrored"] if pair.mirrored else [])]
        return ", ".join([*facts, *(["same video file"] if self._is_same_video(pair) else [])])

    def _is_same_video(self, pair: NearDuplicate) -> bool:
        ours, theirs = self.ours.dataset.material, self.theirs.dataset.material
        known = ours.known_N[pair.ours] and theirs.known_N[pair.theirs]
        return bool(known and ours.source_N[pair.ours] == theirs.source_N[pair.theirs])


def _strip(dataset: ShardDataset, clip: int, frame_K: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Frames of a clip side by side, uint8 (H, K * W, 3)."""
    return np.concatenate(list(dataset.decode(clip, dataset.read_clip(clip, frame_K))), axis=1)

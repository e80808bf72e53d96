"""Loaders that turn a packed data set into batches for training and evaluation."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.distributed

from dali_pipelines.clip_decoder import ClipBatch, ClipDecoder
from dali_pipelines.decoding_config import DecodingConfig
from dali_pipelines.epoch_loader import EpochLoader, TrainingDraws
from dali_pipelines.faults import FaultConfig
from dali_pipelines.loader_state import batch_identity
from dali_pipelines.requests import Draw
from dali_pipelines.windows import (
    ClipConfig,
    EvaluationWindows,
    Int64Array,
    ProtocolConfig,
)
from shards.checks import require_at_least
from shards.dataset import ShardDataset
from shards.order import EpochOrder, rank_share, repeated

_DEFAULT_CLIP = ClipConfig()
_DEFAULT_DECODING = DecodingConfig()


class TrainLoader(EpochLoader):
    """Shuffled, augmented batches; the batch of (epoch, step) depends on ``seed`` and nothing else.

    All ranks together take the same clips, cut in the same way, at any ``world_size``; a rank's batch is its even,
    contiguous share of ``global_batch_size`` (sizes differ by at most one). Every clip comes once an epoch. With a
    ``group_size`` over 1 a rank takes whole groups of so many neighbours of the order (see `shards.order.rank_share`),
    so that what is made of the clips of a group is the same at any ``world_size``. ``rank`` and ``world_size`` are
    those of ``torch.distributed`` where it is initialised, else those that ``torchrun`` has set in the environment
    (RANK, WORLD_SIZE), else of a single process.

    With ``repeats`` over 1 every clip comes so often in one step, cut anew each time (see `shards.order.repeated`): a
    batch has so many times fewer different clips, and an epoch so many times more steps.

    ``threads`` decode, and on a CPU as many crop; ``prefetch`` batches are made ahead. ``shuffle_window_shards``
    keeps reads nearly sequential (see ``EpochOrder``). ``faults`` says what comes of clips that cannot be read or
    decoded; where they are skipped, the clip that takes the place of one depends on (seed, epoch, sample) alone, and a
    line tells of each unless ``quiet``. ``frame_means``: batches hold the mean colour of whole frames, which then are
    decoded in full. ``decoding`` says where clips are decoded; the batches lie on ``device``.
    Raises ValueError where ranks would be left without a clip, or without a group, and where ``global_batch_size`` is
    no multiple of ``repeats``.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        clip: ClipConfig = _DEFAULT_CLIP,
        *,
        global_batch_size: int,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        device: str | torch.device = "cpu",
        threads: int = 2,
        prefetch: int = 2,
        shuffle_window_shards: int | None = None,
        group_size: int = 1,
        repeats: int = 1,
        faults: FaultConfig | None = None,
        quiet: bool = False,
        frame_means: bool = False,
        decoding: DecodingConfig = _DEFAULT_DECODING,
    ) -> None:
        super().__init__()
        rank, world_size = place_in_world(rank, world_size)
        require_repeats(repeats, global_batch_size)
        self.dataset: ShardDataset = dataset
        self._clip = clip
        self._seed = seed
        self._draws = TrainingDraws(dataset, clip, seed)
        self._repeats = repeats
        self._rank = rank
        self._world_size = world_size
        self._order = EpochOrder(
            sample_count=len(dataset),
            global_batch_size=global_batch_size // repeats,
            seed=seed,
            shard_starts=dataset.shard_starts,
            shuffle_window_shards=shuffle_window_shards,
            group_size=group_size,
        )
        check_batch_size(self._order, world_size, repeats)
        self._decoder = ClipDecoder(
            dataset,
            clip,
            batch_size=repeats
            * max(len(rank_share(range(size), rank, world_size, group_size)) for size in self._order.batch_sizes),
            device=torch.device(device),
            threads=threads,
            prefetch=prefetch,
            faults=faults,
            quiet=quiet,
            frame_means=frame_means,
            decoding=decoding,
        )

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return batch_identity(
            self.dataset,
            self._clip,
            global_batch_size=self._order.global_batch_size * self._repeats,
            repeats=self._repeats,
            seed=self._seed,
            shuffle_window_shards=self._order.shuffle_window_shards,
        )

    @property
    def skipped_samples(self) -> frozenset[int]:
        """The clips that this rank could not read or decode so far, and took others for."""
        return frozenset(self._decoder.faults.samples)

    @property
    def steps_per_epoch(self) -> int:
        return self._order.steps_per_epoch

    @property
    def clips_per_epoch(self) -> int:
        return self._order.sample_count

    def clips_in_step(self, step: int) -> int:
        return len(self._order.positions(step)) * self._repeats

    def epochs(self, first: int, end: int, start_step: int = 0) -> Iterator[ClipBatch]:
        steps = self._steps(first, end, start_step)

        def draws() -> Iterator[Draw]:
            for epoch, step in steps:
                own = self._order.rank_batch(epoch, step, self._rank, self._world_size)
                place_B, repeat_B = repeated(len(own), self._repeats, self._order.group_size)
                yield self._draws.draw(epoch, own[place_B], repeat_B)

        return self._decoder.batches(draws())


class EvalLoader:
    """The windows of every clip that ``protocol`` asks for (see `EvaluationWindows`), exactly once over all ranks.

    A rank takes an even, contiguous share of the windows, so the number of batches may differ between ranks.
    ``batch_size`` counts the windows of one rank; ``rank`` and ``world_size`` are found as by `TrainLoader`.
    ``order``: numbers of the windows to serve, in this order, any of them left out or repeated; None: all, in theirs.
    ``decoding`` is as of `TrainLoader`.
    Raises ValueError where ``order`` names a window that is not there.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        clip: ClipConfig = _DEFAULT_CLIP,
        *,
        batch_size: int,
        rank: int | None = None,
        world_size: int | None = None,
        device: str | torch.device = "cpu",
        threads: int = 2,
        prefetch: int = 2,
        protocol: ProtocolConfig | None = None,
        order: Int64Array | None = None,
        decoding: DecodingConfig = _DEFAULT_DECODING,
    ) -> None:
        rank, world_size = place_in_world(rank, world_size)
        require_at_least(1, batch_size=batch_size)
        self.dataset = dataset
        self.windows = EvaluationWindows(clip, dataset.frame_counts, dataset.frame_sizes, protocol)
        """All windows of the data set."""
        if order is not None and not ((order >= 0) & (order < len(self.windows))).all():
            raise ValueError(f"order must be numbers of windows, at least 0 and below {len(self.windows)}")
        self._order = order
        self.window_count = len(self.windows if order is None else order)
        """Windows that are served, over all ranks."""
        self._share = rank_share(range(self.window_count), rank, world_size)
        self._batch_size = batch_size
        self._decoder = ClipDecoder(
            dataset,
            clip,
            batch_size=batch_size,
            device=torch.device(device),
            threads=threads,
            prefetch=prefetch,
            decoding=decoding,
        )

    @cached_property
    def samples(self) -> Int64Array:
        """The clips of which windows are served, over all ranks, ascending."""
        if self._order is None:
            return np.arange(len(self.dataset))
        return np.unique(self.windows.samples(self._order))

    def __len__(self) -> int:
        """Batches of this rank."""
        return -(-len(self._share) // self._batch_size)

    def __iter__(self) -> Iterator[ClipBatch]:
        """Yield the rank's batches from the first; ends an iteration that is under way."""
        starts = range(0, len(self._share), self._batch_size)
        shares = (self._share[start : start + self._batch_size] for start in starts)
        places = (slice(share.start, share.stop) for share in shares)
        numbers = places if self._order is None else (self._order[place] for place in places)
        return self._decoder.batches(Draw(self.windows[batch]) for batch in numbers)


def require_repeats(repeats: int, global_batch_size: int) -> None:
    """Raise ValueError where no such batch holds each of its clips ``repeats`` times."""
    require_at_least(1, repeats=repeats)
    if global_batch_size % repeats:
        raise ValueError(f"global_batch_size must be a multiple of repeats ({repeats}), got {global_batch_size}")


def check_batch_size(order: EpochOrder, world_size: int, repeats: int = 1) -> None:
    """Raise ValueError where a step would leave a rank without a group, or a clip alone that belongs in one."""
    clips, fewest = order.sample_count, min(order.group_size, 2)
    needed = (world_size - 1) * order.group_size + fewest
    if order.batch_sizes[0] >= needed:
        return
    most_ranks = (clips - fewest) // order.group_size + 1
    if clips >= needed:
        sizes = range(-(-clips // (clips // needed)), clips + 1)
        enough = next(size for size in sizes if replace(order, global_batch_size=size).batch_sizes[0] >= needed)
        remedy = f"make it at least {enough * repeats}"
    elif most_ranks:
        remedy = f"start at most {most_ranks} ranks, and make it {clips * repeats}"
    else:
        remedy = f"take a data set of {fewest} clips or more"
    often = f", each {repeats} times" if repeats > 1 else ""
    raise ValueError(
        f"global_batch_size must give each of {world_size} ranks a {'clip' if fewest == 1 else 'group of clips'} at"
        f" every step, got {order.global_batch_size * repeats} for {clips} clips{often}: {remedy}"
    )


def place_in_world(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """``rank`` and ``world_size``, each of them found where it is None."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        found = torch.distributed.get_rank(), torch.distributed.get_world_size()
    else:
        found = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    rank, world_size = (
        given if given is not None else own for given, own in zip((rank, world_size), found, strict=True)
    )
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, {world_size}), got {rank}")
    return rank, world_size

"""Batches of several data sets, of any codecs and sizes of frames, in one order.

Each set has a decoder of its own, which makes its clips of every step; a batch is put together of them.

Shape suffixes: B clips of a batch, K those of one set, T frames of a window, H W C rows, columns and colours, S scenes.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import fields, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dali_pipelines.clip_decoder import ClipBatch, ClipDecoder
from dali_pipelines.decoding_config import DecodingConfig
from dali_pipelines.epoch_loader import EpochLoader, TrainingDraws
from dali_pipelines.faults import FaultConfig
from dali_pipelines.loader import check_batch_size, place_in_world, require_repeats
from dali_pipelines.loader_state import batch_identity
from dali_pipelines.requests import Draw
from dali_pipelines.reused_memory import ReusedMemory
from dali_pipelines.windows import ClipConfig
from shards.format.sample import SCENE_COUNT
from shards.joined_dataset import JoinedDataset
from shards.mixture_order import MixedClips, MixtureOrder
from shards.order import rank_share, repeated

_DEFAULT_CLIP = ClipConfig()
_DEFAULT_DECODING = DecodingConfig()
_BATCHES_IN_USE = 4
"""On a CPU: of the step, of the one before, the next one, and one that is just being let go of."""


class MixtureLoader(EpochLoader):
    """`TrainLoader` for several data sets: in every epoch ``clips_per_epoch`` clips of each, as `MixtureOrder` deals.

    Samples are numbered through, and labels are those of ``dataset``. Where some sets have masks or scene labels and
    others not, the clips of the others come with masks that are all false and zeros as scene labels. A clip that comes
    several times in an epoch is cut in another way each time. One that takes the place of a damaged one is of the same
    set, and ``faults`` counts each set by itself. ``threads`` and ``prefetch`` are those of each set. All other
    arguments are as of `TrainLoader`.
    """

    def __init__(
        self,
        dataset: JoinedDataset,
        clips_per_epoch: Sequence[int],
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
        self.dataset: JoinedDataset = dataset
        self._clip, self._seed, self._repeats = clip, seed, repeats
        self._order = order = MixtureOrder(
            sample_counts=tuple(map(len, dataset.datasets)),
            clips_per_epoch=tuple(clips_per_epoch),
            global_batch_size=global_batch_size // repeats,
            seed=seed,
            shard_starts=tuple(one.shard_starts for one in dataset.datasets),
            shuffle_window_shards=shuffle_window_shards,
            group_size=group_size,
        )
        check_batch_size(order.steps, world_size, repeats)
        # Every decoder asks for it, each about as far ahead as the others.
        self._clips_at: Callable[[int, int], MixedClips] = lru_cache(maxsize=64)(
            partial(self._dealt, rank=rank, world_size=world_size)
        )
        most = max(len(rank_share(range(size), rank, world_size, group_size)) for size in order.steps.batch_sizes)
        self._decoders = [
            ClipDecoder(
                one,
                clip,
                batch_size=most * repeats,
                device=torch.device(device),
                threads=threads,
                prefetch=prefetch,
                faults=faults,
                quiet=quiet,
                frame_means=frame_means,
                decoding=decoding,
            )
            for one in dataset.datasets
        ]
        self._draws = [
            TrainingDraws(one, clip, seed, first=start)
            for one, start in zip(dataset.datasets, dataset.starts.tolist(), strict=False)
        ]
        self._label_maps = [
            torch.from_numpy(dataset.labels_of(number, np.arange(len(one.classes))))
            for number, one in enumerate(dataset.datasets)
        ]
        self._memory = {name: ReusedMemory(_BATCHES_IN_USE) for name in ("clip_BTHWC", "mask_BTHW")}

    @cached_property
    def _identity(self) -> dict[str, Any]:
        datasets = self.dataset.datasets
        identity = batch_identity(
            datasets[0],
            self._clip,
            global_batch_size=self._order.global_batch_size * self._repeats,
            repeats=self._repeats,
            seed=self._seed,
            shuffle_window_shards=self._order.shuffle_window_shards,
        )
        return identity | {
            "dataset_sha256": [one.manifest.digest for one in datasets],
            "clips_per_epoch": list(self._order.clips_per_epoch),
        }

    @property
    def skipped_samples(self) -> frozenset[int]:
        """As of `TrainLoader`."""
        starts = self.dataset.starts.tolist()
        return frozenset(
            start + sample
            for start, decoder in zip(starts, self._decoders, strict=False)
            for sample in decoder.faults.samples
        )

    @property
    def steps_per_epoch(self) -> int:
        return self._order.steps_per_epoch

    @property
    def clips_per_epoch(self) -> int:
        return self._order.steps.sample_count

    def clips_in_step(self, step: int) -> int:
        return len(self._order.steps.positions(step)) * self._repeats

    def clips_by_set(self, step: int) -> Mapping[str, int]:
        counts = self._order.counts_in(step) * self._repeats
        return dict(zip(self.dataset.names, counts.tolist(), strict=True))

    def _dealt(self, epoch: int, step: int, *, rank: int, world_size: int) -> MixedClips:
        """The rank's clips of a step, each as often as it is repeated; each time counts as a pass of its own."""
        clips = self._order.rank_batch(epoch, step, rank, world_size)
        place_B, repeat_B = repeated(len(clips.set_B), self._repeats, self._order.group_size)
        set_B, sample_B, pass_B = (field[place_B] for field in clips)
        return MixedClips(set_B, sample_B, pass_B * self._repeats + repeat_B)

    def epochs(self, first: int, end: int, start_step: int = 0) -> Iterator[ClipBatch]:
        def draws(number: int, steps: Iterator[tuple[int, int]]) -> Iterator[Draw]:
            for epoch, step in steps:
                clips = self._clips_at(epoch, step)
                is_its = clips.set_B == number
                if is_its.any():
                    yield self._draws[number].draw(epoch, clips.sample_B[is_its], clips.pass_B[is_its])

        def steps() -> Iterator[tuple[int, int]]:
            return self._steps(first, end, start_step)

        shares = [decoder.batches(draws(number, steps())) for number, decoder in enumerate(self._decoders)]
        return self._joined(steps(), shares)

    def _joined(
        self, steps: Iterator[tuple[int, int]], shares: Sequence[Generator[ClipBatch, None, None]]
    ) -> Generator[ClipBatch, None, None]:
        with ExitStack() as stack:
            for share in shares:
                stack.enter_context(closing(share))
            for at in steps:
                clips = self._clips_at(*at)
                parts = []
                for number in np.unique(clips.set_B).tolist():
                    if (part := next(shares[number], None)) is None:
                        return  # a later iteration has ended this one
                    parts.append(self._numbered_through(number, part, clips.pass_B[clips.set_B == number]))
                # Stable: the clips of a set are in the order in which its decoder was asked for them.
                yield self._put_together(parts, np.argsort(clips.set_B, kind="stable"))

    def _numbered_through(self, number: int, part: ClipBatch, pass_K: NDArray[np.int64]) -> ClipBatch:
        """Clips of one set with the labels and numbers of the joined one, and all that other sets have."""
        device, shape = part.clip_BTHWC.device, part.clip_BTHWC.shape
        mask_BTHW, scene_BS = part.mask_BTHW, part.scene_BS
        if mask_BTHW is None and self.dataset.mask_count:
            mask_BTHW = torch.zeros(shape[:-1], dtype=torch.bool, device=device)
        if scene_BS is None and self.dataset.scene_count:
            scene_BS = torch.zeros(shape[0], SCENE_COUNT, device=device)
        return replace(
            part,
            mask_BTHW=mask_BTHW,
            scene_BS=scene_BS,
            label_B=self._label_maps[number].to(device)[part.label_B],
            sample_B=part.sample_B + int(self.dataset.starts[number]),
            repeat_B=torch.from_numpy(pass_K).to(device),
        )

    def _put_together(self, parts: Sequence[ClipBatch], place_B: NDArray[np.int64]) -> ClipBatch:
        """One batch of the clips of ``parts``, of which the first goes to the first of ``place_B``, and so on."""
        if len(parts) == 1:
            return parts[0]
        sizes = [len(part.label_B) for part in parts]
        places = torch.from_numpy(place_B).to(parts[0].label_B.device).split(sizes)

        def joined(name: str) -> Tensor | None:
            tensors = [tensor for part in parts if (tensor := getattr(part, name)) is not None]
            if not tensors:
                return None
            like, shape = tensors[0], (len(place_B), *tensors[0].shape[1:])
            is_reused = name in self._memory and not like.is_cuda
            whole = self._memory[name].empty(shape).view(like.dtype) if is_reused else like.new_empty(shape)
            for place, tensor in zip(places, tensors, strict=True):
                if whole.is_cuda:
                    whole.index_copy_(0, place, tensor)
                else:  # a twelfth of index_copy_'s time there
                    whole.numpy()[place.numpy()] = tensor.numpy()
            return whole

        values: dict[str, Any] = {
            field.name: joined(field.name) for field in fields(ClipBatch) if field.name != "skipped_count"
        }
        return replace(parts[0], **values, skipped_count=sum(part.skipped_count for part in parts))

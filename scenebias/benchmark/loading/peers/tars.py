"""webdataset: tar files read from end to end in worker processes, whatever the clips in them are stored as.

Every tar holds masks, scene label and class beside the clip.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import webdataset
from torch import Tensor
from torch.utils.data import default_collate

from scenebias.benchmark.loading.peers.cutting import cut_clip, cut_mask, item_of, no_mask
from scenebias.benchmark.loading.peers.stored_samples import stored_samples
from scenebias.benchmark.loading.peers.worker_processes import load_in_workers
from scenebias.benchmark.loading.setting import ClipItem, Pass, Setting
from scenebias.benchmark.loading.windows import ClipWindow
from shards.codecs.masks import npy_array
from shards.format.sample import LABEL, MASKS, SCENE

TARS_PER_WORKER = 2

Components = dict[str, bytes]
Decode = Callable[[Components, ClipWindow], Tensor]


@dataclass(frozen=True)
class TarKind:
    """How clips are stored in tars."""

    store: Callable[[Setting, ClipWindow, Components], Components]
    """From the components of a sample of ours, those that hold the clip in this kind of tar."""
    decode: Decode
    """From those, the window's frames: uint8 (T, C, H, W)."""


def open_tars(kind: TarKind, setting: Setting) -> Pass:
    """Write the measured clips into tars, as many for every worker, and start the loader."""
    folder = setting.folder / "tars"
    folder.mkdir()
    windows = {window.sample: window for window in setting.windows}
    count = TARS_PER_WORKER * setting.workers
    paths = [str(folder / f"{number}.tar") for number in range(count)]
    writers = [webdataset.TarWriter(path, encoder=False) for path in paths]
    for position, (number, components) in enumerate(stored_samples(setting)):
        labels = {name: components[name] for name in (MASKS, SCENE, LABEL) if name in components}
        clip = kind.store(setting, windows[number], components)
        writers[position % count].write({"__key__": f"{number:09d}", **clip, **labels})
    for writer in writers:
        writer.close()
    data = (
        webdataset.WebDataset(paths, shardshuffle=False, empty_check=False)
        .map(partial(load_item, kind.decode, windows, setting.clip.size))
        .batched(setting.batch_size, collation_fn=default_collate)
    )
    loader = load_in_workers(data, setting, batch_size=None)
    return lambda: iter(loader)


def load_item(decode: Decode, windows: dict[int, ClipWindow], size: int, sample: dict[str, Any]) -> ClipItem:
    """The item of one sample as webdataset reads it."""
    window = windows[int(sample["__key__"])]
    components = {name: data for name, data in sample.items() if not name.startswith("__")}
    clip_TSSC = cut_clip(decode(components, window), window, size)
    if MASKS not in components:
        return item_of(window, clip_TSSC, no_mask(window, size))
    return item_of(window, clip_TSSC, cut_mask(npy_array(components[MASKS])[window.frames_T], window, size))

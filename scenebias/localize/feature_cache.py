"""Features of videos, kept in files that say by which weights and of which shards they are."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dali_pipelines.windows import ClipConfig
from scenebias.localize.dense_features import DEFAULT_DENSE, DenseConfig, dense_track
from scenebias.localize.tracks import FeatureTrack
from scenebias.models.weights import clip_config_of, load_weights
from shards.dataset import ShardDataset
from shards.system.atomic import atomic_write
from shards.system.checksums import sha256_of

_VERSION = 1
"""Of the files and of how features are made."""
_TIMES = "times"


class FeatureCache:
    """The features of a data set's videos by some weights, each made when it is first asked for, and kept.

    A file a video lies in a folder of its own below ``folder``, whose name is a checksum of the weights, the shards and
    how windows are cut: others never find it. Files appear only when they are complete, so several processes may share
    a folder; one that cannot be read is made anew.
    """

    def __init__(
        self,
        folder: Path,
        weights: Path,
        dataset: ShardDataset,
        config: DenseConfig = DEFAULT_DENSE,
        device: torch.device | str = "cpu",
    ) -> None:
        """Raises UserError where the weights cannot be read."""
        self._dataset, self._config = dataset, config
        model, metadata = load_weights(weights)
        self._model = model.to(device).to(memory_format=torch.channels_last_3d).eval()
        self._clip = clip_config_of(metadata)
        config.check_fits(self._clip)
        self.folder = folder / feature_key(weights, dataset, self._clip, config)
        self.folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, sample: int) -> FeatureTrack:
        """Those of one video; raises as `dense_track`."""
        path = self.folder / f"{sample:08d}.safetensors"
        kept = read_track(path)
        if kept is not None:
            return kept
        track = dense_track(self._model, self._dataset, sample, self._clip, self._config)
        write_track(path, track)
        return track


def feature_key(weights: Path, dataset: ShardDataset, clip: ClipConfig, config: DenseConfig) -> str:
    """A checksum of all that features depend on: the weights' and the shards' content, and how windows are cut."""
    described = {
        "version": _VERSION,
        "weights": sha256_of(weights),
        "shards": [shard.sha256 for shard in dataset.manifest.shards],
        "window": [clip.frames, clip.stride, clip.size],
        "feature_stride": config.feature_stride,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def write_track(path: Path, track: FeatureTrack) -> None:
    """Keep features; ``path`` appears only when it is complete."""
    times = {name: value for name, value in asdict(track).items() if name != "feature_CT"}
    with atomic_write(path) as file:
        file.write(save({"feature_CT": track.feature_CT}, metadata={_TIMES: json.dumps(times)}))


def read_track(path: Path) -> FeatureTrack | None:
    """Features that were kept; None where there are none, or none that can be read."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            times = json.loads((file.metadata() or {})[_TIMES])
            return FeatureTrack(feature_CT=file.get_tensor("feature_CT"), **times)
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None

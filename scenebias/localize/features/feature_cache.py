"""Features of videos, kept in files that say by which weights and of which shards they are."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dali_pipelines.windows import ClipConfig
from scenebias.localize.features.dense_features import DEFAULT_DENSE, DenseConfig, dense_track
from scenebias.localize.features.tracks import FeatureTrack
from scenebias.models.action_model import ActionModel
from shards.dataset import ShardDataset
from shards.system.atomic import atomic_write

_VERSION = 1
"""Of the files and of how features are made."""
_TIMES = "times"


@dataclass(frozen=True, eq=False)
class Encoder:
    """A network that makes features, and what it is known by."""

    model: ActionModel
    clip: ClipConfig
    """How its windows are cut."""
    digest: str
    """A checksum of its weights."""


class FeatureCache:
    """The features of a data set's videos by one network, each made when it is first asked for, and kept.

    A file a video lies in a folder of its own below ``folder``, whose name is a checksum of the weights, the shards and
    how windows are cut: others never find it. Files appear only when they are complete, so several processes may share
    a folder; one that cannot be read is made anew.
    """

    def __init__(
        self, folder: Path, encoder: Encoder, dataset: ShardDataset, config: DenseConfig = DEFAULT_DENSE
    ) -> None:
        """Raises ValueError as `DenseConfig.check_fits`."""
        self._dataset, self._config, self._encoder = dataset, config, encoder
        config.check_fits(encoder.clip)
        self.folder = folder / feature_key(encoder, dataset, config)
        self.folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, sample: int) -> FeatureTrack:
        """Those of one video; raises as `dense_track`."""
        path = self.folder / f"{sample:08d}.safetensors"
        kept = read_track(path)
        if kept is not None:
            return kept
        track = dense_track(self._encoder.model, self._dataset, sample, self._encoder.clip, self._config)
        write_track(path, track)
        return track


def feature_key(encoder: Encoder, dataset: ShardDataset, config: DenseConfig) -> str:
    """A checksum of all that features depend on: the weights' and the shards' content, and how windows are cut."""
    clip = encoder.clip
    described = {
        "version": _VERSION,
        "weights": encoder.digest,
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

"""Kept features are found again by the same weights and shards alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dali_pipelines.windows import ClipConfig
from scenebias.localize.features import feature_cache
from scenebias.localize.features.dense_features import DenseConfig
from scenebias.localize.features.feature_cache import Encoder, FeatureCache, read_track, write_track
from scenebias.localize.features.tracks import FeatureTrack
from scenebias.models.action_model import ActionModel, ModelConfig
from shards.dataset import ShardDataset


def encoder(seed: int) -> Encoder:
    torch.manual_seed(seed)
    model = ActionModel(ModelConfig(backbone="small3d"), 1).eval()
    return Encoder(model, ClipConfig(frames=4, size=32), f"weights {seed}")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The videos whose features are made."""
    samples: list[int] = []
    real = feature_cache.dense_track

    def counted(model: ActionModel, dataset: ShardDataset, sample: int, *rest) -> FeatureTrack:
        samples.append(sample)
        return real(model, dataset, sample, *rest)

    monkeypatch.setattr(feature_cache, "dense_track", counted)
    return samples


def test_features_are_made_once_and_come_back_the_same(tmp_path: Path, tiny_dataset: Path, made: list[int]) -> None:
    dataset = ShardDataset.open(tiny_dataset)
    first = FeatureCache(tmp_path / "cache", encoder(0), dataset)[1]
    again = FeatureCache(tmp_path / "cache", encoder(0), dataset)[1]
    assert made == [1]
    assert torch.equal(first.feature_CT, again.feature_CT)
    assert (first.first_s, first.step_s, first.duration_s) == (again.first_s, again.step_s, again.duration_s)


def test_other_weights_other_shards_and_other_windows_do_not_find_them(
    tmp_path: Path, tiny_dataset: Path, tiny_test_dataset: Path
) -> None:
    one, other = encoder(0), encoder(1)
    train, test = ShardDataset.open(tiny_dataset), ShardDataset.open(tiny_test_dataset)
    folders = {
        FeatureCache(tmp_path, *asked).folder
        for asked in ((one, train), (other, train), (one, test), (one, train, DenseConfig(feature_stride=2)))
    }
    assert len(folders) == 4
    assert FeatureCache(tmp_path, encoder(0), train, DenseConfig(feature_batch_size=1)).folder in folders
    for clip in (ClipConfig(frames=8, size=32), ClipConfig(frames=4, size=48), ClipConfig(frames=4, size=32, stride=2)):
        assert FeatureCache(tmp_path, replace(one, clip=clip), train).folder not in folders


def test_a_damaged_file_is_made_anew(tmp_path: Path, tiny_dataset: Path, made: list[int]) -> None:
    cache = FeatureCache(tmp_path / "cache", encoder(0), ShardDataset.open(tiny_dataset))
    expected = cache[0].feature_CT
    (kept,) = cache.folder.iterdir()
    whole = kept.read_bytes()
    for damaged in (whole[:-1], whole[:20], b"", b"not a file of tensors"):
        kept.write_bytes(damaged)
        assert torch.equal(cache[0].feature_CT, expected)
        assert kept.read_bytes() == whole
    assert made == [0] * 5


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track = FeatureTrack(feature_CT=torch.ones(2, 3), first_s=0.5, step_s=0.1, duration_s=1)
    write_track(tmp_path / "kept", track)

    def fail(*_, **__) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr(feature_cache, "save", fail)
    with pytest.raises(OSError, match="no space"):
        write_track(tmp_path / "new", track)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert read_track(tmp_path / "new") is None

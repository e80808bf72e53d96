"""What is said of data sets that do not fit."""

from pathlib import Path

import pytest

from scenebias.data.datasets import RemoteConfig, open_pair, require_same_classes
from shards.errors import UserError
from shards.storage.cache_config import CacheConfig
from tests.conftest import focused_copy


def test_the_same_classes_pass() -> None:
    require_same_classes(["a", "b"], ("a", "b"), "x", "y")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (["a"], "the test set: it lacks b; pack it again"),
        (["a", "b", "c"], "it adds c;"),
        (["a", "c"], "it lacks b and adds c;"),
        (["b", "a"], "it has another order from class 0 on;"),
    ],
)
def test_differing_classes_are_named_with_the_remedy(found: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        require_same_classes(found, ["a", "b"], "the test set", "pack it again")


def test_the_options_of_commands_are_those_of_the_cache_and_have_its_defaults() -> None:
    assert RemoteConfig().cache_config() == CacheConfig()
    chosen = RemoteConfig(cache=Path("c"), cache_gb=0.5, download_retries=0, download_timeout_s=2.5)
    assert chosen.cache_config() == CacheConfig(
        directory=Path("c"), budget_bytes=500_000_000, download_retries=0, download_timeout_s=2.5
    )


@pytest.mark.parametrize("option", ["cache_gb", "download_retries", "download_timeout_s"])
def test_options_out_of_range_are_named(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be"):
        RemoteConfig(**{option: -1})


def test_training_and_test_data_must_show_the_same_of_each_frame(
    tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path
) -> None:
    train, test = focused_copy(tiny_dataset, tmp_path / "train"), focused_copy(tiny_test_dataset, tmp_path / "test")
    open_pair(train, test, RemoteConfig())
    with pytest.raises(UserError, match=r"test shows squares around people .* shows whole frames: pack both alike"):
        open_pair(tiny_dataset, test, RemoteConfig())

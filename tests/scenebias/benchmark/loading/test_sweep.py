"""What must hold of the settings that a sweep compares."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dali_pipelines import ClipConfig, DecodingConfig
from scenebias.benchmark.loading.setting import Setting
from scenebias.benchmark.loading.sweep import AS_ASKED, variations
from shards.dataset import ShardDataset


@pytest.fixture
def setting(tiny_dataset) -> Setting:
    return Setting(
        dataset=ShardDataset.open(tiny_dataset),
        clip=ClipConfig(),
        batches=[],
        windows=[],
        videos=None,
        folder=Path(),
        device=torch.device("cpu"),
        batch_size=4,
        workers=2,
        prefetch=2,
    )


def differences(one: Setting, other: Setting) -> list[str]:
    def values(setting):
        return vars(setting) | vars(setting.decoding)

    return [name for name, value in values(one).items() if name != "decoding" and values(other)[name] != value]


def test_each_differs_in_one_option_and_no_two_are_the_same(setting):
    on_gpu = replace(setting, device=torch.device("cuda", 0), decoding=DecodingConfig(loader_device="gpu"))
    for start, cores in ((setting, 2), (setting, 1), (on_gpu, 16)):
        found = variations(start, cores)
        assert found.pop(AS_ASKED) is start
        assert all(len(differences(start, varied)) == 1 for varied in found.values())
        said = [(varied.workers, varied.prefetch, varied.decoding) for varied in found.values()]
        assert len(set(said)) == len(said)


def test_a_gpus_decoder_is_swept_on_a_gpu_alone(setting):
    on_gpu = replace(setting, device=torch.device("cuda", 0))
    assert {differences(setting, varied)[0] for varied in list(variations(setting, 8).values())[1:]} == {
        "workers",
        "prefetch",
    }
    assert {differences(on_gpu, varied)[0] for varied in list(variations(on_gpu, 8).values())[1:]} == {
        "workers",
        "prefetch",
        "hw_decoder_load",
        "hybrid_huffman_threshold",
        "preallocate",
        "loader_device",
    }


def test_threads_go_up_to_the_cores(setting):
    names = [name for name in variations(setting, 12) if name.startswith("threads")]
    assert names == ["threads 1", "threads 4", "threads 8"]

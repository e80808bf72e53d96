"""What must hold of the choice where clips are decoded."""

import logging

import pytest
import torch

from dali_pipelines import DecodingConfig, gpu_decoding
from dali_pipelines.gpu_decoding import decodes_on_gpu
from shards.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def dali(monkeypatch):
    """Says what keeps DALI from the GPU."""
    return lambda reason: monkeypatch.setattr(gpu_decoding, "why_no_dali", lambda number: reason)


def test_a_gpu_decodes_for_itself_unless_told_otherwise(waves, dali):
    dali(None)
    assert decodes_on_gpu(waves, GPU, "auto")
    assert decodes_on_gpu(waves, GPU, "gpu")
    assert not decodes_on_gpu(waves, GPU, "cpu")


@pytest.mark.parametrize("wanted", ["auto", "cpu"])
def test_what_goes_to_a_cpu_is_decoded_on_it(waves, wanted):
    assert not decodes_on_gpu(waves, CPU, wanted)


def test_a_gpu_that_is_asked_for_must_be_there(waves):
    with pytest.raises(UserError, match=r"--loader-device gpu.*no GPU.*auto"):
        decodes_on_gpu(waves, CPU, "gpu")


def test_a_broken_driver_stops_nobody_but_who_insists(waves, dali, caplog):
    dali("DALI cannot use GPU 0 (broken)")
    with caplog.at_level(logging.WARNING):
        assert not decodes_on_gpu(waves, GPU, "cpu")
        assert not caplog.records
        assert not decodes_on_gpu(waves, GPU, "auto", quiet=True)
        assert not caplog.records
        assert not decodes_on_gpu(waves, GPU, "auto")
    assert "DALI cannot use GPU 0 (broken): clips are decoded on the CPU" in caplog.text
    with pytest.raises(UserError, match=r"DALI cannot use GPU 0 \(broken\); take --loader-device cpu"):
        decodes_on_gpu(waves, GPU, "gpu")


def test_frames_too_small_for_an_engine_are_decoded_on_the_cpu(video_waves, dali):
    dali(None)
    assert decodes_on_gpu(video_waves("h264"), GPU, "auto")
    assert not decodes_on_gpu(video_waves("hevc"), GPU, "auto")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_dali_says_why_it_cannot_use_a_gpu_that_is_not_there():
    assert "DALI cannot use GPU 0 (" in gpu_decoding.why_no_dali(0)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"loader_device": "tpu"}, "loader_device must be one of auto, cpu, gpu"),
        ({"hw_decoder_load": 1.5}, "hw_decoder_load must be 0 to 1"),
        ({"hybrid_huffman_threshold": -1}, "hybrid_huffman_threshold"),
    ],
)
def test_impossible_settings_are_refused_by_name(options, part):
    with pytest.raises(ValueError, match=part):
        DecodingConfig(**options)

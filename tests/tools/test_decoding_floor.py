"""What must hold of the trial of libjpeg-turbo alone: it decodes what is wanted, with the settings it is told."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dali_pipelines import ClipConfig
from shards.dataset import ShardDataset
from tests.commands import run_here
from tools.trials.decoding_floor import COMMAND, FLOOR, SETTINGS, Turbo, memory_for, read_requests, strips_of

simplejpeg = pytest.importorskip("simplejpeg")
HEADER = any(Path(folder, "jpeglib.h").exists() for folder in ("/usr/include", "/usr/local/include"))
pytestmark = pytest.mark.skipif(not shutil.which("cc") or not HEADER, reason="no C compiler, or no libjpeg-dev")


@pytest.fixture(scope="module")
def strips(tiny_dataset):
    requests = read_requests(ShardDataset.open(tiny_dataset), ClipConfig(frames=8, size=32), 1)
    return [strip for request in requests for strip in strips_of(request)]


def test_the_pixels_are_those_of_another_binding(strips, tmp_path):
    turbo, out = Turbo(tmp_path, strips), memory_for(strips)
    for strip in strips:
        whole = simplejpeg.decode_jpeg(strip.data)
        assert whole.shape == (strip.rows, strip.all_columns, 3)
        for name, (fast_idct, fancy) in SETTINGS.items():
            expected = simplejpeg.decode_jpeg(strip.data, fastdct=bool(fast_idct), fastupsample=not fancy)
            assert name == FLOOR or not np.array_equal(expected, whole)
            all_columns = type(strip)(strip.data, strip.rows, 0, strip.all_columns, strip.all_columns)
            size = turbo.pixels(all_columns, (fast_idct, fancy), out)
            difference = np.abs(out[:size].reshape(expected.shape).astype(int) - expected)
            assert difference.max() <= 1, name  # libraries of other versions


def test_no_more_is_decoded_than_the_blocks_that_are_needed(strips, tmp_path):
    turbo, out = Turbo(tmp_path, strips), memory_for(strips)
    for strip in strips:
        size = turbo.pixels(strip, SETTINGS[FLOOR], out)
        assert strip.rows * strip.columns * 3 <= size <= strip.rows * (strip.columns + 2 * 16) * 3


def test_everything_is_measured_in_turns(tiny_dataset):
    finished = run_here(COMMAND, "--shards", tiny_dataset, "--batches", 1, "--repeats", 1)
    assert finished.returncode == 0, finished.stderr
    for name in ("coefficients", "planes", *SETTINGS, "DALI", "simplejpeg", "decode_only", "loader"):
        assert name in finished.stdout

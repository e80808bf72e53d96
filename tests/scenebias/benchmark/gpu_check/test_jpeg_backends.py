"""What must hold of the count of strips that decoders take."""

import pytest
import torch

from scenebias.benchmark.gpu_check import jpeg_backends
from scenebias.benchmark.gpu_check.jpeg_backends import check_jpeg_backends, training_strips

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_the_cpu_takes_every_strip(small):
    outcome = check_jpeg_backends(small)
    assert outcome.status == "passed"
    assert outcome.found == "CPU 12/12"
    assert outcome.values["CPU"] == {"taken": 12, "mean_difference": 0.0, "largest_difference": 0}
    assert outcome.skipped == ("hardware, GPU, hybrid: no GPU: skipped",)


def test_what_is_not_taken_is_counted(small, monkeypatch, capfd):
    strips = training_strips(small)
    strips[3] = strips[3][: len(strips[3]) // 20]
    monkeypatch.setattr(jpeg_backends, "training_strips", lambda options: strips)
    outcome = check_jpeg_backends(small)
    assert outcome.problems == ("the CPU decodes 11 of 12 strips",)
    capfd.readouterr()  # the library tells of it, too

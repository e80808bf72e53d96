"""What must hold of the checks that measure, on a CPU: they run, and say what they leave out."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from scenebias.benchmark.gpu_check import idle, loader_alone, variants
from scenebias.benchmark.gpu_check.idle import check_idle
from scenebias.benchmark.gpu_check.idle_gaps import IdleTime
from scenebias.benchmark.gpu_check.loader_alone import check_loader
from scenebias.benchmark.gpu_check.training_steps import check_training_steps
from scenebias.benchmark.gpu_check.variants import VARIANTS, Variant, check_variants
from scenebias.benchmark.measuring import Rates
from scenebias.training.computing.arithmetic import ArithmeticConfig

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_the_loader_is_swept(small):
    outcome = check_loader(small)
    assert outcome.status == "passed"
    assert {"as asked", "prefetch 4"} <= outcome.values.keys()
    assert "clips/s; the fastest, with" in outcome.found
    assert "no GPU: skipped" in outcome.skipped[0]


def test_training_steps_are_measured_with_their_memory(small):
    outcome = check_training_steps(small)
    assert outcome.status == "passed"
    assert outcome.values["ratios"]["ours_over_bare"] > 0
    assert outcome.values["memory"]["debias"]["step_bytes"] > outcome.values["memory"]["baseline"]["step_bytes"] > 0


def test_a_run_is_traced(small):
    outcome = check_idle(small)
    assert outcome.status == "passed"
    assert 0 <= outcome.values["data_wait_share"] < 1
    assert outcome.skipped == ("the GPU's idle time: no GPU: skipped",)


def test_a_gpu_that_idles_too_long_is_a_problem_with_names(small, monkeypatch):
    found = IdleTime(2.0, 0.3, {"aten::item": 0.4, "Python, or waiting for data": 0.2})
    monkeypatch.setattr(idle, "find_idle_time", lambda events: found)
    (problem,) = check_idle(small).problems
    assert "idles 30% of the time, more than 10%: aten::item 20.0%, Python, or waiting for data 10.0%" in problem
    assert check_idle(replace(small, longest_idle_share=0.4)).status == "passed"


def test_every_way_to_compute_a_step_is_run_once(small):
    outcome = check_variants(small)
    assert outcome.status == "passed", outcome.problems
    assert outcome.values.keys() == VARIANTS.keys() - {"fp16", "compile"}
    assert outcome.skipped == ("fp16, compile: no GPU: skipped",)
    assert all(values["clips_per_s"] > 0 for values in outcome.values.values())


def test_a_way_that_fails_ends_no_other(small, monkeypatch):
    broken = {"broken": Variant(ArithmeticConfig(accumulate=100)), "fp32": Variant()}
    monkeypatch.setattr(variants, "VARIANTS", broken)
    outcome = check_variants(small)
    (problem,) = outcome.problems
    assert problem.startswith("broken: ")
    assert outcome.values["fp32"]["clips_per_s"] > 0


def test_another_first_loss_or_another_second_run_is_a_problem(small, monkeypatch):
    ways = {
        "fp32": Variant(),
        "other": Variant(objective=variants.VARIANTS["alternate"].objective),
        "twice": Variant(runs=2),
    }
    monkeypatch.setattr(variants, "VARIANTS", ways)
    runs = iter([[1.0, 0.9], [1.2, 1.1], [1.0, 0.9], [1.0, 0.9001]])

    def run_trainer(*_, **__):
        return SimpleNamespace(clips_per_s=1.0, all_steps=[{"action_loss": loss} for loss in next(runs)])

    monkeypatch.setattr(variants, "run_trainer", run_trainer)
    problems = check_variants(small).problems
    assert problems == (
        "other: its first loss is 1.2000, that of fp32 1.0000",
        "twice: two runs give other losses",
    )


def test_a_slow_loader_is_a_problem_on_a_gpu_alone(small, monkeypatch):
    slow = check_loader(replace(small, wanted_clips_per_s=1e9))
    assert slow.status == "passed"
    monkeypatch.setattr(loader_alone, "device_here", lambda: torch.device("cuda", 0))
    rates = {"as asked": Rates((100.0,), (1.0,)), "threads 8": Rates((200.0,), (1.0,))}
    monkeypatch.setattr(loader_alone, "measure_sweep", lambda *_, **__: rates)
    (problem,) = check_loader(small).problems
    assert problem == "200 clips/s at best, of 425 that the network may want"

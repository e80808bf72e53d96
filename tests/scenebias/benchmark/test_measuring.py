"""What must hold of how the benchmark measures and of what it makes of it."""

import threading
import time

import pytest
import torch

from scenebias.benchmark.gpu_load import SAMPLE_INTERVAL_S, load_reader, sampled_load
from scenebias.benchmark.loading.results import save_plot, summarise
from scenebias.benchmark.measuring import Rates, measure

CPU = torch.device("cpu")


def test_loaders_take_turns_after_a_round_that_does_not_count():
    calls = []

    def loader(name):
        def run():
            calls.append(name)
            return iter([3, 2])

        return run

    rates = measure({"a": loader("a"), "b": loader("b")}, steps=2, repeats=2, least_pass_s=0, device=CPU)
    assert calls == ["a", "b"] * 3
    assert [len(rate.clips_per_s) for rate in rates.values()] == [2, 2]


def test_the_cpu_time_of_all_threads_counts():
    def burn():
        end_s = time.thread_time() + 0.1
        while time.thread_time() < end_s:
            pass

    def run():
        threads = [threading.Thread(target=burn) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield 10

    rates = measure({"a": run}, steps=1, repeats=1, least_pass_s=0, device=CPU)
    assert rates["a"].cpu_ms_per_clip[0] == pytest.approx(20, abs=8)


def test_a_short_pass_is_run_again_until_it_lasts():
    passes = []

    def run():
        passes.append(time.perf_counter())
        time.sleep(0.01)
        yield 10

    rates = measure({"a": run}, steps=1, repeats=1, least_pass_s=0.05, device=CPU)
    assert 3 <= len(passes) <= 6
    assert rates["a"].median == pytest.approx(1000, rel=0.5)


def test_the_summary_has_median_and_spread():
    rates = {"ours": Rates((100.0, 300.0, 200.0), (1.0,)), "theirs": Rates((50.0, 40.0, 60.0), (2.0,))}
    ours, theirs = summarise(rates, {"ours": "", "theirs": "slow"})
    assert (ours["clips_per_s_min"], ours["clips_per_s_median"], ours["clips_per_s_max"]) == (100, 200, 300)
    assert theirs["ours_to_this"] == 4
    assert theirs["note"] == "slow"


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_plot_is_written_in_the_format_of_its_name(suffix, tmp_path):
    rates = {
        name: Rates((rate, rate + 9), (1.0,))
        for name, rate in (("ours", 100.0), ("ours_crop", 120.0), ("decode_only", 150.0))
    }
    path = tmp_path / f"plot{suffix}"
    save_plot(path, summarise(rates, dict.fromkeys(rates, "")), "rates")
    first_bytes = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert path.read_bytes().startswith(first_bytes[suffix])


def test_the_load_of_the_engines_is_averaged():
    loads = iter([{"jpeg": 0.2}, {"jpeg": 0.4, "video": 1.0}])

    def read():
        return next(loads, {})

    with sampled_load(read) as means:
        assert means == {}
        time.sleep(3.5 * SAMPLE_INTERVAL_S)
    assert means == {"jpeg": pytest.approx(0.3), "video": 1.0}


def test_an_error_while_sampling_is_raised_where_the_block_ends():
    def read():
        raise RuntimeError("the driver went away")

    with pytest.raises(RuntimeError, match="the driver went away"), sampled_load(read):
        time.sleep(2.5 * SAMPLE_INTERVAL_S)


def test_a_cpu_has_no_engines():
    assert load_reader(CPU) is None
    with sampled_load(None) as means:
        pass
    assert means == {}

"""How much of our loader's CPU time is Python's: sample who holds the interpreter's lock, with py-spy.

Starts our loader in a process of its own and samples it. Python code runs only with the lock held, so the time in which
somebody holds it, as a share of the CPU time of all threads, is an upper limit of Python's share. Samples whose
innermost frame is Python code or the interpreter's own count as Python; the others hold the lock in compiled code, such
as NumPy's and torch's. The CPU time a second is measured first, undisturbed, since py-spy stops the process for every
sample. On a busy machine both shares come out too high: who holds the lock may wait for a core.

Needs py-spy, which needs the right to trace processes (root, or ptrace_scope 0).
"""

import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from scenebias.benchmark.loading.command import BenchData, make_setting
from scenebias.benchmark.loading.ours import train_loader, training_batches
from scenebias.benchmark.measuring import cpu_seconds_of
from scenebias.commands import Command
from shards.dataset import ShardDataset
from shards.errors import UserError

SAMPLES_PER_S = 100
WARM_UP_S = 2.0
SHOWN = 12
INTERPRETER = re.compile(r"\.py:\d+\)$|\(<string>:\d+\)$|\((lib)?python3[\w.]*\)$")
"""Innermost frames that are Python code, or in the interpreter's own binary."""


@dataclass(frozen=True, kw_only=True)
class PythonShare:
    """How much of our loader's CPU time is Python's."""

    shards: Path
    """Folder of a packed data set."""
    seconds: int = 10
    """How long to sample."""
    workers: int = 2
    """Threads of our loader."""
    load_for: float | None = None
    """Load for so many seconds and do nothing else; what this script starts itself with."""


def main(config: PythonShare) -> None:
    """Sample a process that loads, and compare with the CPU time that it took."""
    if config.load_for is not None:
        load(config, config.load_for)
        return
    options = ["--shards", str(config.shards), "--workers", str(config.workers)]
    loading_s = WARM_UP_S + 4 * config.seconds + 5
    command = [sys.executable, __file__, *options, "--load-for", str(loading_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as child:
        assert child.stdout is not None
        child.stdout.readline()  # it loads, from now on
        time.sleep(WARM_UP_S)
        start_s, cpu_before_s = time.perf_counter(), cpu_seconds_of(child.pid)
        time.sleep(config.seconds)
        cores = (cpu_seconds_of(child.pid) - cpu_before_s) / (time.perf_counter() - start_s)
        stacks = sample(child.pid, config.seconds)
        child.kill()
    leaves: Counter[str] = Counter()
    for stack, count in stacks.items():
        leaves[stack.split(";")[-1]] += count
    samples = SAMPLES_PER_S * config.seconds
    interpreter = sum(count for leaf, count in leaves.items() if INTERPRETER.search(leaf))
    print(f"cores_busy: {cores:.2f}")
    print(f"lock_held_share: {stacks.total() / samples / cores:.3f}")
    print(f"python_share: {interpreter / samples / cores:.3f}")
    for leaf, count in leaves.most_common(SHOWN):
        print(f"{count / stacks.total():7.1%}  {leaf}")


def load(config: PythonShare, seconds: float) -> None:
    """Load whole epochs, one after another."""
    dataset = ShardDataset.open(config.shards)
    options = BenchData(shards=config.shards, workers=config.workers)
    with tempfile.TemporaryDirectory() as folder:
        setting = make_setting(options, dataset, torch.device("cpu"), Path(folder))
        loader = train_loader(setting)
        end_s = time.monotonic() + seconds
        print("loading", flush=True)
        while time.monotonic() < end_s:
            for _ in training_batches(setting, loader):
                pass


def sample(pid: int, seconds: int) -> Counter[str]:
    """How often each stack was seen holding the lock."""
    with tempfile.NamedTemporaryFile(suffix=".txt") as out:
        command = ["py-spy", "record", "--gil", "--native", "--format", "raw", "--rate", str(SAMPLES_PER_S)]
        command += ["--duration", str(seconds), "--pid", str(pid), "--output", out.name]
        finished = subprocess.run(command, capture_output=True, encoding="utf-8")
        if finished.returncode:
            raise UserError(f"py-spy cannot sample: {finished.stderr.strip()}")
        stacks: Counter[str] = Counter()
        for line in Path(out.name).read_text(encoding="utf-8").splitlines():
            stack, _, count = line.rpartition(" ")
            stacks[stack] += int(count)
    return stacks


COMMAND = Command(
    main=main,
    options=PythonShare,
    example="python tools/trials/python_share.py --shards data/jhmdb/train",
)

if __name__ == "__main__":
    COMMAND.run()

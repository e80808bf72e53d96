"""Measure a training step: debiasing beside the baseline, the trainer beside bare torch, memory, and two processes."""

from scenebias.benchmark.training import BenchTrain, main
from scenebias.commands import run_command

if __name__ == "__main__":
    run_command(
        main,
        BenchTrain,
        example="python tools/bench_train.py --shards data/jhmdb/train --json data/bench_train.json",
    )

"""Measure how fast training data comes: this project's loader beside other ways to feed the same clips."""

from scenebias.benchmark.command import BenchData, main
from scenebias.commands import run_command

if __name__ == "__main__":
    run_command(
        main,
        BenchData,
        example="python tools/bench_data.py --shards data/jhmdb/train --videos $DATA/jhmdb/videos "
        "--plot data/bench.png",
    )

"""Measure how fast training data comes: this project's loader beside other ways to feed the same clips."""

from scenebias.benchmark.loading.command import COMMAND

if __name__ == "__main__":
    COMMAND.run()

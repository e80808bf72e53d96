"""Measure a training step: debiasing beside the baseline, the trainer beside bare torch, memory, and two processes."""

from scenebias.benchmark.training.command import COMMAND

if __name__ == "__main__":
    COMMAND.run()

"""Measure a training step: debiasing beside the baseline, the trainer beside bare torch, memory, and two processes."""

from scenebias.cli import start

if __name__ == "__main__":
    start("bench-train")

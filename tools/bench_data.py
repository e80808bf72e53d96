"""Measure how fast training data comes: this project's loader beside other ways to feed the same clips."""

from scenebias.cli import start

if __name__ == "__main__":
    start("bench")

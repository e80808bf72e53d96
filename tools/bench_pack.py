"""Measure how fast film strips are packed, beside ffmpeg on the same videos."""

from scenebias.benchmark.packing import COMMAND

if __name__ == "__main__":
    COMMAND.run()

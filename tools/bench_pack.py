"""Measure how fast film strips are packed, beside ffmpeg on the same videos."""

from scenebias.cli import start

if __name__ == "__main__":
    start("bench-pack")

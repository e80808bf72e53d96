"""Pack videos, human masks and scene labels into a data set of shards."""

from scenebias.cli import start

if __name__ == "__main__":
    start("pack")

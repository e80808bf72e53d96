"""Say what is in a packed data set, check every byte of it, or make a page to look at it."""

from scenebias.cli import start

if __name__ == "__main__":
    start("inspect")

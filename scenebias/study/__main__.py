"""``python -m scenebias.study``: the whole study, by one command; given again, it goes on where it was."""

from scenebias.study.command import COMMAND

if __name__ == "__main__":
    COMMAND.run()

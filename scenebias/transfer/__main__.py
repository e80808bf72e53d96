from scenebias.transfer.command import COMMAND

if __name__ == "__main__":
    COMMAND.run()

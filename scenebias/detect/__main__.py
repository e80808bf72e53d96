from scenebias.detect.command import COMMAND

if __name__ == "__main__":
    COMMAND.run()

"""Pack videos, human masks and scene labels into a data set of shards."""

if __name__ == "__main__":
    # Imported here, since every worker process runs this file up to here, and none of them needs PyTorch.
    from scenebias.data.make_shards import COMMAND

    COMMAND.run()

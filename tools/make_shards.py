"""Pack videos, human masks and scene labels into a data set of shards."""

if __name__ == "__main__":
    # Imported here, since every worker process runs this file up to here, and none of them needs PyTorch.
    from scenebias.commands import run_command
    from scenebias.make_shards import OPTIONS, main

    run_command(
        main,
        OPTIONS,
        example="python tools/make_shards.py jhmdb --root $DATA/jhmdb/videos --labels $DATA/labels/hmdb51 --split 1 "
        "--subset test --masks $DATA/jhmdb/masks --scenes $DATA/jhmdb/scene_probs.npz --out data/jhmdb/test",
    )

"""The benchmark of the loader: beside other ways to feed the same clips, stage by stage, and in real training."""

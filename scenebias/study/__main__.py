"""``python -m scenebias.study``: the whole study, by one command; given again, it goes on where it was."""

from scenebias.commands import run_command
from scenebias.study.command import StudyConfig, main

if __name__ == "__main__":
    run_command(
        main,
        StudyConfig,
        example="tools/study.sh --out runs/study --jhmdb-videos $DATA/jhmdb/videos --jhmdb-masks $DATA/jhmdb/masks "
        "--jhmdb-scenes $DATA/jhmdb/scene_probs.npz --hmdb51-splits $DATA/labels/hmdb51",
    )

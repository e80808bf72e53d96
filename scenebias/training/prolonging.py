"""A run that is given more epochs than it was begun with: which may have them, and where it goes on.

Its result is that of a run that had them from the start. So it goes on before the evaluation of what was the last
epoch: the BatchNorm statistics of others come of fewer clips.
"""

from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.run_folder.folder import RunFolder
from scenebias.run_folder.record import RunRecord
from scenebias.training.options import RunConfig
from shards.errors import UserError


def prolonged_epochs(folder: RunFolder, config: RunConfig, objective: ObjectiveConfig) -> int | None:
    """How many epochs the run in ``folder`` was begun with, where ``config`` asks for more; None where it does not.

    Raises:
        UserError: what was done so far would have been done otherwise in a run of so many.
    """
    epochs = RunRecord.read(folder.path).configuration.get("schedule", {}).get("epochs")
    if not isinstance(epochs, int) or epochs >= config.schedule.epochs:
        return None
    if config.optimization.schedule == "cosine":
        reason = "--schedule cosine has brought its learning rate towards zero over them"
    elif objective.alpha_schedule != "constant":
        reason = f"--alpha-schedule {objective.alpha_schedule} has raised the weight of its losses over them"
    else:
        return epochs
    raise UserError(
        f"{folder.path} holds a run of {epochs} epochs, which cannot have {config.schedule.epochs}: {reason}; choose"
        " another --out, or begin with --schedule constant, step or plateau where epochs may be added"
    )

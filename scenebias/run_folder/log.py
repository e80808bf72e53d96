"""The numbers of a run, step by step: log.jsonl, and TensorBoard."""

import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from shards.system.atomic import atomic_write


class TrainingLog:
    """Numbers of each step and epoch, as JSON lines and for TensorBoard."""

    def __init__(self, out: Path, resume_at_step: int, finished_epochs: int) -> None:
        self.path = out / "log.jsonl"
        self._keep_lines_before(resume_at_step, finished_epochs)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=resume_at_step)

    def _keep_lines_before(self, step: int, finished_epochs: int) -> None:
        """Drop what a killed run logged after the checkpoint that it resumes from."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                break  # the line that the kill cut short: nothing follows it
            if entry["epoch"] < finished_epochs or (entry["kind"] == "step" and entry["global_step"] < step):
                kept.append(line + "\n")
        with atomic_write(self.path) as file:
            file.write("".join(kept).encode())

    def write(self, kind: str, global_step: int, numbers: dict[str, float]) -> None:
        """Log ``numbers`` of ``kind`` ("step" or "epoch") at ``global_step``."""
        self._file.write(json.dumps({"kind": kind, "global_step": global_step, **numbers}, allow_nan=False) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            # An epoch belongs to its last step: a resume purges what lies at the step where it goes on.
            self._board.add_scalar(f"{kind}/{name}", value, global_step - (kind == "epoch"))

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        self._board.close()

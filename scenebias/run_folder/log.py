"""The numbers of a run, step by step: log.jsonl, and the boards that show them."""

import json
from pathlib import Path

from scenebias.run_folder.boards import BoardsConfig, open_boards
from shards.system.atomic import atomic_write

_DEFAULT_BOARDS = BoardsConfig()


class TrainingLog:
    """Numbers of each step and epoch, as JSON lines and on boards."""

    def __init__(
        self, out: Path, resume_at_step: int, finished_epochs: int, boards: BoardsConfig = _DEFAULT_BOARDS
    ) -> None:
        self.path = out / "log.jsonl"
        self._keep_lines_before(resume_at_step, finished_epochs)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close
        self._boards = open_boards(boards, out, resume_at_step)

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
        named = {f"{kind}/{name}": value for name, value in numbers.items()}
        for board in self._boards:
            # An epoch belongs to its last step: a resume purges what lies at the step where it goes on.
            board.show(named, global_step - (kind == "epoch"))

    def close(self) -> None:
        """Close the file, and the boards."""
        self._file.close()
        for board in self._boards:
            board.close()

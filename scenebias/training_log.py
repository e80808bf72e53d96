"""What a run leaves behind: its record (run.json), its numbers (log.jsonl, TensorBoard)."""

import dataclasses
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from shards.atomic import atomic_write, write_json
from shards.errors import UserError

RECORDED_PACKAGES = ("torch", "torchvision", "nvidia-dali-cuda130", "webdataset", "numpy", "av", "scenebias")


def plain(value: Any) -> Any:
    """``value`` as JSON has it: dataclasses become dictionaries, tuples lists, paths strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def write_run_record(out: Path, config: Any, data: dict[str, Any], world_size: int) -> None:
    """Write ``run.json``: the resolved configuration, library versions and the data's digests."""
    write_json(
        out / "run.json",
        {
            "configuration": plain(config),
            "data": plain(data),
            "world_size": world_size,
            "python": platform.python_version(),
            "packages": {name: version(name) for name in RECORDED_PACKAGES},
        },
    )


def check_same_run(out: Path, config: Any, data: dict[str, Any], may_change: tuple[str, ...] = ()) -> None:
    """Raise UserError where ``out`` holds a run of another configuration or other data; name what differs."""
    path = out / "run.json"
    if not path.exists():
        return
    before = json.loads(path.read_text())
    now = {"configuration": plain(config), "data": plain(data)}
    changed = [
        f"{key} was {before[part].get(key)!r} and is now {now[part].get(key)!r}"
        for part in now
        for key in sorted(set(before[part]) | set(now[part]))
        if key not in may_change and before[part].get(key) != now[part].get(key)
    ]
    if changed:
        raise UserError(f"{out} holds another run ({'; '.join(changed)}): choose another --out or remove that folder")


class TrainingLog:
    """Numbers of each step and epoch, as JSON lines and for TensorBoard."""

    def __init__(self, out: Path, resume_at_step: int) -> None:
        self.path = out / "log.jsonl"
        self._keep_lines_before(resume_at_step)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=resume_at_step)

    def _keep_lines_before(self, step: int) -> None:
        """Drop what a killed run logged after the checkpoint that it resumes from."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                break  # the line that the kill cut short: nothing follows it
            if entry["global_step"] < step or (entry["kind"] == "epoch" and entry["global_step"] == step):
                kept.append(line + "\n")
        with atomic_write(self.path) as file:
            file.write("".join(kept).encode())

    def write(self, kind: str, global_step: int, numbers: dict[str, float]) -> None:
        """Log ``numbers`` of ``kind`` ("step" or "epoch") at ``global_step``."""
        self._file.write(json.dumps({"kind": kind, "global_step": global_step, **numbers}) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            self._board.add_scalar(f"{kind}/{name}", value, global_step)

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        self._board.close()

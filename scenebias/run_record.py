"""The record of a run (run.json): what was asked, of which data, with which versions; and whether a run is the same."""

import dataclasses
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from shards.atomic import write_json
from shards.errors import UserError

RECORD_NAME = "run.json"
RECORDED_PACKAGES = ("torch", "torchvision", "nvidia-dali-cuda130", "webdataset", "numpy", "av", "scenebias")


def package_versions() -> dict[str, str]:
    """The installed versions of what decides a result."""
    return {name: version(name) for name in RECORDED_PACKAGES}


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
        out / RECORD_NAME,
        {
            "configuration": plain(config),
            "data": plain(data),
            "world_size": world_size,
            "python": platform.python_version(),
            "packages": package_versions(),
        },
    )


def _leaves(tree: dict[str, Any], left_out: tuple[str, ...] = (), prefix: str = "") -> dict[str, Any]:
    """The values of a nested dictionary by dotted name, without those whose last name is in ``left_out``."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if name not in left_out:
            nested = isinstance(value, dict)
            leaves |= _leaves(value, left_out, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return leaves


def check_same_run(out: Path, config: Any, data: dict[str, Any], may_change: tuple[str, ...] = ()) -> None:
    """Raise UserError where ``out`` holds a run of another configuration or other data; name what differs.

    Options in ``may_change`` decide nothing of the result.
    """
    path = out / RECORD_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        before = _leaves(record["configuration"], may_change) | _leaves({"data": record["data"]})
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}): choose another --out or remove that folder") from error
    now = _leaves(plain(config), may_change) | _leaves({"data": plain(data)})
    changed = [
        f"{key} was {before.get(key)!r} and is now {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise UserError(f"{out} holds another run ({'; '.join(changed)}): choose another --out or remove that folder")

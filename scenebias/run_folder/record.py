"""The record of a run (run.json): what was asked, of which data, with which versions; and whether a run is the same."""

import dataclasses
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from dali_pipelines.windows import LATER_OPTIONS
from scenebias.cuda_builds import DALI_PACKAGES
from shards.errors import UserError, system_fault
from shards.system.atomic import write_json

RECORD_NAME = "run.json"
OF_THE_MACHINE = ("init", "out", "remote", "train", "val", "weights")
"""Fields of a run's configuration that hold paths or addresses."""
RECORDED_PACKAGES = ("torch", "torchvision", *DALI_PACKAGES.values(), "webdataset", "numpy", "av", "scenebias")


def package_versions() -> dict[str, str]:
    """The installed versions of what decides a result."""
    found = {}
    for name in RECORDED_PACKAGES:
        with suppress(PackageNotFoundError):  # DALI for another CUDA
            found[name] = version(name)
    return found


def plain(value: Any) -> Any:
    """``value`` as JSON has it: dataclasses become dictionaries, tuples lists, paths strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run is, as JSON values."""

    configuration: dict[str, Any]
    """All options, resolved."""
    data: dict[str, Any]
    """Digests of what it works on."""
    circumstances: dict[str, Any]
    """What should not change its result, such as the number of processes."""
    python: str
    packages: dict[str, str]
    """Versions of what decides a result."""

    @classmethod
    def of(cls, config: Any, data: dict[str, Any], circumstances: dict[str, Any]) -> Self:
        """The record of a run with the options of the dataclass ``config``, here and now."""
        return cls(
            configuration=plain(config),
            data=plain(data),
            circumstances=plain(circumstances),
            python=platform.python_version(),
            packages=package_versions(),
        )

    @classmethod
    def read(cls, out: Path) -> Self:
        """The record in ``out``, its options called as they are now; UserError where it is damaged."""
        path = out / RECORD_NAME
        try:
            record = cls(**json.loads(path.read_text(encoding="utf-8")))
            return dataclasses.replace(record, configuration=with_current_names(record.configuration))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            if (fault := system_fault(error)) and not isinstance(error, FileNotFoundError):
                raise UserError(f"{path} cannot be read ({fault}): mend that, or choose another --out") from error
            raise UserError(f"{path} is damaged ({error}): choose another --out or remove that folder") from error

    def write(self, out: Path) -> None:
        """Write ``run.json`` into ``out``."""
        write_json(out / RECORD_NAME, dataclasses.asdict(self))

    def changes_since(self, out: Path, may_change: tuple[str, ...] = ()) -> list[str]:
        """What has changed since the run in ``out`` was recorded without making it another run, as clauses.

        That are options in ``may_change`` (names of options, or of groups of them), which decide nothing of the result,
        the circumstances and versions of packages, which should not.

        Raises:
            UserError: the rest of the configuration or the data are other ones; it names them. Or the record is
                damaged.
        """
        before = RunRecord.read(out)
        options = _changes(before.configuration, self.configuration)
        contents = _changes({"data": before.data}, {"data": self.data})
        around = _changes(before.circumstances, self.circumstances) | _changes(before.packages, self.packages)
        harmless = {name for name in options if not set(may_change).isdisjoint(name.split("."))}
        changed = [clause for name, clause in (options | contents).items() if name not in harmless]
        if changed:
            raise UserError(
                f"{out} holds another run ({'; '.join(changed)}): choose another --out or remove that folder"
            )
        return [options[name] for name in sorted(harmless)] + list(around.values())


_NEW_GROUPS: Mapping[str, Mapping[str, Any]] = {
    "augment": {
        "rand_augment": 0,
        "rand_augment_magnitude": 9,
        "jitter_brightness": 0.0,
        "jitter_contrast": 0.0,
        "jitter_saturation": 0.0,
        "jitter_hue": 0.0,
        "jitter_probability": 1.0,
        "grey_probability": 0.0,
        "erasing_probability": 0.0,
        "erasing_area": [0.02, 1 / 3],
        "erasing_aspect": [0.3, 10 / 3],
    },
    "evaluation": {"eval_precision": "fp32"},
    "mixture": {"mix": [], "repeat": [], "heads": "joined"},
}
"""What trainings of earlier versions did in place of groups of options that there were not always."""
_NEW_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "clip": LATER_OPTIONS,
    "schedule": {"ema": None, "repeated_augmentation": 1},
    "model": {"drop_path": None, "mean": None, "std": None},
    "optimization": {"layer_decay": 1.0},
}
"""The same of options of groups that there were."""


def with_current_names(configuration: dict[str, Any]) -> dict[str, Any]:
    """A recorded configuration of any version of the program, with its options as they are called now."""
    if isinstance(clip := configuration.get("clip"), dict):
        configuration = configuration | {"clip": {**_NEW_OPTIONS["clip"], **clip}}
    if {"schedule", "protocol"} <= configuration.keys():  # of training
        configuration = {name: dict(values) for name, values in _NEW_GROUPS.items()} | configuration
        new: dict[str, Any] = {"pretrained": None} if "init" in configuration else {"drop_path": None}
        configuration = new | configuration
        for group, values in _NEW_OPTIONS.items():
            if isinstance(said := configuration.get(group), dict):
                configuration = configuration | {group: {**values, **said}}
    objective = configuration.get("objective")
    if not isinstance(objective, dict):
        return configuration
    objective = {"name" if name == "objective" else name: value for name, value in objective.items()}
    if objective.get("masked_batch_norm") == "shared":
        objective["masked_batch_norm"] = "released"
    return configuration | {"objective": objective}


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a nested dictionary by dotted name."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """What differs between two nested dictionaries, as clauses by dotted name."""
    old, new = leaves(before), leaves(now)
    changed = {name for name in old.keys() | new.keys() if name not in old or name not in new or old[name] != new[name]}
    return {name: f"{name} was {_said(old, name)} and is now {_said(new, name)}" for name in sorted(changed)}


def _said(leaves: dict[str, Any], name: str) -> str:
    """The value of ``name``, or that the version of the program at the time did not know it."""
    return repr(leaves[name]) if name in leaves else "not known"

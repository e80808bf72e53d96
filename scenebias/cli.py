"""The command ``scenebias``: every program of the package under one name.

``scenebias pretrain …`` is ``python -m scenebias.pretrain …``; each program is imported when it is asked for.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from scenebias.commands import Command

MODULES: Mapping[str, str] = {
    "pack": "scenebias.data.make_shards",
    "inspect": "scenebias.data.inspect_shards",
    "pretrain": "scenebias.pretrain",
    "transfer": "scenebias.transfer.command",
    "evaluate": "scenebias.evaluate",
    "bias": "scenebias.bias.command",
    "predict": "scenebias.predict",
    "import-weights": "scenebias.import_weights",
    "import-detections": "scenebias.annotators.sdn_detections",
    "study": "scenebias.study.command",
    "render": "scenebias.demo.render",
    "bench": "scenebias.benchmark.loading.command",
    "bench-pack": "scenebias.benchmark.packing",
    "bench-train": "scenebias.benchmark.training.command",
}
"""Where each program's ``COMMAND`` is, by its name."""


def command(name: str) -> Command:
    """The program of that name."""
    return cast(Command, import_module(MODULES[name]).COMMAND)

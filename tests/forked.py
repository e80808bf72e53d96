"""Processes for tests that start in milliseconds: forked from a server that has imported what nearly all of them need.

A Python process spends three seconds of a core on importing PyTorch, DALI and the project. Tests of torchrun itself, of
what a command imports, or of how the interpreter exits, start processes of their own instead.
"""

import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["scenebias.pretrain", "scenebias.transfer.command", "torch._dynamo"])

LONGEST_RUN_S = 120


@dataclass
class Rank:
    """One process of several that run together."""

    process: BaseProcess
    output: Path
    """What it prints, on both streams."""

    def wait(self) -> str:
        """Wait for its end; returns what it has printed."""
        self.process.join(LONGEST_RUN_S)
        printed = self.output.read_text()
        assert self.process.exitcode is not None, f"still runs: {printed}"
        return printed

    def finish(self, status: int = 0) -> str:
        """Wait for its end, which must have this exit status; returns what it has printed."""
        printed = self.wait()
        assert self.process.exitcode == status, printed
        return printed


@contextmanager
def ranks(folder: Path, count: int, work: Callable[..., Any], *arguments: object) -> Iterator[list[Rank]]:
    """``count`` processes that call ``work``, with the environment that torchrun gives; all are ended with the block.

    ``work`` must be importable, as with every process that `multiprocessing` starts anew. Outputs go into ``folder``.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    together = {
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is here: no port that is free now and taken then
        "CUDA_VISIBLE_DEVICES": "",
    }
    started = []
    folder.mkdir(parents=True, exist_ok=True)
    for rank in range(count):
        output = folder / f"rank{rank}.txt"
        places = together | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)}
        process = FORKED.Process(target=_work_as_rank, args=(output, places, work, arguments))
        process.start()
        started.append(Rank(process, output))
    try:
        yield started
    finally:
        for rank in started:
            rank.process.kill()
            rank.process.join(LONGEST_RUN_S)


def run_in_ranks(folder: Path, count: int, work: Callable[..., Any], *arguments: object) -> list[str]:
    """What `ranks` have printed when all have ended well."""
    with ranks(folder, count, work, *arguments) as started:
        return [rank.finish() for rank in started]


@contextmanager
def started(output: Path, module: str, *arguments: object) -> Iterator[Rank]:
    """The command of a module in a process of its own, which is ended with the block; it prints to ``output``."""
    alone = {"CUDA_VISIBLE_DEVICES": ""}
    process = FORKED.Process(target=_work_as_rank, args=(output, alone, run_command, (module, arguments)))
    process.start()
    try:
        yield Rank(process, output)
    finally:
        process.kill()
        process.join(LONGEST_RUN_S)


def run_command(module: str, arguments: Sequence[object]) -> None:
    """What ``python -m module`` does with these arguments."""
    importlib.import_module(module).COMMAND.run([*map(str, arguments)])


def _work_as_rank(
    output: Path, environment: dict[str, str], work: Callable[..., Any], arguments: Sequence[object]
) -> None:
    os.environ.update(environment)
    with output.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    torch.set_num_threads(1)
    work(*arguments)

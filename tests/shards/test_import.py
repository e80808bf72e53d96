"""Importing the package costs nothing; what it names is there when it is asked for."""

import json
import subprocess
import sys

import pytest

import shards
from tests.project import ROOT

PROGRAM = """
import json, sys, time
before, started_s = set(sys.modules), time.process_time()
{code}
taken_s = time.process_time() - started_s
print(json.dumps([taken_s, sorted(set(sys.modules) - before)]))
"""


def run_new(code: str) -> tuple[float, list[str]]:
    """Seconds of a core that ``code`` takes in a new interpreter, and the modules that it imports."""
    command = [sys.executable, "-c", PROGRAM.format(code=code)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)


@pytest.mark.parametrize("module", ["shards", "shards.errors", "shards.checks", "shards.storage.cache_config"])
def test_no_library_is_imported_before_it_is_needed(module):
    runs = [run_new(f"import {module}") for _ in range(3)]
    imported = {name.partition(".")[0] for name in runs[0][1]}
    assert imported - sys.stdlib_module_names == {"shards"}
    assert min(taken_s for taken_s, _ in runs) < 0.1


def test_every_public_name_is_found_in_its_module():
    for name in shards.__all__:
        assert getattr(shards, name).__name__ == name
        assert name in dir(shards)
    assert shards.__all__ == sorted(shards._MODULES)
    with pytest.raises(AttributeError, match="no attribute 'ShardWriter'"):
        shards.ShardWriter  # noqa: B018


def test_a_name_brings_only_what_it_needs():
    _, imported = run_new("from shards import Manifest, CacheConfig, UserError")
    assert not {"av", "PIL", "fsspec", "numpy", "webdataset"} & set(imported)
    _, imported = run_new("from shards import *")
    assert "webdataset" not in imported
    assert "torch" not in imported

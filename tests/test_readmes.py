"""What the READMEs say is there: files, links, commands with options that are accepted."""

import re
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scenebias
from dali_pipelines import ClipConfig
from scenebias.cli import PROGRAMS, command
from scenebias.commands import Command
from scenebias.models.weights import WeightsMetadata, save_weights
from scenebias.run_folder.record import plain
from tests.project import ROOT
from tests.readmes import python_of

PACKAGES = ("shards", "dali_pipelines", "scenebias")
READMES = [
    ROOT / "README.md",
    *sorted(path for folder in (*PACKAGES, "tools", "tests") for path in (ROOT / folder).rglob("README.md")),
]
STUBS = r"""
record() { printf '%s\0' "$@"; printf '\0'; }
for name in python python3 torchrun scenebias pip source; do eval "$name() { record $name \"\$@\"; }"; done
for path in tools/{demo,test,study,slurm,gpu_check}.sh; do eval "function $path { :; }"; done
DATA=/data
mkdir -p data
"""
"""What a README's commands run instead of programs: their words are written out, ended by an empty one."""


def commands_of(readme: Path, folder: Path) -> list[list[str]]:
    """Every program that the shell blocks start, as its words, expanded as bash does."""
    blocks = re.findall(r"^```bash\n(.*?)^```", readme.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    script = STUBS + "\n".join(blocks)
    run = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert "command not found" not in run.stderr, run.stderr
    return [words.split("\0") for words in run.stdout.split("\0\0") if words.strip("\0")]


def program(words: list[str]) -> tuple[Command, list[str]] | None:
    """The program that these words start and its options; None for what is not ours."""
    name, *rest = words
    if name == "scenebias":
        return None if rest[0].startswith("-") else (command(rest[0]), rest[1:])
    if name == "torchrun":
        start = next(place for place, word in enumerate(rest) if word == "-m" or word.endswith(".py"))
        return program(["python", *rest[start:]])
    if name == "python" and rest[0] == "-m" and rest[1].startswith("scenebias"):
        names = {program.module.removesuffix(".command"): name for name, program in PROGRAMS.items()}
        return command(names[rest[1]]), rest[2:]
    if name == "python" and rest[0].startswith("tools/"):
        module = import_module(rest[0].removesuffix(".py").replace("/", "."))
        return module.COMMAND, rest[1:]
    return None


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_accepts_its_options(readme: Path, tmp_path: Path) -> None:
    for words in commands_of(readme, tmp_path):
        found = program(words)
        if found is not None:
            found[0].read(found[1])


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(readme: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", readme.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (readme.parent / target).exists(), target


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_told_by_the_nearest_readme(package: str) -> None:
    for module in (ROOT / package).rglob("*.py"):
        if module.name.startswith("__") or "peers" in module.parts:
            continue
        readme = next(folder / "README.md" for folder in module.parents if (folder / "README.md").exists())
        assert f"{module.name}`" in readme.read_text(encoding="utf-8"), f"{module} is not in {readme}"


@pytest.fixture
def workplace(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where the data and the weights lie that the READMEs speak of."""
    (tmp_path / "data" / "jhmdb").mkdir(parents=True)
    (tmp_path / "data" / "jhmdb" / "train").symlink_to(tiny_dataset)
    (tmp_path / "runs" / "jhmdb-debias").mkdir(parents=True)
    metadata = WeightsMetadata(
        backbone="small3d",
        classes=("clap", "jump", "wave"),
        trained_on=(),
        configuration={"clip": plain(ClipConfig(frames=8, size=32))},
    )
    model = scenebias.create_model("small3d", 3)
    save_weights(tmp_path / "runs" / "jhmdb-debias" / "weights.safetensors", model, metadata)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_readme_s_python_runs(workplace: Path) -> None:
    names: dict[str, Any] = {}
    exec(python_of(ROOT / "README.md"), names)
    assert names["batch"].clip_BCTHW.shape == (12, 3, 16, 112, 112)
    assert names["probabilities"].shape == (3,)
    assert names["probabilities"].sum() == pytest.approx(1)


def test_the_package_s_python_runs(workplace: Path) -> None:
    names: dict[str, Any] = {"frames": np.zeros((30, 40, 60, 3), np.uint8)}
    exec(python_of(ROOT / "scenebias" / "README.md"), names)
    assert names["probabilities"].sum() == pytest.approx(1)
    assert names["network"].action_count == 10


def test_the_first_readme_is_read_in_a_minute() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160

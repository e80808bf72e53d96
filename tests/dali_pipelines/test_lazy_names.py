"""What must hold of `import dali_pipelines`: configurations come without the libraries that decode."""

import subprocess
import sys

import pytest

import dali_pipelines


def imported_by(program: str) -> set[str]:
    """Which of the large libraries a fresh interpreter has loaded after ``program``."""
    program += "\nimport sys\nprint(*{'torch', 'nvidia.dali'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(finished.stdout.split())


@pytest.mark.parametrize(
    "program",
    [
        "import dali_pipelines",
        "from dali_pipelines import ClipConfig\nClipConfig()",
        "from dali_pipelines import ProtocolConfig\nProtocolConfig()",
        "from dali_pipelines import FaultConfig\nFaultConfig()",
        "from dali_pipelines import DecodingConfig\nDecodingConfig()",
        "import dali_pipelines.windows, dali_pipelines.faults",
    ],
)
def test_configurations_need_neither_torch_nor_dali(program):
    assert imported_by(program) == set()


def test_a_loader_does():
    assert imported_by("from dali_pipelines import TrainLoader") == {"torch", "nvidia.dali"}


def test_all_names_are_there_and_listed():
    assert set(dali_pipelines.__all__) <= set(dir(dali_pipelines))
    for name in dali_pipelines.__all__:
        assert getattr(dali_pipelines, name).__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'NoSuchName'"):
        dali_pipelines.NoSuchName  # noqa: B018

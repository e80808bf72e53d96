"""Whatever fills a folder is refused while another process does; training and packing have tests of their own."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scenebias.annotators.sdn_detections import convert_detections
from scenebias.demo.render import RenderConfig, render_world
from scenebias.study.command import StudyConfig
from scenebias.study.command import main as study
from scenebias.study.demo import DemoConfig
from scenebias.study.demo import main as demo
from shards.errors import UserError
from shards.format.index import rebuild_index
from shards.packing.work_folder import WorkFolder
from tests.shards.system.test_locks import holder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize(
    "fill",
    [lambda out: study(StudyConfig(out=out)), lambda out: demo(DemoConfig(out=out))],
    ids=["study", "demo"],
)
def test_a_study_is_worked_in_by_one_process(tmp_path: Path, fill: Callable[[Path], None]) -> None:
    with holder(tmp_path / "out"), pytest.raises(UserError, match=rf"^--out {tmp_path}/out: another process is work"):
        fill(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_a_world_is_rendered_by_one_process_and_its_half_done_work_stays(tmp_path: Path) -> None:
    with holder(tmp_path / "world", folder=False):
        (tmp_path / ".world.partial").mkdir()
        with pytest.raises(UserError, match=rf"^--out {tmp_path}/world: another process is writing it"):
            render_world(RenderConfig(out=tmp_path / "world", workers=1))
        assert (tmp_path / ".world.partial").exists()


def test_detections_are_converted_by_one_process(tmp_path: Path) -> None:
    np.save(tmp_path / "detections.npy", np.array({"run": {"a": {1: {"human_boxes": np.zeros((0, 5))}}}}))
    with holder(tmp_path / "out"), pytest.raises(UserError, match="another process is writing to it"):
        convert_detections(tmp_path / "detections.npy", tmp_path / "out")
    assert convert_detections(tmp_path / "detections.npy", tmp_path / "out") == 1
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["run", "a.json"]


def test_a_data_set_is_written_to_by_one_process(tiny_dataset: Path, tmp_path: Path) -> None:
    """Its indexes are not made anew, nor is it replaced, while another process does either."""
    copied = Path(shutil.copytree(tiny_dataset, tmp_path / "dataset"))
    with holder(copied):
        with pytest.raises(UserError, match="another process is writing to it"):
            rebuild_index(copied)
        with pytest.raises(UserError, match="another process is writing to it"):
            with WorkFolder(copied).prepared("request", overwrite=True):
                pass
        assert content(copied) == content(tiny_dataset)
    rebuild_index(copied)
    assert content(copied) == content(tiny_dataset)
    assert {path.name for path in tmp_path.iterdir()} == {"dataset"}

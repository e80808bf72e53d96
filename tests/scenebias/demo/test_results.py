"""The demo from the rendered world to the report, small."""

import contextlib
import io
import json
from pathlib import Path

import pytest

from dali_pipelines import ClipConfig
from scenebias.annotators import SceneFile, open_mask_source
from scenebias.demo.render import RenderConfig, render_world
from scenebias.demo.results import ARMS, ResultsConfig
from scenebias.demo.results import main as measure
from scenebias.demo.world import SPLITS
from scenebias.models.action_model import ModelConfig
from scenebias.pretrain import PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.training.objective import ObjectiveConfig
from scenebias.training.trainer import ScheduleConfig
from scenebias.transfer.command import TransferConfig
from scenebias.transfer.command import main as transfer
from shards.errors import UserError
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import pack
from shards.packing.request import Annotators
from shards.sources import FolderSource
from tests.scenebias.browser import problems_of_page

CLIP = ClipConfig(frames=8, size=32, scales=(1.0,))


def pack_world(world: Path, shards: Path) -> None:
    for split in SPLITS:
        source = FolderSource(root=world / split / "videos", dataset="demo", subset=split)
        listing = source.listing()
        pack(
            listing,
            shards / split,
            PackConfig(height=32, workers=1),
            annotators=Annotators(
                mask_source=open_mask_source(world / split / "masks", listing.clips),
                scene_source=SceneFile(world / split / "scene_probs.npz"),
            ),
        )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    counts = {"clips_train": 16, "clips_test": 8, "clips_target_train": 8, "clips_target_test": 4}
    render_world(RenderConfig(out=out / "world", height=32, width=44, frames=8, workers=1, **counts))
    pack_world(out / "world", out / "shards")
    for arm in ARMS:
        pretrain(
            PretrainConfig(
                train=out / "shards" / "train",
                val=out / "shards" / "test",
                out=out / f"pretrain-{arm}",
                clip=CLIP,
                model=ModelConfig(backbone="small3d"),
                objective=ObjectiveConfig(name=arm),
                schedule=ScheduleConfig(epochs=1, batch_size=8),
            )
        )
    transfer(
        TransferConfig(
            weights=tuple(out / f"pretrain-{arm}" / "weights.safetensors" for arm in ARMS),
            scratch=True,
            train=(str(out / "shards" / "target-train"),),
            val=(str(out / "shards" / "target-test"),),
            out=out / "transfer",
            clip=CLIP,
            schedule=ScheduleConfig(epochs=1, batch_size=8),
        )
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        measure(ResultsConfig(out))
    (out / "printed.txt").write_text(printed.getvalue())
    return out


def test_every_measure_has_a_value_for_both_models_and_a_place_in_the_table(demo: Path) -> None:
    printed = (demo / "printed.txt").read_text()
    results = json.loads((demo / "results.json").read_text())
    names = [row["name"] for row in results["measures"]]
    assert len(names) == len(set(names)) == 10
    for row in results["measures"]:
        assert all(isinstance(row[arm], float) for arm in ARMS), row
        assert row["name"] in printed
        if row["unit"] == "%":
            assert all(0 <= row[arm] <= 100 for arm in ARMS), row
    transfer_row = next(row for row in results["measures"] if row["name"] == "new actions, after transfer")
    assert set(transfer_row) == {"name", "unit", "baseline", "debias", "scratch"}


def test_the_report_shows_table_curves_and_frames(demo: Path) -> None:
    page = (demo / "report.html").read_text()
    assert page.count("data:image/") == 4 + 1
    assert "swapped scenes: accuracy" in page


def test_the_report_is_shown_whole_in_a_browser(demo: Path) -> None:
    assert problems_of_page(demo / "report.html") == []


def test_measuring_before_training_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="shards/train is not a packed data set"):
        measure(ResultsConfig(tmp_path))

"""What must hold of dali_pipelines/README.md."""

import re
import shutil

import torch

from dali_pipelines import TrainLoader
from shards.dataset import ShardDataset
from tests.project import ROOT

FOLDER = ROOT / "dali_pipelines"
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_its_python_runs_and_goes_on_where_it_was_saved(make_dataset, make_sample, tmp_path, monkeypatch):
    dataset = make_dataset([make_sample(seed, frame_count=5, size=(16, 16), scene=False) for seed in range(70)])
    shutil.copytree(dataset.directory, tmp_path / "data/jhmdb/train")
    monkeypatch.chdir(tmp_path)
    received, names = [], {}

    class Recording(TrainLoader):
        def __iter__(self):
            for batch in super().__iter__():
                received.append(batch.sample_B)
                yield batch

    monkeypatch.setattr("dali_pipelines.TrainLoader", Recording)
    for block in re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE):
        exec(compile(block, "README.md", "exec"), names)
    assert names["clip_BCTHW"].shape[1:] == (3, 16, 112, 112)
    loader = TrainLoader(ShardDataset.open(dataset.directory), global_batch_size=32)
    expected = [batch.sample_B for batch in loader.epochs(0, 3)]
    assert torch.equal(torch.cat(received), torch.cat(expected))


def test_it_names_every_file_and_none_that_is_not_there():
    listed = re.findall(r"^\| `(\w+\.py)` \|", README, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in FOLDER.glob("*.py") if path.name != "__init__.py")

"""SCUBA and HAT's swaps of real people: clips of JHMDB with its own masks.

Shape suffixes: B clips, T frames, H rows, W columns, C channels.
"""

import pickle
from pathlib import Path

import pytest
import torch

from dali_pipelines import ClipConfig
from scenebias.bias.benchmarks import scuba_views
from scenebias.bias.measuring import BiasTest
from scenebias.clips.background import fill_in_background
from scenebias.clips.human_placing import centroids, place_humans
from scenebias.clips.scene_swap import still
from scenebias.data.make_shards import COMMAND
from scenebias.distributed.process_place import ProcessPlace
from shards.dataset import ShardDataset
from tests.commands import run_here

CLASSES, CLIPS = ("golf", "pour", "wave"), 3


@pytest.fixture(scope="module")
def jhmdb(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine clips of three classes, packed with their masks and scenes."""
    folder = tmp_path_factory.mktemp("jhmdb")
    for class_name in CLASSES:
        (folder / "videos" / class_name).mkdir(parents=True)
        for path in sorted((real_data / "jhmdb" / "videos" / class_name).iterdir())[:CLIPS]:
            (folder / "videos" / class_name / path.name).symlink_to(path)
    given = ["--root", folder / "videos", "--out", folder / "shards", "--masks", real_data / "jhmdb" / "masks"]
    result = run_here(
        COMMAND, "folder", *given, "--scenes", real_data / "jhmdb" / "scene_probs.npz", "--workers", 1, "--height", 128
    )
    assert result.returncode == 0, result.stderr
    return folder / "shards"


def test_real_people_go_before_stripes_and_to_where_the_other_one_stood(jhmdb: Path, tmp_path: Path) -> None:
    data = ShardDataset.open(jhmdb)
    names = [data.info(sample).name for sample in range(len(data))]
    pairs = {human: [background, 40, 0] for human, background in zip(names, names[3:] + names[:3], strict=True)}
    (tmp_path / "pairs.pickle").write_bytes(pickle.dumps(pairs | {"golf/elsewhere": ["pour/elsewhere", 40, 0]}))
    clip = ClipConfig(frames=8, stride=2, size=96)
    place = ProcessPlace(0, 1, torch.device("cpu"))
    test = BiasTest.prepare(
        clip, data, data, place, batch_size=4, threads=1, hat_pairs=tmp_path / "pairs.pickle", seed=3
    )
    assert test.hat_listed == len(names) + 1
    assert len(test.hat_swaps.sample_M) >= len(names) - 1  # of people that are seen in most frames

    scuba, scufo = scuba_views(test.backdrop, test.seed).values()
    for batch in test.loader(data, test.masked.number_W):
        shown_BTHWC, mask_BTHW = scuba(batch), batch.mask_BTHW
        assert mask_BTHW is not None
        assert torch.equal(shown_BTHWC[mask_BTHW], batch.clip_BTHWC[mask_BTHW])
        nobody_BTHWC = shown_BTHWC.masked_fill(mask_BTHW[..., None], 0)
        both_free_BTHW = ~(mask_BTHW | mask_BTHW[:, :1])
        assert torch.equal(nobody_BTHWC[both_free_BTHW], nobody_BTHWC[:, :1].expand_as(nobody_BTHWC)[both_free_BTHW])
        assert torch.equal(still(scufo(batch)), scufo(batch))

    swaps = test.hat_swaps
    parts = (test.loader(data, number_K) for number_K in (swaps.human_window_K, swaps.background_window_K))
    for swapped, human, background in zip(test.swapped(swaps, place_humans), *parts, strict=True):
        assert swapped.mask_BTHW is not None
        assert background.mask_BTHW is not None
        placed_B2, wanted_B2 = centroids(swapped.mask_BTHW[:, 0]), centroids(background.mask_BTHW[:, 0])
        whole_B = swapped.mask_BTHW[:, 0].sum(dim=(1, 2)) == human.mask_BTHW[:, 0].sum(dim=(1, 2))
        assert ((placed_B2 - wanted_B2).abs()[whole_B] < 1).all()
        filled_BTHWC = fill_in_background(background.clip_BTHWC, background.mask_BTHW)
        assert torch.equal(swapped.clip_BTHWC[~swapped.mask_BTHW], filled_BTHWC[~swapped.mask_BTHW])

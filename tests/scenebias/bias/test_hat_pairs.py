import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scenebias.bias.hat_pairs import find_pairs, read_pair_list
from shards.dataset import ShardDataset
from shards.errors import UserError
from tests.scenebias.conftest import ACTIONS, plain_sample
from tools.trials.ready_samples import write_samples

NAMES = [f"{ACTIONS[number % 3]}/clip{100 + number:03d}" for number in range(21)]
"""Of the clips of `plain_test`."""


def write_list(path: Path, pairs: dict[str, str]) -> Path:
    path.write_bytes(pickle.dumps({human: [background, 300, 4] for human, background in pairs.items()}))
    return path


@pytest.mark.parametrize(("name", "pairs"), [("actionswap_same_1", 5631), ("actionswap_rand_2", 7860)])
def test_hat_s_own_lists_are_read(real_data: Path, name: str, pairs: int) -> None:
    path = real_data / "labels" / "hat" / f"{name}.pickle"
    found = read_pair_list(path)
    assert len(found) == pairs
    same_action = [human.split("/")[0] == background.split("/")[0] for human, background in found.items()]
    assert all(same_action) if "same" in name else not any(same_action)
    with path.open("rb") as file:  # of this project's own data, which the test trusts
        assert found == {human: value[0] for human, value in pickle.load(file).items()}


def test_pairs_are_found_by_name_where_both_clips_are_usable(plain_test: Path, tmp_path: Path) -> None:
    pairs = {NAMES[0]: NAMES[4], NAMES[1]: NAMES[1], NAMES[2]: "red/elsewhere", NAMES[3]: NAMES[5], NAMES[6]: NAMES[7]}
    usable_N = ~np.isin(np.arange(21), [5, 6])
    found = find_pairs(write_list(tmp_path / "a.pickle", pairs), ShardDataset.open(plain_test), usable_N)
    wanted_N = np.full(21, -1)
    wanted_N[[0, 1]] = [4, 1]
    assert found.background_N.tolist() == wanted_N.tolist()
    assert found.listed == 5


def test_clips_called_by_the_id_of_their_video_are_found(tmp_path: Path) -> None:
    ids = ["abseilingAB", "cdefghijk_-"]
    samples = [plain_sample(number, number, number, masks=True) for number in range(2)]
    samples = [
        replace(sample, info=replace(sample.info, name=f"blue/{one}", class_name="blue"))
        for sample, one in zip(samples, ids, strict=True)
    ]
    write_samples(tmp_path / "data", samples, ACTIONS, dataset="kinetics", subset="val", quality=95)
    pairs = {f"blue/{ids[0]}_000000_000010": f"blue/{ids[1]}_000003_000013"}
    found = find_pairs(
        write_list(tmp_path / "a.pickle", pairs), ShardDataset.open(tmp_path / "data"), np.ones(2, dtype=bool)
    )
    assert found.background_N.tolist() == [1, -1]


def test_a_list_of_other_clips_and_one_without_masks_are_refused(plain_test: Path, tmp_path: Path) -> None:
    data = ShardDataset.open(plain_test)
    path = write_list(tmp_path / "a.pickle", {"blue/x": "red/y", NAMES[0]: NAMES[1]})
    with pytest.raises(UserError, match=r"a\.pickle: of none of its 2 pairs .*\(of 1 both are in it\)"):
        find_pairs(path, data, np.zeros(21, dtype=bool))


@pytest.mark.parametrize("content", [{}, [1], {"a": "b"}, {"a": []}, {"a": [1, 2, 3]}, {1: ["b"]}])
def test_anything_but_pairs_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "a.pickle"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"a\.pickle: no pairs of clips"):
        read_pair_list(path)

"""What must hold of several data sets that are taken as one."""

from pathlib import Path

import numpy as np
import pytest

from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.joined_dataset import JoinedDataset
from tools.trials.ready_samples import sample_from_frames, write_samples

NO_FRAMES = np.zeros((2, 16, 16, 3), np.uint8)


def packed(folder: Path, classes: tuple[str, ...], clips: int, **options: str) -> ShardDataset:
    """``clips`` clips of the classes in turn."""
    samples = [
        sample_from_frames(NO_FRAMES, name=f"{classes[n % len(classes)]}/clip{n}", label=n % len(classes))
        for n in range(clips)
    ]
    write_samples(folder, samples, classes, samples_per_shard=2, **options)
    return ShardDataset.open(folder)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[ShardDataset, ShardDataset]:
    return (
        packed(tmp_path / "a", ("run", "swim"), 5, dataset="one"),
        packed(tmp_path / "b", ("dance", "run", "box"), 4, dataset="other"),
    )


def test_classes_of_one_name_are_one_class_and_new_ones_follow(pair):
    joined = JoinedDataset.of(pair)
    assert joined.classes == ("run", "swim", "dance", "box")
    assert len(joined) == 9
    for i, label in enumerate(joined.labels.tolist()):
        assert joined.info(i).class_name == joined.classes[label]


def test_clips_are_numbered_through_and_say_where_they_lie(pair):
    joined = JoinedDataset.of(pair)
    assert joined.starts.tolist() == [0, 5, 9]
    assert joined.describe(4) == pair[0].describe(4)
    assert joined.describe(5) == pair[1].describe(0)
    assert [joined.place_of(i) for i in (0, 4, 5, 8)] == [(0, 0), (0, 4), (1, 0), (1, 3)]


def test_a_single_data_set_keeps_its_classes_labels_and_numbers(pair):
    joined = JoinedDataset.of(pair[1:])
    assert joined.classes == pair[1].classes
    assert np.array_equal(joined.labels, pair[1].labels)
    assert joined.describe(3) == pair[1].describe(3)


def test_names_tell_the_sets_apart_as_briefly_as_possible(pair, tmp_path):
    assert JoinedDataset.of(pair).names == ("one", "other")
    split = packed(tmp_path / "c", ("run",), 1, dataset="one", split="2", subset="test")
    assert JoinedDataset.of((pair[0], split)).names == ("one-1-train", "one-2-test")
    same = packed(tmp_path / "d", ("run",), 1, dataset="one")
    assert JoinedDataset.of((pair[0], same)).names == (str(tmp_path / "a"), str(tmp_path / "d"))


def test_classes_that_are_not_to_be_recognised_are_refused_by_name(pair):
    assert JoinedDataset(pair[:1], ("swim", "box", "run")).labels.tolist() == [2, 0, 2, 0, 2]
    with pytest.raises(UserError, match=r"b has classes that are not among the 2 to be recognised \(dance, box\)"):
        JoinedDataset(pair[1:], pair[0].classes)
    with pytest.raises(ValueError, match="datasets must name at least one"):
        JoinedDataset.of([])


def test_classes_that_are_kept_apart_are_called_by_their_set(pair):
    apart = JoinedDataset.apart(pair)
    assert apart.classes == ("one/run", "one/swim", "other/dance", "other/run", "other/box")
    assert apart.head_A.tolist() == [0, 0, 1, 1, 1]
    for i, label in enumerate(apart.labels.tolist()):
        assert apart.info(i).class_name == apart.classes[label].partition("/")[2]
        assert apart.head_A[label] == apart.place_of(i)[0]
    fewer = JoinedDataset((pair[0], pair[0]), apart.classes, (apart.head_classes[0],) * 2)
    assert fewer.labels_of(1, pair[0].labels).tolist() == [2, 3, 2, 3, 2]
    with pytest.raises(UserError, match=r"a has classes that are not among the 3 to be recognised \(swim\)"):
        JoinedDataset((pair[0], pair[0]), apart.classes, apart.head_classes)
    with pytest.raises(ValueError, match="head_classes must be of 1 data sets, got 2"):
        JoinedDataset(pair[:1], apart.classes, apart.head_classes)

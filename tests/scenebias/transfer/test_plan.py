"""Which runs a transfer command consists of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scenebias.data.datasets import RemoteConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.weights import TrainedOn, WeightsMetadata, save_weights
from scenebias.transfer.plan import SCRATCH, Pair, as_name, check_unseen, find_pairs, find_starts
from shards.dataset import ShardDataset
from shards.errors import UserError
from tools.trials.ready_samples import write_samples

SEEN = TrainedOn("pretraining", "1", "train", "0" * 64)


def write_weights(path: Path, configuration: dict[str, Any], *seen: TrainedOn, bias: float = 0.0) -> Path:
    """Weights of a small network that say to come from a run of this configuration."""
    model = ActionModel(ModelConfig(backbone="small3d"), 3)
    model.head[1].bias.data.fill_(bias)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = WeightsMetadata(
        backbone="small3d", classes=("clap", "jump", "wave"), trained_on=seen or (SEEN,), configuration=configuration
    )
    save_weights(path, model, metadata)
    return path


def pretrained(folder: Path, objective: str, seed: int, **more: Any) -> Path:
    configuration = {
        "objective": {"objective": objective, "alpha_mask": more.pop("alpha_mask", 0.5)},
        "schedule": {"seed": seed, "epochs": 10},
        "out": str(folder),
        **more,
    }
    return write_weights(folder / f"{objective}{seed}{more}" / "weights.safetensors", configuration)


def rows_of(weights: list[Path], *, scratch: bool = False) -> list[tuple[str, int, Path | None]]:
    return [(start.row, start.number, start.weights) for start in find_starts(weights, scratch=scratch)]


def test_weights_that_differ_in_their_seed_alone_are_one_row_in_the_order_of_the_seeds(tmp_path: Path) -> None:
    debias, later, earlier = (
        pretrained(tmp_path, *which) for which in (("debias", 0), ("baseline", 7), ("baseline", 3))
    )
    assert rows_of([debias, later, earlier]) == [
        ("debias", 0, debias),
        ("baseline", 0, earlier),
        ("baseline", 1, later),
    ]


def test_where_each_run_lay_or_read_its_data_makes_no_row_of_its_own(tmp_path: Path) -> None:
    weights = [pretrained(tmp_path, "debias", seed, train=f"/disk{seed}/train", loader_threads=seed) for seed in (0, 1)]
    assert {row for row, _, _ in rows_of(weights)} == {"debias"}


def test_settings_of_one_objective_are_rows_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    weights = [
        pretrained(tmp_path / str(alpha), "debias", seed, alpha_mask=alpha) for alpha in (0.5, 1.0) for seed in (0, 1)
    ]
    assert [row for row, _, _ in rows_of([*weights, pretrained(tmp_path, "baseline", 0)])] == [
        *["debias (alpha_mask 0.5)"] * 2,
        *["debias (alpha_mask 1.0)"] * 2,
        "baseline",
    ]


def test_weights_of_other_pretraining_data_are_another_row(tmp_path: Path) -> None:
    configuration = {"objective": {"objective": "baseline"}, "schedule": {"seed": 0}}
    one = write_weights(tmp_path / "a" / "weights.safetensors", configuration, SEEN)
    other = write_weights(
        tmp_path / "b" / "weights.safetensors", configuration, TrainedOn("kinetics", "1", "train", "1" * 64)
    )
    assert [row for row, _, _ in rows_of([one, other])] == [
        "baseline (trained_on pretraining 1 train)",
        "baseline (trained_on kinetics 1 train)",
    ]


def test_weights_without_an_objective_are_named_by_their_file_or_folder(tmp_path: Path) -> None:
    weights = [write_weights(tmp_path / name, {}) for name in ("released.safetensors", "own/weights.safetensors")]
    assert [row for row, _, _ in rows_of(weights)] == ["released", "own"]


@pytest.mark.parametrize(("seeds", "count"), [((), 1), ((0,), 1), ((0, 1, 2), 3)])
def test_random_starts_are_as_many_as_the_longest_row_and_of_the_same_network(
    tmp_path: Path, seeds: tuple[int, ...], count: int
) -> None:
    weights = [pretrained(tmp_path, "baseline", seed) for seed in seeds]
    starts = find_starts(weights, scratch=True)[:count]
    assert [(start.row, start.number, start.weights) for start in starts] == [(SCRATCH, n, None) for n in range(count)]
    assert {start.backbone for start in starts} == {"small3d" if seeds else None}
    assert len(find_starts(weights, scratch=True)) == count + len(seeds)


def test_a_start_keeps_its_folder_whatever_else_is_asked_for(tmp_path: Path) -> None:
    weights = [pretrained(tmp_path / str(alpha), "debias", 1, alpha_mask=alpha) for alpha in (0.5, 1.0)]
    (alone,) = find_starts(weights[1:], scratch=False)
    together = find_starts(weights, scratch=True)
    assert alone.name in [start.name for start in together]
    assert alone.name.startswith("debias-seed1-")
    assert len({start.name for start in together}) == len(together)


def test_weights_that_come_twice_or_are_none_are_refused(tmp_path: Path) -> None:
    weights = pretrained(tmp_path, "baseline", 0)
    with pytest.raises(UserError, match="come twice"):
        find_starts([weights, weights], scratch=False)
    with pytest.raises(UserError, match="no such weight file"):
        find_starts([tmp_path / "none.safetensors"], scratch=False)


@pytest.fixture
def pack(tmp_path: Path, synthetic_sample: Callable) -> Callable[..., str]:
    """Packs a small data set and tells where."""

    def make(dataset: str, split: str, subset: str, classes: tuple[str, ...] = ("clap", "jump", "wave")) -> str:
        folder = tmp_path / "-".join((dataset, split, subset, *classes))
        first = len(list(tmp_path.iterdir())) * 3
        samples = map(synthetic_sample, range(first, first + 3))
        write_samples(folder, samples, classes, dataset=dataset, split=split, subset=subset)
        return str(folder)

    return make


def pairs_of(train: list[str], val: list[str]) -> list[Pair]:
    return find_pairs(train, val, RemoteConfig())


def test_pairs_go_together_by_their_position_and_are_named_by_data_set_and_split(pack: Callable[..., str]) -> None:
    names = [("hmdb51", "1"), ("hmdb51", "2"), ("my set", "1")]
    train = [pack(dataset, split, "train") for dataset, split in names]
    val = [pack(dataset, split, "test") for dataset, split in names]
    pairs = pairs_of(train, val)
    assert [(pair.train, pair.val) for pair in pairs] == list(zip(train, val, strict=True))
    assert [(pair.target, pair.split) for pair in pairs] == [("hmdb51", "1"), ("hmdb51", "2"), ("my set", "1")]
    assert [pair.name for pair in pairs] == ["hmdb51-1", "hmdb51-2", "my-set-1"]


@pytest.mark.parametrize(("parts", "name"), [(("..", ""), ""), (("../a", "1"), "-a-1"), ((".x", "/b"), "x--b")])
def test_names_of_data_sets_lead_to_no_other_folder(parts: tuple[str, str], name: str) -> None:
    assert as_name(*parts) == name


def test_pairs_that_do_not_fit_are_refused_by_name(pack: Callable[..., str]) -> None:
    train, val = pack("hmdb51", "1", "train"), pack("hmdb51", "1", "test")
    with pytest.raises(UserError, match="--train names 1 data sets and --val 2"):
        pairs_of([train], [val, val])
    with pytest.raises(UserError, match="--train names 0 data sets"):
        pairs_of([], [])
    with pytest.raises(UserError, match="both of hmdb51, split 1"):
        pairs_of([train, train], [val, val])
    more = ("clap", "jump", "wave", "sit")
    with pytest.raises(UserError, match=r"both are of hmdb51: it adds sit"):
        pairs_of([train, pack("hmdb51", "2", "train", more)], [val, pack("hmdb51", "2", "test", more)])


def test_a_start_that_has_seen_any_test_set_is_refused_unless_forced(tmp_path: Path, pack: Callable[..., str]) -> None:
    pairs = pairs_of(
        [pack("hmdb51", "1", "train"), pack("ucf101", "1", "train")],
        [pack(d, "1", "test") for d in ("hmdb51", "ucf101")],
    )
    manifest = ShardDataset.open(pairs[1].val).manifest
    seen = TrainedOn(manifest.dataset, manifest.split, manifest.subset, manifest.digest)
    starts = find_starts([write_weights(tmp_path / "w.safetensors", {}, seen)], scratch=True)
    with pytest.raises(UserError, match="trained on these very shards"):
        check_unseen(starts, pairs, force=False)
    check_unseen(starts, pairs, force=True)
    check_unseen(starts, pairs[:1], force=False)

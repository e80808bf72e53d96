"""Real clips whose scene and action are tied in training: how they are divided, and the jobs on a tiny set of them."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dali_pipelines import ClipConfig
from scenebias.bias.model_bias import HUMAN_ONLY
from scenebias.models.weights import read_metadata
from scenebias.study.arms import BEST, Weights, arm_named
from scenebias.study.data.jhmdb import JhmdbConfig, source_video
from scenebias.study.data.tied_scenes import TIED_SUBSETS, PackTied, scene_scores, tie
from scenebias.study.measured import AT_CLEAN_BN, CONFLICTING, COSTS, TIED_MEASURES, USUAL, Measured
from scenebias.study.measuring_jobs import MeasureModel, measures_of
from scenebias.study.plan import TIED_WORLD, Run
from scenebias.study.training_jobs import PretrainJob
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.focus import Focus
from shards.format.sample import SCENE_COUNT
from tests.shards.conftest import write_test_video

SCORES = st.floats(-1, 1).filter(lambda score: abs(score) > 1e-6)
CLIPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("uvwxyz"), SCORES), min_size=1, max_size=30)


@given(CLIPS)
def test_training_ties_scene_and_class_and_shares_no_video_with_the_tests(clips: list[tuple[str, str, float]]) -> None:
    classes, sources, scores = zip(*clips, strict=True)
    tied = tie(classes, sources, np.array(scores))
    of_subset = defaultdict(set)
    for subset, source in zip(tied.subset_N, sources, strict=True):
        of_subset[subset].add(source)
    assert not of_subset["train"] & (of_subset["usual"] | of_subset["conflicting"])
    assert of_subset["usual"] <= of_subset["conflicting"]
    for class_name, subset, score in zip(classes, tied.subset_N, scores, strict=True):
        assert (subset == "conflicting") == ((score > 0) != tied.side[class_name])


@given(CLIPS)
def test_which_kind_of_scene_is_called_positive_changes_nothing(clips: list[tuple[str, str, float]]) -> None:
    classes, sources, scores = zip(*clips, strict=True)
    one, other = (tie(classes, sources, sign * np.array(scores)) for sign in (1, -1))
    undecided = {name for name in classes if one.side[name] == other.side[name]}
    if not undecided:  # a class whose clips are in both kinds alike has no usual one
        assert one.subset_N == other.subset_N


@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 20))
def test_two_kinds_of_scenes_are_told_apart(seed: int, ones: int, others: int) -> None:
    random = np.random.default_rng(seed)
    kind_N = random.permutation([True] * ones + [False] * others)
    weights_NS = random.random((len(kind_N), 12)) * 0.02
    for number, kind in enumerate(kind_N):
        weights_NS[number, random.integers(3) + 6 * kind] += 0.3
        weights_NS[number, 4 + 6 * kind] += 1
    score_N = scene_scores(weights_NS / weights_NS.sum(axis=1, keepdims=True))
    order = np.argsort(score_N)
    sorted_kinds = kind_N[order]
    assert np.count_nonzero(np.diff(sorted_kinds.astype(int))) == 1
    assert score_N.mean() == pytest.approx(0, abs=1e-9)


def config_of(folder: Path, splits: Path, scenes: str) -> JhmdbConfig:
    return JhmdbConfig(
        jhmdb_videos=folder / "videos", jhmdb_masks=folder / "masks", jhmdb_scenes=folder / scenes, hmdb51_splits=splits
    )


def divided(pack: PackTied) -> dict[str, list[str]]:
    """The names of the clips of each subset."""
    assert pack.source.jhmdb_videos
    assert pack.source.hmdb51_splits
    found = pack.divide(pack.source.jhmdb_videos, pack.source.hmdb51_splits)
    return {subset: [clip.name for clip in clips] for subset, clips in found.items()}


def test_jhmdb_can_be_tied_with_more_than_a_hundred_clips_that_conflict(real_data: Path, tmp_path: Path) -> None:
    config = config_of(real_data / "jhmdb", real_data / "labels" / "hmdb51", "scene_probs.npz")
    with np.load(real_data / "jhmdb" / "scene_probs.npz") as file:
        scenes = dict(zip(file["clips"].tolist(), file["probs"].astype(np.float64), strict=True))
    table = (real_data / "labels" / "places365" / "IO_places365.txt").read_text().split()
    outdoors_S = np.array(table[1::2]) == "2"
    clips = divided(PackTied(tmp_path, config))
    assert {name: len(found) for name, found in clips.items()} == {"train": 551, "usual": 147, "conflicting": 230}
    # By an independent table of what is outdoors, the conflicting clips are where their classes are not trained.
    for classes, outdoors in ((("golf/", "catch/", "shoot_bow/"), True), (("pour/", "sit/", "brush_hair/"), False)):
        share = {
            subset: np.mean([scenes[clip][outdoors_S].sum() > 0.5 for clip in found if clip.startswith(classes)])
            for subset, found in clips.items()
        }
        assert (share["train"] > 0.8, share["conflicting"] > 0.5) == (outdoors, not outdoors)
        assert (share["train"] < 0.2, share["conflicting"] < 0.5) == (not outdoors, outdoors)


TINY = ClipConfig(frames=4, stride=2, size=32)
PEOPLE = {"clap": (255, 0, 0), "golf": (0, 0, 255)}
KINDS = {"dark": (40, 3), "bright": (220, 200)}
"""The brightness and the scene category of each kind of scene."""
PLACES = {"clap": "dark", "golf": "bright"}


def write_tiny_jhmdb(folder: Path, per_class: int = 6) -> JhmdbConfig:
    """Two classes, before a dark wall and a bright one; the last clip of each before the other, of a video of two."""
    (folder / "splits").mkdir(parents=True)
    scenes = {}
    for class_name, colour in PEOPLE.items():
        for number in range(per_class):
            away = number == per_class - 1
            source = number if number < per_class - 2 else "mixed"
            name = f"{class_name}/{source}_{class_name}_f_cm_np1_fr_med_{number}"
            other = next(kind for kind in KINDS if kind != PLACES[class_name])
            level, category = KINDS[other if away else PLACES[class_name]]
            frames, masks = np.full((12, 96, 128, 3), level, np.uint8), np.zeros((12, 96, 128), np.uint8)
            for frame in range(12):
                masks[frame, 30:70, 30 + 3 * frame + number : 46 + 3 * frame + number] = 1
            frames[masks == 1] = colour
            write_test_video(folder / "videos" / f"{name}.mp4", frames)
            (folder / "masks" / class_name).mkdir(parents=True, exist_ok=True)
            np.savez(folder / "masks" / f"{name}.npz", masks=masks)
            scene = np.full(SCENE_COUNT, 0.1 / SCENE_COUNT)
            scene[category] += 0.9
            scenes[name] = scene
    np.savez(folder / "scenes.npz", clips=np.array(list(scenes)), probs=np.stack(list(scenes.values())))
    return config_of(folder, folder / "splits", "scenes.npz")


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> PackTied:
    """The tiny JHMDB, packed."""
    pack = PackTied(tmp_path_factory.mktemp("tied"), write_tiny_jhmdb(tmp_path_factory.mktemp("jhmdb")))
    assert not pack.is_done
    pack.run()
    return pack


def test_squares_around_people_are_packed_in_three_subsets(tied: PackTied) -> None:
    assert tied.is_done
    datasets = {subset: ShardDataset.open(tied.shards(subset)) for subset in TIED_SUBSETS}
    assert {subset: len(data) for subset, data in datasets.items()} == {"train": 8, "usual": 2, "conflicting": 2}
    for data in datasets.values():
        assert data.manifest.classes == tuple(PEOPLE)
        assert data.manifest.focus == Focus("person", 1.3)
        assert data.has_masks
    held_out = {source_video(datasets[subset].info(i).name) for subset in ("usual", "conflicting") for i in range(2)}
    assert held_out == {"mixed"}


def test_a_model_of_tied_scenes_gets_every_measure(tied: PackTied, tmp_path: Path) -> None:
    training = PretrainJob(
        folder=tmp_path / "model",
        train=tied.shards("train"),
        val=tied.shards("usual"),
        epochs=1,
        clip=TINY,
        seed=0,
        method=arm_named(BEST).method(Weights()),
    )
    training.folder.mkdir()
    training.run()
    assert read_metadata(training.weights).focus == Focus("person", 1.3)
    run = Run(world=TIED_WORLD, arm=BEST, seed=0, pretraining=training, tied=tied)
    job = MeasureModel(run)
    assert not job.is_done
    job.run()
    measured = Measured.read(measures_of(run))
    both = [name + suffix for name in TIED_MEASURES for suffix in ("", AT_CLEAN_BN)]
    assert set(measured.values) == {*both, *COSTS}
    for suffix in ("", AT_CLEAN_BN):
        # There are two classes, one a side: what is not right is of the scene's side.
        assert measured.values[f"conflicting_side{suffix}"] == 1 - measured.values[CONFLICTING + suffix]
        for name, clips in ((USUAL, 2), (CONFLICTING, 2), (f"{HUMAN_ONLY}_top1", 4)):
            assert measured.source_videos[name + suffix] == ["mixed"] * clips
            assert len(measured.correct(name + suffix)) == clips
            assert measured.correct(name + suffix).mean() == measured.values[name + suffix]


def test_scenes_that_cannot_be_tied_are_refused(tmp_path: Path) -> None:
    config = write_tiny_jhmdb(tmp_path / "jhmdb", per_class=1)
    with pytest.raises(UserError, match="cannot be tied"):
        divided(PackTied(tmp_path, config))

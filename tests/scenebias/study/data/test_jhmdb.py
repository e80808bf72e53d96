"""JHMDB in the study: which videos its clips are from, and how its splits are packed."""

from collections import Counter
from pathlib import Path

import pytest

from scenebias.study.data.jhmdb import PARTS, JhmdbConfig, PackJhmdb, source_video
from shards.sources.files.video_files import read_video_tree
from shards.sources.jhmdb import CLASSES


@pytest.mark.parametrize(
    ("clip", "source"),
    [
        ("run/AmericanGangster_run_f_cm_np1_le_med_18", "AmericanGangster"),
        ("brush_hair/Brushing_hair__the_right_way_brush_hair_u_nm_np1_fr_goo_0", "Brushing_hair__the_right_way"),
        ("run/Run_Lola_run_run_f_nm_np2_ri_bad_3", "Run_Lola_run"),
        ("golf/Swing@2_golf_f_cm_np1_fr_bad_0", "Swing@2"),
    ],
)
def test_a_clip_is_from_the_video_that_its_name_begins_with(clip: str, source: str) -> None:
    assert source_video(clip) == source


@pytest.mark.parametrize("clip", ["run/clip3", "run/A_walk_f_cm_np1_le_med_1", "walk/_walk_f_cm_np1_le_med_1"])
def test_a_clip_of_another_name_is_a_video_of_its_own(clip: str) -> None:
    assert source_video(clip) == clip


def test_every_clip_of_jhmdb_names_its_video(real_data: Path) -> None:
    clips = list(read_video_tree(real_data / "jhmdb" / "videos", "videos").clips(CLASSES))
    sources = [source_video(clip.name) for clip in clips]
    assert len(sources) == 928
    assert not any("/" in source for source in sources)
    assert len(set(sources)) == 336


def test_a_split_of_jhmdb_is_divided_by_classes_and_by_hmdb51(real_data: Path) -> None:
    config = JhmdbConfig(
        jhmdb_videos=real_data / "jhmdb" / "videos",
        jhmdb_masks=real_data / "jhmdb" / "masks",
        jhmdb_scenes=real_data / "jhmdb" / "scene_probs.npz",
        hmdb51_splits=real_data / "labels" / "hmdb51",
    )
    assert config.jhmdb_videos
    assert config.hmdb51_splits
    counts: Counter[str] = Counter()
    for part, classes in PARTS.items():
        divided = PackJhmdb(Path("out"), config, part, 1).divide(config.jhmdb_videos, config.hmdb51_splits)
        for subset, clips in divided.items():
            assert {clip.class_name for clip in clips} == set(classes)
            counts[subset] += len(clips)
    assert counts == {"train": 671, "test": 257}

"""Kinetics-400 and Mini-Kinetics-200: clips found by YouTube id and time."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import UserError
from shards.sources import Kinetics400Source, MiniKinetics200Source
from shards.sources.kinetics.annotations import KineticsClip
from tests.shards.sources.files import names, touch

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
CSV = HEADER + (
    "air drumming,-abcdefghij,1,11,train,0\n"
    '"passing, American football",_bcdefghijk,190,200,train,1\n'
    "abseiling,cdefghijkl_,7,17,validate,0\n"
)


@pytest.fixture
def kinetics(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "train.csv").write_text(CSV)
    return tmp_path


def listing(kinetics, *files, **options):
    paths = tuple(kinetics / name for name in files or ["train.csv"])
    return Kinetics400Source(root=kinetics / "videos", annotations=paths, **options).listing()


@pytest.mark.parametrize(
    "path",
    [
        "air drumming/-abcdefghij_000001_000011.mp4",
        "air_drumming/-abcdefghij_000001_000011.webm",
        "train/-abcdefghij_000001_000011.mkv",
        "air drumming/-abcdefghij.mp4",
        "-abcdefghij.avi",
        "train/air drumming/-abcdefghij_1_11.mp4",
    ],
)
def test_a_clip_is_found_as_the_common_downloaders_write_it(kinetics, path):
    touch(kinetics / "videos" / path)
    found = listing(kinetics)
    (clip,) = found.clips
    assert (clip.name, clip.class_name) == ("air drumming/-abcdefghij_000001_000011", "air drumming")
    assert clip.path == kinetics / "videos" / path
    assert (clip.start_frame, clip.end_frame) == (None, None)
    assert found.classes == ("abseiling", "air drumming", "passing, American football")
    (missing,) = found.missing
    assert missing.name == "passing, American football/_bcdefghijk_000190_000200"
    assert missing.path == kinetics / "videos/passing, American football/_bcdefghijk_000190_000200.mp4"
    assert found.unlisted == ()


def test_the_split_column_says_which_clips_belong_to_a_subset_and_all_labels_count(kinetics):
    found = listing(kinetics, subset="val")
    assert names(found.missing) == ["abseiling/cdefghijkl__000007_000017"]
    assert found.classes == listing(kinetics, subset="train").classes
    with pytest.raises(UserError, match=r"--subset test: .* no clip of it, only of \['train', 'val'\]"):
        listing(kinetics, subset="test")


def test_the_official_json_says_the_same_as_the_csv(kinetics):
    videos = {
        "-abcdefghij": {"annotations": {"label": "air drumming", "segment": [1.0, 11.0]}, "subset": "train"},
        "_bcdefghijk": {
            "annotations": {"label": "passing, American football", "segment": [190, 200]},
            "duration": 10.0,
            "subset": "training",
            "url": "https://www.youtube.com/watch?v=_bcdefghijk",
        },
        "cdefghijkl_": {"annotations": {"label": "abseiling", "segment": [7.0, 17.0]}, "subset": "validation"},
    }
    (kinetics / "all.json").write_text(json.dumps(videos))
    touch(kinetics / "videos/-abcdefghij.mp4")
    for subset in ("train", "val"):
        assert listing(kinetics, "all.json", subset=subset) == listing(kinetics, subset=subset)


def test_a_list_of_paths_and_label_indices_needs_the_class_names(kinetics):
    (kinetics / "val.txt").write_text("-abcdefghij.mp4 1\nair drumming/_bcdefghijk_000190_000200.mp4,0\n")
    (kinetics / "classes.txt").write_text("abseiling\nair drumming\nnever seen\n")
    touch(kinetics / "videos/x/-abcdefghij_000050_000060.mp4", kinetics / "videos/_bcdefghijk.mp4")
    found = listing(kinetics, "val.txt", subset="val", classes=kinetics / "classes.txt")
    assert names(found.clips) == ["air drumming/-abcdefghij", "abseiling/_bcdefghijk_000190_000200"]
    assert found.classes == ("abseiling", "air drumming", "never seen")
    assert found.unlisted == ()
    with pytest.raises(UserError, match=r"val\.txt: a list without class names; give them with --classes FILE"):
        listing(kinetics, "val.txt", subset="val")


def test_the_times_in_a_name_decide_between_parts_of_one_video(kinetics):
    touch(kinetics / "videos/-abcdefghij_000050_000060.mp4")
    found = listing(kinetics)
    assert found.clips == ()
    reason = "only another part of its video is there, -abcdefghij_000050_000060.mp4"
    assert found.missing[0].reason == reason
    assert found.unlisted == ("-abcdefghij_000050_000060.mp4",)
    touch(kinetics / "videos/a/-abcdefghij_000001_000011.mp4", kinetics / "videos/-abcdefghij.mp4")
    found = listing(kinetics)
    assert [clip.path.name for clip in found.clips] == ["-abcdefghij_000001_000011.mp4"]


def test_two_files_for_one_clip_are_refused(kinetics):
    touch(kinetics / "videos/a/-abcdefghij_000001_000011.mp4", kinetics / "videos/train/-abcdefghij_1_11.mkv")
    with pytest.raises(
        UserError, match=r"-abcdefghij_000001_000011 is there twice, as a/.*mp4 and train/.*mkv; remove"
    ):
        listing(kinetics)


def test_a_file_without_times_is_refused_where_its_video_has_two_annotated_parts(kinetics):
    (kinetics / "more.csv").write_text(HEADER + "abseiling,-abcdefghij,90,100,val,0\n")
    touch(kinetics / "videos/-abcdefghij.mp4")
    with pytest.raises(
        UserError, match=r"-abcdefghij\.mp4 may be any of the 2 annotated parts of its video; rename it"
    ):
        listing(kinetics, "train.csv", "more.csv")


def test_videos_that_no_annotation_names_are_told(kinetics):
    videos = kinetics / "videos"
    touch(videos / "juggling/zzzzzzzzzzz.mp4", videos / "juggling/yyyyyyyyyyy_000001_000011.mp4")
    touch(videos / "flipping_a_pancake.mkv", videos / "cdefghijkl__000007_000017.mp4")
    assert listing(kinetics).unlisted == ("flipping_a_pancake.mkv", "juggling/ (2 videos)")


def test_the_original_clips_are_found_by_the_real_list(real_data):
    labels = real_data / "labels/kinetics"
    found = Kinetics400Source(
        root=real_data / "real_clips/kinetics400",
        annotations=(labels / "k400_val.csv",),
        classes=labels / "label_map_k400.txt",
        subset="val",
    ).listing()
    ids = {"SOX5yA1l24A", "R6llTwEh07w", "WUzgd7C1pWA"}
    assert set(names(found.clips)) == {f"using segway/{youtube_id}" for youtube_id in ids}
    assert len(found.missing) == 19796 - 3
    assert len(found.classes) == 400
    assert {entry.class_name for entry in found.missing} == set(found.classes)
    assert found.unlisted == ("flipping_a_pancake.mkv",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"train\.csv is empty"),
        ("youtube_id,time_start,time_end,split\n", "has no column 'label'"),
        (HEADER, "--subset train: the annotations have no clip"),
        (HEADER + "run,-abcdefghij,1,11\n", "line 2: has 4 cells, the header 6"),
        (HEADER + "run,-abcdefghij,soon,11,train,0\n", "line 2: 'soon' to '11' is no time in seconds"),
        (HEADER + "run,#NAME?,1,11,train,0\n", r"line 2: '#NAME\?' is no YouTube id"),
        (HEADER + "run,../abcdefghijk,1,11,train,0\n", "line 2: .* is no YouTube id"),
        (HEADER + ",-abcdefghij,1,11,train,0\n", "line 2: needs a label"),
        (HEADER + "a/b,-abcdefghij,1,11,train,0\n", "line 2: needs a label without '/' or line breaks"),
        (HEADER + '"run\nwalk",-abcdefghij,1,11,train,0\n', "line 3: needs a label without '/' or line breaks"),
        (HEADER + '"run,-abcdefghij,1,11,train,0\n', "line 2: unexpected end of data"),
        (
            CSV + "run,-abcdefghij,1,11,val,0\n",
            r"line 5: clip -abcdefghij.* \(run\) stands already in .*line 2 \(air dru",
        ),
        ("-abcdefghij.mp4\n", "line 1: expected '<YouTube id>.mp4 <label index>'"),
        ("-abcdefghij_000001_000011 300 0\n", "line 1: expected '<YouTube id>.mp4 <label index>'"),
        ("-abcdefghij.mp4 1\n", "line 1: label 1 is beyond the 1 classes"),
    ],
)
def test_mistakes_in_annotations_are_named(kinetics, text, sentence):
    (kinetics / "train.csv").write_text(text)
    (kinetics / "classes.txt").write_text("run\n")
    with pytest.raises(UserError, match=sentence):
        listing(kinetics, classes=kinetics / "classes.txt")


@pytest.mark.parametrize("text", ["[]", "{", '{"-abcdefghij": {"subset": "test"}}'])
def test_mistakes_in_json_annotations_are_named(kinetics, text):
    (kinetics / "all.json").write_text(text)
    with pytest.raises(UserError, match=r"all\.json"):
        listing(kinetics, "all.json")


def test_annotations_must_be_given():
    with pytest.raises(ValueError, match="annotations must name at least one file"):
        Kinetics400Source(root=Path(), annotations=())


youtube_ids = st.text("abcXYZ019-_", min_size=11, max_size=11)
seconds = st.tuples(st.integers(0, 999_999), st.integers(0, 999_999))


@settings(deadline=None)
@given(youtube_id=youtube_ids, times=st.none() | seconds, folder=st.sampled_from(["", "a b/", "_000001_000002/"]))
def test_a_file_name_tells_the_clip_it_was_made_from(youtube_id, times, folder):
    clip = KineticsClip(youtube_id, times)
    for suffix in ("", ".mp4", ".webm"):
        assert KineticsClip.of_file(f"{folder}{clip.stem}{suffix}") == clip


@settings(deadline=None)
@given(clips=st.dictionaries(youtube_ids, st.tuples(seconds, st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_every_annotated_clip_is_either_found_or_missing(clips):
    """Each id with its times, whether its file is there, and whether that has the times in its name."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        rows = [f"run,{youtube_id},{start},{end},train,0\n" for youtube_id, ((start, end), _, _) in clips.items()]
        (root / "train.csv").write_text(HEADER + "".join(rows))
        (root / "videos").mkdir()
        for youtube_id, (times, there, timed) in clips.items():
            if there:
                touch(root / "videos" / (KineticsClip(youtube_id, times if timed else None).stem + ".mp4"))
        found = listing(root)
        assert [clip.name[4:15] for clip in found.clips] == [i for i, (_, there, _) in clips.items() if there]
        assert [clip.name[4:15] for clip in found.missing] == [i for i, (_, there, _) in clips.items() if not there]
        assert all(clip.path.name.startswith(clip.name[4:15]) and clip.path.is_file() for clip in found.clips)
        assert found.unlisted == ()


@pytest.fixture
def mini(kinetics):
    (kinetics / "train_ytid_list.txt").write_text("_bcdefghijk\nnotknown-00\n-abcdefghij\n")
    (kinetics / "val_ytid_list.txt").write_text("cdefghijkl_\n")
    return kinetics


def mini_listing(mini, **options):
    given = {"root": mini / "videos", "labels": mini, "annotations": (mini / "train.csv",)} | options
    return MiniKinetics200Source(**given).listing()


def test_the_ids_of_mini_kinetics_get_their_classes_from_the_annotations(mini):
    (mini / "train.csv").write_text(CSV + "zumba,zzzzzzzzzzz,1,11,train,0\n")
    touch(mini / "videos/-abcdefghij_000001_000011.mp4", mini / "videos/cdefghijkl_.mp4")
    touch(mini / "videos/zzzzzzzzzzz.mp4", mini / "videos/notknown-00.mp4", mini / "videos/stray.mp4")
    train, val = mini_listing(mini), mini_listing(mini, subset="val")
    assert train.classes == val.classes == ("abseiling", "air drumming", "passing, American football")
    assert names(train.clips) == ["air drumming/-abcdefghij_000001_000011"]
    assert names(train.missing) == ["passing, American football/_bcdefghijk_000190_000200", "notknown-00"]
    assert [entry.class_name for entry in train.missing] == ["passing, American football", ""]
    assert [entry.reason for entry in train.missing] == ["the video does not exist", "no annotation names its class"]
    assert names(val.clips) == ["abseiling/cdefghijkl__000007_000017"]
    assert train.unlisted == val.unlisted == ("stray.mp4",)


def test_classes_without_a_clip_stay_in_a_given_list(mini):
    (mini / "classes.txt").write_text("zumba\nabseiling\nair drumming\npassing, American football\n")
    assert mini_listing(mini, classes=mini / "classes.txt").classes[0] == "zumba"
    (mini / "classes.txt").write_text("abseiling\n")
    with pytest.raises(UserError, match="is not among the 1 classes"):
        mini_listing(mini, classes=mini / "classes.txt")


def test_the_real_lists_of_mini_kinetics_join_200_classes(real_data, tmp_path):
    labels = real_data / "labels"
    options = {"annotations": (labels / "kinetics/k400_val.csv",), "label_map": labels / "kinetics/label_map_k400.txt"}
    (tmp_path / "videos").mkdir()
    train, val = (
        mini_listing(tmp_path, labels=labels / "minikinetics200", subset=subset, **options)
        for subset in ("train", "val")
    )
    assert len(train.classes) == len(val.classes) == 200
    assert len(train.missing) == 80_000
    assert len(val.missing) == 5_000
    assert {entry.reason for entry in train.missing} == {"no annotation names its class"}
    assert sum(entry.class_name == "" for entry in val.missing) == 6
    assert not set(names(train.missing)) & {entry.name.rpartition("/")[2] for entry in val.missing}


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("train_ytid_list.txt", "-abcdefghij.mp4\n", r"train_ytid_list\.txt, line 1: expected a YouTube id"),
        ("train_ytid_list.txt", "-abcdefghij\n\n-abcdefghij\n", "line 3: -abcdefghij is listed already, in .*line 1"),
        (
            "val_ytid_list.txt",
            "-abcdefghij\n",
            r"val_ytid_list\.txt, line 1: -abcdefghij is listed already, in .*train",
        ),
        ("val_ytid_list.txt", "", r"val_ytid_list\.txt is empty"),
        ("train.csv", CSV + "run,-abcdefghij,5,15,val,0\n", "video -abcdefghij is 'run' here, but 'air drumming' in"),
        ("train.csv", HEADER + "run,zzzzzzzzzzz,5,15,val,0\n", "they name none of the ids in --labels"),
    ],
)
def test_mistakes_in_the_lists_of_mini_kinetics_are_named(mini, file, content, sentence):
    (mini / file).write_text(content)
    with pytest.raises(UserError, match=sentence):
        mini_listing(mini)

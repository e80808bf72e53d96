"""The data sets that list their clips by file name: UCF101, HMDB51, JHMDB, Diving48."""

import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.sources import Diving48Source, Hmdb51Source, JhmdbSource, Listing, Ucf101Source
from shards.sources.hmdb51 import CLASSES as HMDB51_CLASSES
from shards.sources.hmdb51 import read_split
from shards.sources.jhmdb import CLASSES as JHMDB_CLASSES
from tests.shards.sources.files import names, touch

SPLITS = (1, 2, 3)
SUBSETS = ("train", "test")


def wanted(listing: Listing) -> list[str]:
    """All clips that a listing says belong to the subset, there or not."""
    return [*names(listing.clips), *names(listing.missing)]


@pytest.fixture
def empty(tmp_path):
    (tmp_path / "videos").mkdir()
    return tmp_path / "videos"


@pytest.mark.parametrize(("split", "counts"), [(1, (9537, 3783)), (2, (9586, 3734)), (3, (9624, 3696))])
def test_ucf101_has_the_published_counts(real_data, empty, split, counts):
    source = {s: Ucf101Source(root=empty, labels=real_data / "labels/ucf101", split=split, subset=s) for s in SUBSETS}
    train, test = (source[subset].listing() for subset in SUBSETS)
    assert (len(train.missing), len(test.missing)) == counts
    assert len(set(wanted(train)) | set(wanted(test))) == sum(counts) == 13320
    assert len(train.classes) == 101
    assert train.classes == test.classes
    assert train.classes[36] == "HandstandPushups"
    assert {entry.class_name for entry in test.missing} == set(test.classes)


@pytest.mark.parametrize("split", SPLITS)
def test_hmdb51_has_70_and_30_clips_of_every_class(real_data, empty, split):
    labels = real_data / "labels/hmdb51"
    train, test = (Hmdb51Source(root=empty, labels=labels, split=split, subset=s).listing() for s in SUBSETS)
    for listing, count in ((train, 70), (test, 30)):
        assert Counter(entry.class_name for entry in listing.missing) == dict.fromkeys(HMDB51_CLASSES, count)
    assert not set(wanted(train)) & set(wanted(test))


def test_diving48_has_the_published_counts_and_one_class_that_does_not_occur(real_data, empty):
    labels = real_data / "labels/diving48"
    train, test = (Diving48Source(root=empty, labels=labels, subset=subset).listing() for subset in SUBSETS)
    assert (len(train.missing), len(test.missing)) == (15027, 1970)
    assert len(set(wanted(train)) | set(wanted(test))) == 16997
    assert len(train.classes) == 48
    occurring = {entry.class_name for entry in (*train.missing, *test.missing)}
    assert len(occurring) == 47
    assert occurring < set(train.classes)
    assert train.classes == tuple((labels / "label_map.txt").read_text().split())
    assert train.missing[0].path == empty / "-mmq0PT-u8k_00155.mp4"


def test_the_original_clips_are_found_and_the_others_missing(real_data):
    videos = real_data / "real_clips" / "ucf101"
    there = {f"{path.parent.name}/{path.stem}" for path in videos.glob("*/*.avi")}
    assert len(there) == 17
    for split in SPLITS:
        listings = [
            Ucf101Source(root=videos, labels=real_data / "labels/ucf101", split=split, subset=subset).listing()
            for subset in SUBSETS
        ]
        assert {name for listing in listings for name in names(listing.clips)} == there
        assert sum(len(listing.missing) for listing in listings) == 13320 - 17
        assert all(listing.unlisted == () for listing in listings)


def test_an_original_clip_under_another_name_is_told(real_data):
    listing = Hmdb51Source(
        root=real_data / "real_clips/hmdb51", labels=real_data / "labels/hmdb51", subset="test"
    ).listing()
    assert names(listing.clips) == ["wave/TrumanShow_wave_f_nm_np1_fr_med_26"]
    assert listing.unlisted == ("cartwheel/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi",)


def test_a_whole_hmdb51_with_all_its_odd_names_is_found(real_data, empty):
    labels = real_data / "labels/hmdb51"
    train, test = (Hmdb51Source(root=empty, labels=labels, subset=subset) for subset in SUBSETS)
    order = [wanted(source.listing()) for source in (train, test)]
    touch(*(entry.path for source in (train, test) for entry in source.listing().missing))
    found = [source.listing() for source in (train, test)]
    assert [names(listing.clips) for listing in found] == order
    assert [listing.missing for listing in found] == [(), ()]
    assert [listing.unlisted for listing in found] == [(), ()]
    assert any(set(name) & set("#!(&;[~'") for name in order[0])


@pytest.fixture
def ucf101(tmp_path):
    """Two classes, one clip each in train and test."""
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "classInd.txt").write_bytes(b"1 Diving\r\n2 HandstandPushups\r\n")
    (labels / "trainlist01.txt").write_bytes(
        b"\xef\xbb\xbfHandstandPushups/v_HandStandPushups_g01_c01.avi 2\r\nDiving/v_Diving_g01_c01.avi 1\r\n"
    )
    (labels / "testlist01.txt").write_bytes(b"Diving/v_Diving_g02_c01.avi\r\n\r\n")
    (tmp_path / "videos").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [
        "HandstandPushups/v_HandStandPushups_g01_c01.avi",
        "HandStandPushups/v_HandstandPushups_g01_c01.avi",
        "v_HandStandPushups_g01_c01.avi",
        "UCF-101/HandstandPushups/v_HandStandPushups_g01_c01.mp4",
    ],
)
def test_a_clip_of_ucf101_is_found_in_every_usual_unpacking(ucf101, path):
    touch(ucf101 / "videos" / path)
    listing = Ucf101Source(root=ucf101 / "videos", labels=ucf101 / "labels").listing()
    (clip,) = listing.clips
    assert clip.name == "HandstandPushups/v_HandStandPushups_g01_c01"
    assert clip.path == ucf101 / "videos" / path
    assert (clip.start_frame, clip.end_frame) == (None, None)
    assert names(listing.missing) == ["Diving/v_Diving_g01_c01"]
    assert listing.unlisted == ()


def test_classes_and_videos_that_no_list_names_are_told_but_not_those_of_the_other_subset(ucf101):
    videos = ucf101 / "videos"
    touch(videos / "Diving/v_Diving_g02_c01.avi", videos / "Diving/v_Diving_g99_c01.avi")
    touch(videos / "Juggling/a.avi", videos / "Juggling/b.avi", videos / "README.txt")
    listing = Ucf101Source(root=videos, labels=ucf101 / "labels", subset="train").listing()
    assert listing.unlisted == ("Diving/v_Diving_g99_c01.avi", "Juggling/ (2 videos)")


def test_a_clip_that_is_there_twice_is_refused_if_it_is_wanted(ucf101):
    touch(ucf101 / "videos/Diving/v_Diving_g01_c01.avi", ucf101 / "videos/old/v_Diving_g01_c01.mp4")
    labels = ucf101 / "labels"
    with pytest.raises(UserError, match=r"'Diving/v_Diving_g01_c01' is there twice, as Diving/.*avi and old/.*mp4"):
        Ucf101Source(root=ucf101 / "videos", labels=labels, subset="train").listing()
    assert len(Ucf101Source(root=ucf101 / "videos", labels=labels, subset="test").listing().missing) == 1


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        (
            "trainlist01.txt",
            "Diving/v_Diving_g01_c01.avi\n",
            r"trainlist01\.txt, line 1: expected '<class>/<clip>\.avi <l",
        ),
        ("trainlist01.txt", "\nDiving/v_Div\n", r"trainlist01\.txt, line 2: expected"),
        ("trainlist01.txt", "Diving/v_Diving_g01_c01.avi 2\n", r"line 1: 'Diving' has label 2, but 1 in classInd\.txt"),
        ("trainlist01.txt", "Flying/v_a.avi 1\n", r"line 1: class 'Flying' is not in classInd\.txt"),
        ("trainlist01.txt", "Diving/a.avi 1\nDiving/a.avi 1\n", r"line 2: clip 'a' is listed already, in .*line 1"),
        ("trainlist01.txt", "Diving/v_Diving_g02_c01.avi 1\n", r"testlist01.*line 1: clip .*already, in .*trainlist01"),
        ("trainlist01.txt", "\n", r"--labels: .*trainlist01\.txt is empty"),
        ("classInd.txt", "1 Diving\n3 HandstandPushups\n", r"classInd\.txt, line 2: expected '2 <class>'"),
        ("classInd.txt", "1 Diving\n", r"trainlist01\.txt, line 1: class 'HandstandPushups' is not in classInd\.txt"),
    ],
)
def test_mistakes_in_the_lists_of_ucf101_are_named(ucf101, file, content, sentence):
    (ucf101 / "labels" / file).write_text(content)
    with pytest.raises(UserError, match=sentence):
        Ucf101Source(root=ucf101 / "videos", labels=ucf101 / "labels").listing()


def test_lists_that_are_absent_or_no_utf8_are_named(ucf101):
    with pytest.raises(UserError, match=r"--labels: .*trainlist02\.txt cannot be read \(No such file or directory\)"):
        Ucf101Source(root=ucf101 / "videos", labels=ucf101 / "labels", split=2).listing()
    (ucf101 / "labels" / "classInd.txt").write_bytes("1 Diving\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"classInd\.txt cannot be read \(byte 0 is not UTF-8\)"):
        Ucf101Source(root=ucf101 / "videos", labels=ucf101 / "labels").listing()
    shutil.rmtree(ucf101 / "labels")
    with pytest.raises(UserError, match=r"--labels .*: no such folder; give the folder of UCF101's"):
        Ucf101Source(root=ucf101 / "videos", labels=ucf101 / "labels").listing()


def test_a_class_without_its_split_file_is_not_left_out_of_hmdb51(real_data, tmp_path):
    shutil.copytree(real_data / "labels/hmdb51", tmp_path / "labels")
    (tmp_path / "labels").chmod(0o755)
    (tmp_path / "labels" / "wave_test_split1.txt").unlink()
    (tmp_path / "videos").mkdir()
    with pytest.raises(UserError, match=r"wave_test_split1\.txt cannot be read"):
        Hmdb51Source(root=tmp_path / "videos", labels=tmp_path / "labels").listing()


def jhmdb(real_data, **options) -> Listing:
    return JhmdbSource(root=real_data / "jhmdb/videos", labels=real_data / "labels/hmdb51", **options).listing()


@pytest.mark.parametrize("split", SPLITS)
def test_jhmdb_follows_the_split_files(real_data, split):
    """Counted here from the other side: every line of the split files is looked up among the videos."""
    videos = {p.stem.replace("@", "#"): p for p in (real_data / "jhmdb" / "videos").glob("*/*.mp4")}
    assert len(videos) == 928
    codes = {}
    for path in (real_data / "labels" / "hmdb51").glob(f"*_test_split{split}.txt"):
        for name, code in (line.split() for line in path.read_text().splitlines()):
            codes[name.removesuffix(".avi"), path.name.split("_test_split")[0]] = code
    code_of = [codes.get((stem, video.parent.name)) for stem, video in videos.items()]
    assert code_of.count(None) == 7
    train, test = (jhmdb(real_data, split=split, subset=subset) for subset in SUBSETS)
    assert len(train.clips) == code_of.count("1") + 7
    assert len(test.clips) == code_of.count("2")
    assert not set(names(train.clips)) & set(names(test.clips))
    assert len(train.classes) == 21
    assert train.classes == test.classes


def test_all_928_clips_of_jhmdb_are_in_split_1(real_data):
    train, test = (jhmdb(real_data, subset=subset).clips for subset in SUBSETS)
    assert (len(train), len(test)) == (671, 257)
    assert all(entry.path.is_file() for entry in (*train, *test))


def test_an_unused_clip_of_jhmdb_is_in_neither_subset(tmp_path):
    touch(*(tmp_path / "videos" / "clap" / f"{name}.avi" for name in ("a", "b", "@c", "unlisted")))
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "clap_test_split1.txt").write_text("a.avi 1 \nb.avi 0 \n#c.avi 2 \n\n")
    found = {
        subset: names(JhmdbSource(root=tmp_path / "videos", labels=labels, subset=subset).listing().clips)
        for subset in SUBSETS
    }
    assert found == {"train": ["clap/a", "clap/unlisted"], "test": ["clap/@c"]}


@pytest.mark.parametrize("form", ["zip", "list", "list of videos", "folder"])
def test_jhmdbs_own_split_in_all_forms(real_data, tmp_path, form):
    """Of its 268 clips to test on, HMDB51's split 1 trains on 194, and four of the seven that it does not list."""
    labels = real_data / "labels/jhmdb/groundtruths_split1_test.zip"
    with zipfile.ZipFile(labels) as archive:
        files = sorted({Path(name).stem.rpartition("_")[0] for name in archive.namelist() if name.endswith(".txt")})
    test = []
    for file in files:
        (class_name,) = (name for name in JHMDB_CLASSES if file.startswith(f"{name}_"))
        test.append(f"{class_name}/{file.removeprefix(f'{class_name}_')}")
    if form.startswith("list"):
        suffix = ".avi" if form == "list of videos" else ""
        labels = tmp_path / "test.txt"
        labels.write_text("".join(f"{name}{suffix}\n" for name in test))
    if form == "folder":
        labels = tmp_path / "splits"
        labels.mkdir()
        for video in (real_data / "jhmdb" / "videos").glob("*/*.mp4"):
            code = 2 if f"{video.parent.name}/{video.stem}" in test else 1
            with (labels / f"{video.parent.name}_test_split1.txt").open("a") as lines:
                lines.write(f"{video.stem}.avi {code}\n")
    found = {}
    for subset in SUBSETS:
        source = JhmdbSource(root=real_data / "jhmdb/videos", labels=labels, splits_of="jhmdb", subset=subset)
        listing = source.listing()
        assert (listing.dataset, listing.split, listing.missing) == ("jhmdb", "jhmdb-1", ())
        found[subset] = set(names(listing.clips))
    assert found["test"] == set(test)
    assert (len(found["train"]), len(found["test"])) == (660, 268)
    assert not found["train"] & found["test"]
    leaked = {name.replace("@", "#") for name in found["test"] & set(names(jhmdb(real_data, subset="train").clips))}
    listed = {
        f"{clip.class_name}/{clip.name}"
        for class_name in JHMDB_CLASSES
        for clip in read_split(real_data / "labels/hmdb51", class_name, 1)
    }
    assert (len(leaked & listed), len(leaked - listed)) == (194, 4)


def test_clips_of_jhmdbs_own_split_that_are_not_there_are_missing(tmp_path):
    touch(*(tmp_path / "videos" / name for name in ("clap/a@1.avi", "clap/b.avi")))
    labels = tmp_path / "test.txt"
    labels.write_text("clap/a#1\nclap/c.avi\nwave/d\n")
    listing = JhmdbSource(root=tmp_path / "videos", labels=labels, splits_of="jhmdb", subset="test").listing()
    assert (names(listing.clips), names(listing.missing)) == (["clap/a@1"], ["clap/c", "wave/d"])
    with pytest.raises(UserError, match=r"--labels .*: no such folder; give the folder of HMDB51's split files"):
        JhmdbSource(root=tmp_path / "videos", labels=labels, subset="test").listing()
    labels.write_text("clap/a\njuggle/c\nclap\n")
    with pytest.raises(UserError) as raised:
        JhmdbSource(root=tmp_path / "videos", labels=labels, splits_of="jhmdb", subset="test").listing()
    assert [problem.split(": ")[0] for problem in raised.value.args] == [f"{labels}, line {k}" for k in (2, 3)]
    with zipfile.ZipFile(tmp_path / "test.zip", "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(UserError, match="holds no files <class>_<clip>_<frame>"):
        JhmdbSource(root=tmp_path / "videos", labels=tmp_path / "test.zip", splits_of="jhmdb").listing()


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda root, labels: root.rmdir(), "--root .*no such folder"),
        (lambda root, labels: labels.rmdir(), "--labels .*no such folder"),
        (lambda root, labels: (root / "clap").mkdir(), "clap_test_split1.txt cannot be read"),
    ],
)
def test_mistakes_with_jhmdb_are_named(tmp_path, prepare, sentence):
    root, labels = tmp_path / "videos", tmp_path / "labels"
    root.mkdir()
    labels.mkdir()
    prepare(root, labels)
    with pytest.raises(UserError, match=sentence):
        JhmdbSource(root=root, labels=labels).listing()


def test_what_is_no_class_of_jhmdb_is_told(tmp_path):
    touch(*(tmp_path / "videos" / name for name in ("juggle/a.avi", "juggle/b.avi", "wave/deeper/c.avi", "d.avi")))
    (tmp_path / "wave_test_split1.txt").write_text("a.avi 1\n")
    listing = JhmdbSource(root=tmp_path / "videos", labels=tmp_path).listing()
    assert listing.unlisted == ("d.avi", "juggle/ (2 videos)", "wave/deeper/c.avi")


@pytest.mark.parametrize("line", ["b.avi 7", "b.avi", "x/b.avi 1"])
def test_a_bad_line_of_a_split_file_is_named(tmp_path, line):
    (tmp_path / "videos" / "clap").mkdir(parents=True)
    (tmp_path / "clap_test_split1.txt").write_text(f"a.avi 1\n{line}\n")
    with pytest.raises(UserError, match=r"clap_test_split1\.txt, line 2: expected '<clip>\.avi 0\|1\|2'"):
        JhmdbSource(root=tmp_path / "videos", labels=tmp_path).listing()


@pytest.fixture
def diving48(tmp_path):
    """Three dives in the vocabulary, one of which occurs."""
    (tmp_path / "videos").mkdir()
    vocabulary = [["Back", "15som", "05Twis", "FREE"], ["Forward", "Dive"], ["Inward", "25som"]]
    clips = {"train": [("-a_00001", 1, 0, 48), ("_b_00002", 1, 4, 9)], "test": [("c_00003", 1, 0, 7)]}
    (tmp_path / "Diving48_vocab.json").write_text(json.dumps(vocabulary))
    for subset, rows in clips.items():
        keys = ("vid_name", "label", "start_frame", "end_frame")
        text = json.dumps([dict(zip(keys, row, strict=True)) for row in rows])
        (tmp_path / f"Diving48_V2_{subset}.json").write_text(text)
    return tmp_path


def test_a_clip_of_diving48_is_a_range_of_frames_and_its_class_the_phases_of_the_dive(diving48):
    touch(diving48 / "videos/-a_00001.mp4", diving48 / "videos/x.mp4")
    listing = Diving48Source(root=diving48 / "videos", labels=diving48).listing()
    (clip,) = listing.clips
    assert (clip.name, clip.class_name) == ("Forward+Dive/-a_00001", "Forward+Dive")
    assert (clip.start_frame, clip.end_frame) == (0, 48)
    assert names(listing.missing) == ["Forward+Dive/_b_00002"]
    assert listing.classes == ("Back+15som+05Twis+FREE", "Forward+Dive", "Inward+25som")
    assert listing.unlisted == ("x.mp4",)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("vocab", "[1]", r"vocab\.json: expected a list of lists"),
        ("V2_train", "{}", r"V2_train\.json: expected a list of clips"),
        ("V2_train", "[", r"V2_train\.json is not JSON"),
        ("V2_train", "[" * 100_000, r"V2_train\.json is not JSON"),
        ("V2_train", '[{"vid_name": "a"}]', r"V2_train\.json, clip 1: expected vid_name, label, start_frame"),
        ("V2_train", '[{"vid_name": "a", "label": 3, "start_frame": 0, "end_frame": 9}]', "label 3 is not among the 3"),
        ("V2_train", '[{"vid_name": "a", "label": -1, "start_frame": 0, "end_frame": 9}]', "label -1 is not among"),
        ("V2_train", '[{"vid_name": "a", "label": 0, "start_frame": 9, "end_frame": 9}]', "clip 1: .* no frames"),
        ("V2_train", '[{"vid_name": "../a", "label": 0, "start_frame": 0, "end_frame": 9}]', "clip 1: .* no file name"),
        (
            "V2_train",
            '[{"vid_name": "c_00003", "label": 0, "start_frame": 0, "end_frame": 9}]',
            "test.*is listed already",
        ),
    ],
)
def test_mistakes_in_the_lists_of_diving48_are_named(diving48, file, content, sentence):
    (diving48 / f"Diving48_{file}.json").write_text(content)
    with pytest.raises(UserError, match=sentence):
        Diving48Source(root=diving48 / "videos", labels=diving48).listing()

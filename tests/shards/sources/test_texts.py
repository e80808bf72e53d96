"""One notion of equal texts, in every reader."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UserError
from shards.sources import (
    CsvSource,
    Diving48Source,
    FolderSource,
    Hmdb51Source,
    JhmdbSource,
    Kinetics400Source,
    MiniKinetics200Source,
    Ucf101Source,
)
from shards.sources.hmdb51 import CLASSES as HMDB51_CLASSES
from shards.sources.label_files import read_classes
from shards.sources.texts import clean, look, look_alikes
from tests.shards.sources.files import names, touch

NFC, NFD = "é", "e\u0301"
AROUND = ["", " ", "\u00a0", "\t", "\u200b", "\ufeff", "\u2003", " \u00ad\u2060 "]
HEADER = "label,youtube_id,time_start,time_end,split\n"


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("text", ["run", "long jump", f"caf{NFC}", "走る", "👩‍👧", "می‌روم", "ß"])
def test_what_surrounds_a_text_unseen_and_how_its_letters_are_composed_do_not_count(around, text):
    assert clean(f"{around}{unicodedata.normalize('NFD', text)}{around}") == unicodedata.normalize("NFC", text)


@given(st.text())
def test_cleaning_twice_is_cleaning_once_and_keeps_the_look(text):
    assert clean(clean(text)) == clean(text)
    assert look(clean(text)) == look(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("run", "Run"),
        ("long jump", "long  jump"),
        ("long jump", "long\u00a0jump"),
        ("long jump", "longjump"),
        ("file", "ﬁle"),
        ("run", "ｒｕｎ"),
        ("run", "r\u200bun"),
        ("STRASSE", "straße"),
        ("jump", "jum\u0440"),
        ("a", "\u0430"),
        ("Hop", "\u041d\u043e\u0440"),
        ("HOP", "\u0397\u039f\u03a1"),
        ("\u043d\u043e\u0433\u0430", "\u041d\u043e\u0433a"),
    ],
)
def test_texts_that_only_look_different_are_told_with_both_places(one, other):
    (problem,) = look_alikes({one: "line 2", "walk": "line 3", other: "line 4"}, "label")
    assert problem.startswith(
        f"line 4: label {other!a} differs only in case, spaces or variants of letters from {one!a}"
    )
    assert "in line 2" in problem


@pytest.mark.parametrize(
    "others", [("type A", "type 4"), ("тип А", "тип Б"), ("ırmak", "irmak"), ("走", "跑"), ("l", "I", "1")]
)
def test_texts_that_look_different_are_no_look_alikes(others):
    assert look_alikes(dict.fromkeys(others, ""), "label") == []


def test_columns_written_in_another_alphabet_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"column '\\u0440ath' must be written 'path'"):
        csv_listing(tmp_path, "\u0440ath,label\n1.mp4,run\n")


def test_real_class_lists_have_no_look_alikes(real_data):
    labels = real_data / "labels"
    assert len(read_classes(labels / "kinetics/label_map_k400.txt")) == 400
    assert look_alikes(dict.fromkeys(HMDB51_CLASSES, ""), "class") == []


def csv_listing(folder, text, **options):
    (folder / "list.csv").write_text(text, encoding="utf-8")
    return CsvSource(file=folder / "list.csv", **options).listing()


def test_labels_and_splits_of_a_csv_file_are_equal_whatever_surrounds_them(tmp_path):
    touch(*(tmp_path / f"{k}.mp4" for k in range(1, 6)))
    listing = csv_listing(
        tmp_path,
        f"\ufeffpath\u00a0,label ,split\n1.mp4,run{NFC},train\n2.mp4,run{NFD} ,train \n"
        f"3.mp4 ,\u00a0run{NFC},\u00a0train\n4.mp4\u200b,\ufeffrun{NFD}\u200b,test\n5.mp4,walk,\n",
        subset=" train",
    )
    assert listing.classes == (f"run{NFC}", "walk")
    assert [entry.path.name for entry in listing.clips] == ["1.mp4", "2.mp4", "3.mp4"]
    assert listing.missing == ()
    assert listing.remarks == {"rows of no subset asked for": ("(none): 1", "test: 1")}
    assert listing.subset == "train"


def test_labels_splits_and_columns_that_only_look_different_are_refused_with_all_lines(tmp_path):
    text = "path,label,split\n1.mp4,long jump,train\n2.mp4,Long jump,train\n3.mp4,long  jump,Train\n"
    with pytest.raises(UserError) as caught:
        csv_listing(tmp_path, text)
    assert [problem.partition(" differs")[0].rpartition(", ")[2] for problem in caught.value.args] == [
        "line 3: label 'Long jump'",
        "line 4: label 'long  jump'",
        "line 4: split 'Train'",
    ]
    assert str(caught.value).count("line 2; write both alike") == 3
    with pytest.raises(UserError, match=r"column 'Split' must be written 'split'"):
        csv_listing(tmp_path, "path,label,Split\n1.mp4,run,train\n")


def test_a_file_is_found_in_another_normal_form_and_two_such_files_are_refused(tmp_path):
    touch(tmp_path / NFD / f"{NFD}.mp4", tmp_path / "plain" / f"{NFC} .mp4")
    listing = csv_listing(tmp_path, f"path,label\n{NFC}/{NFC}.mp4,run\nplain/{NFD} .mp4,run\n")
    assert [entry.path for entry in listing.clips] == [
        tmp_path / NFD / f"{NFD}.mp4",
        tmp_path / "plain" / f"{NFC} .mp4",
    ]
    assert names(listing.clips) == [f"run/{NFC}/{NFC}", f"run/plain/{NFC}"]
    absolute = csv_listing(tmp_path, f"path,label\n{tmp_path}/{NFC}/{NFC}.mp4,run\n")
    assert [entry.path for entry in absolute.clips] == [tmp_path / NFD / f"{NFD}.mp4"]
    touch(tmp_path / NFD / f"{NFC}.mp4")
    with pytest.raises(UserError, match=r"list\.csv, line 2: '.*e\\u0301\.mp4' and '.*\\xe9\.mp4' differ only in how"):
        csv_listing(tmp_path, f"path,label\n{NFC}/{NFC}.mp4,run\n")
    touch(tmp_path / NFC / "x.mp4")
    with pytest.raises(UserError, match=r"line 3: '.*' and '.*' differ only in how their letters are composed"):
        csv_listing(tmp_path, f"path,label\nplain/{NFC} .mp4,run\n{NFD}/x.mp4,run\n")


def test_folders_are_classes_by_their_clean_names(tmp_path):
    touch(tmp_path / f"caf{NFD} " / f"{NFD}.mp4", tmp_path / "run" / "a.mp4")
    (tmp_path / "classes.txt").write_text(f"run\u00a0\n\ufeffcaf{NFC}\n")
    listing = FolderSource(root=tmp_path, classes=tmp_path / "classes.txt").listing()
    assert listing.classes == ("run", f"caf{NFC}")
    assert names(listing.clips) == [f"caf{NFC}/{NFC}", "run/a"]
    assert all(entry.path.is_file() for entry in listing.clips)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (["run/a.mp4", "Run/b.mp4"], "folder 'run' differs only in case, .* from 'Run'"),
        ([f"{NFC}/a.mp4", f"{NFD}/b.mp4"], r"folders '.*' and '.*' are of one class"),
        (["run/a.mp4", "run /b.mp4"], r"folders 'run' and 'run ' are of one class"),
        ([f"run/{NFC}.mp4", f"run/{NFD}.mp4"], rf"two clips are called 'run/{NFC}', .*\.mp4 and .*\.mp4"),
    ],
)
def test_folders_and_files_that_only_look_different_are_refused_with_both(tmp_path, files, sentence):
    touch(*(tmp_path / file for file in files))
    with pytest.raises(UserError, match=sentence):
        FolderSource(root=tmp_path).listing()


def test_a_folder_that_only_looks_like_a_given_class_is_refused_with_both(tmp_path):
    touch(tmp_path / "videos/Run/a.mp4")
    (tmp_path / "classes.txt").write_text("run\n")
    with pytest.raises(UserError, match="class 'Run' is not among the 1 classes, but 'run' is"):
        FolderSource(root=tmp_path / "videos", classes=tmp_path / "classes.txt").listing()


def test_a_list_of_classes_must_not_name_one_twice(tmp_path):
    (tmp_path / "classes.txt").write_text("run\nwalk\nrun \nWalk\n")
    with pytest.raises(UserError) as caught:
        read_classes(tmp_path / "classes.txt")
    assert [problem.partition("classes.txt, ")[2][:20] for problem in caught.value.args] == [
        "line 3: class 'run' ",
        "line 4: class 'Walk'",
    ]


def test_labels_of_kinetics_are_equal_whatever_surrounds_them(tmp_path):
    touch(tmp_path / "videos/x")
    rows = "run ,-abcdefghij ,1,11, train\n\u00a0run,_bcdefghijk,1,11,training\u00a0\nwalk,cdefghijkl_,1,11,val\n"
    (tmp_path / "a.csv").write_text(HEADER + rows)
    video = {"annotations": {"label": "\u200brun ", "segment": [1, 11]}, "subset": "training "}
    (tmp_path / "b.json").write_text(json.dumps({"defghijkl_m": video}))
    paths = (tmp_path / "a.csv", tmp_path / "b.json")
    listing = Kinetics400Source(root=tmp_path / "videos", annotations=paths).listing()
    assert listing.classes == ("run", "walk")
    assert [entry.class_name for entry in listing.missing] == ["run"] * 3
    assert listing.remarks == {"rows of no subset asked for": ("val: 1",)}


def test_labels_and_subsets_of_kinetics_that_only_look_different_are_refused(tmp_path):
    touch(tmp_path / "videos/x")
    (tmp_path / "a.csv").write_text(HEADER + "run,-abcdefghij,1,11,train\nRun,_bcdefghijk,1,11,Train\n")
    with pytest.raises(UserError) as caught:
        Kinetics400Source(root=tmp_path / "videos", annotations=(tmp_path / "a.csv",)).listing()
    assert "line 3: label 'Run' differs only" in caught.value.args[0]
    assert "line 3: subset 'Train' differs only" in caught.value.args[1]


def test_a_name_with_two_values_in_a_json_file_is_refused(tmp_path):
    video = json.dumps({"annotations": {"label": "run", "segment": [1, 11]}, "subset": "train"})
    (tmp_path / "a.json").write_text(f'{{"-abcdefghij": {video}, "-abcdefghij": {video}}}')
    with pytest.raises(UserError, match=r"'-abcdefghij' stand there twice"):
        Kinetics400Source(root=tmp_path, annotations=(tmp_path / "a.json",)).listing()


def test_mini_kinetics_reads_ids_and_labels_alike(tmp_path):
    touch(tmp_path / "videos/-abcdefghij.mp4")
    (tmp_path / "a.csv").write_text(HEADER + "run\u00a0,-abcdefghij,1,11,train\nrun,_bcdefghijk,1,11,val\n")
    (tmp_path / "train_ytid_list.txt").write_text("\ufeff-abcdefghij\u200b\n")
    (tmp_path / "val_ytid_list.txt").write_text("\u00a0_bcdefghijk\n")
    source = MiniKinetics200Source(root=tmp_path / "videos", labels=tmp_path, annotations=(tmp_path / "a.csv",))
    assert source.listing().classes == ("run",)
    assert len(source.listing().clips) == 1
    assert source.listing().remarks == {"rows of no subset asked for": ("val: 1",)}


def test_the_lists_of_ucf101_are_read_alike(tmp_path):
    touch(tmp_path / "videos" / f"v_{NFD}_g01.avi")
    (tmp_path / "classInd.txt").write_text(f"1 Div{NFD}\u00a0\n")
    (tmp_path / "trainlist01.txt").write_text(f"\u200bDiv{NFC} /v_{NFC}_g01.avi 1\u00a0\n")
    (tmp_path / "testlist01.txt").write_text(f"Div{NFD}/v_{NFD}_g02.avi\n")
    listing = Ucf101Source(root=tmp_path / "videos", labels=tmp_path).listing()
    assert names(listing.clips) == [f"Div{NFC}/v_{NFC}_g01"]
    assert listing.clips[0].path.is_file()
    assert listing.remarks == {"rows of no subset asked for": ("test: 1",)}
    (tmp_path / "classInd.txt").write_text(f"1 Div{NFD}\n2 div{NFC}\n")
    with pytest.raises(UserError, match=r"classInd\.txt, line 2: class '.*' differs only"):
        Ucf101Source(root=tmp_path / "videos", labels=tmp_path).listing()


def test_the_lists_of_hmdb51_and_jhmdb_are_read_alike(tmp_path):
    touch(tmp_path / "videos" / "clap" / f"{NFD}.avi")
    for class_name in HMDB51_CLASSES:
        (tmp_path / f"{class_name}_test_split1.txt").write_text(f"{class_name}_0.avi 0\n")
    (tmp_path / "clap_test_split1.txt").write_text(f"\u00a0{NFC}.avi 1\u200b\n")
    for source in (Hmdb51Source, JhmdbSource):
        listing = source(root=tmp_path / "videos", labels=tmp_path).listing()
        assert names(listing.clips) == [f"clap/{NFC}"]
        assert listing.clips[0].path.is_file()


def test_the_lists_of_diving48_are_read_alike(tmp_path):
    touch(tmp_path / "videos" / f"{NFD}.mp4")
    clip = {"vid_name": f" {NFC}\u00a0", "label": 0, "start_frame": 0, "end_frame": 9}
    (tmp_path / "Diving48_V2_train.json").write_text(json.dumps([clip]))
    (tmp_path / "Diving48_V2_test.json").write_text("[]")
    (tmp_path / "Diving48_vocab.json").write_text(json.dumps([["Back ", "\u00a0FREE"], ["In"]]))
    listing = Diving48Source(root=tmp_path / "videos", labels=tmp_path).listing()
    assert names(listing.clips) == [f"Back+FREE/{NFC}"]
    (tmp_path / "Diving48_vocab.json").write_text(json.dumps([["Back", "FREE"], ["Back", "Free"]]))
    with pytest.raises(UserError, match=r"dive 1: class 'Back[+]Free' differs only"):
        Diving48Source(root=tmp_path / "videos", labels=tmp_path).listing()

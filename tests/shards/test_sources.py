import os

import pytest

from shards.errors import UserError
from shards.sources import ClipEntry, CsvSource, FolderSource, JhmdbSource, Listing


def jhmdb(real_data, **options) -> Listing:
    return JhmdbSource(root=real_data / "jhmdb" / "videos", labels=real_data / "labels" / "hmdb51", **options).listing()


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("split", [1, 2, 3])
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
    train, test = (jhmdb(real_data, split=split, subset=subset) for subset in ("train", "test"))
    assert len(train.clips) == code_of.count("1") + 7
    assert len(test.clips) == code_of.count("2")
    assert not {entry.name for entry in train.clips} & {entry.name for entry in test.clips}
    assert len(train.classes) == 21
    assert train.classes == test.classes


def test_all_928_clips_of_jhmdb_are_in_split_1(real_data):
    train, test = (jhmdb(real_data, subset=subset).clips for subset in ("train", "test"))
    assert (len(train), len(test)) == (671, 257)
    assert all(entry.path.is_file() for entry in (*train, *test))


def test_an_unused_clip_of_jhmdb_is_in_neither_subset(tmp_path):
    touch(*(tmp_path / "videos" / "clap" / f"{name}.avi" for name in ("a", "b", "@c", "unlisted")))
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "clap_test_split1.txt").write_text("a.avi 1 \nb.avi 0 \n#c.avi 2 \n\n")
    names = {
        subset: [e.name for e in JhmdbSource(root=tmp_path / "videos", labels=labels, subset=subset).listing().clips]
        for subset in ("train", "test")
    }
    assert names == {"train": ["clap/a", "clap/unlisted"], "test": ["clap/@c"]}


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda root, labels: root.rmdir(), "--root .*no such folder"),
        (lambda root, labels: labels.rmdir(), "--labels .*no such folder"),
        (lambda root, labels: (root / "clap").mkdir(), "clap_test_split1.txt is missing"),
        (lambda root, labels: (root / "juggle").mkdir(), "'juggle' is no class of JHMDB"),
    ],
)
def test_mistakes_with_jhmdb_are_named(tmp_path, prepare, sentence):
    root, labels = tmp_path / "videos", tmp_path / "labels"
    root.mkdir()
    labels.mkdir()
    prepare(root, labels)
    with pytest.raises(UserError, match=sentence):
        JhmdbSource(root=root, labels=labels).listing()


def test_a_bad_line_of_a_split_file_is_named(tmp_path):
    (tmp_path / "videos" / "clap").mkdir(parents=True)
    (tmp_path / "clap_test_split1.txt").write_text("a.avi 1\nb.avi 7\n")
    with pytest.raises(UserError, match=r"clap_test_split1\.txt, line 2"):
        JhmdbSource(root=tmp_path / "videos", labels=tmp_path).listing()


def test_folders_are_classes_in_alphabetical_order(tmp_path):
    touch(tmp_path / "wave" / "b.MP4", tmp_path / "wave" / "a.mkv", tmp_path / "clap" / "c.avi")
    touch(tmp_path / "clap" / "notes.txt", tmp_path / ".hidden" / "d.mp4")
    (tmp_path / "empty").mkdir()
    listing = FolderSource(root=tmp_path, dataset="mine").listing()
    assert listing.dataset == "mine"
    assert listing.classes == ("clap", "empty", "wave")
    assert [entry.name for entry in listing.clips] == ["clap/c", "wave/a", "wave/b"]


def test_a_list_of_classes_fixes_the_labels(tmp_path):
    touch(tmp_path / "videos" / "wave" / "a.mp4")
    classes = tmp_path / "classes.txt"
    classes.write_text("wave\n\nclap\n")
    assert FolderSource(root=tmp_path / "videos", classes=classes).listing().classes == ("wave", "clap")
    classes.write_text("clap\n")
    with pytest.raises(UserError, match=r"clip 'wave/a': class 'wave' is not among the 1 classes; .*--classes FILE"):
        FolderSource(root=tmp_path / "videos", classes=classes).listing()


def test_two_files_of_one_name_are_refused(tmp_path):
    touch(tmp_path / "wave" / "a.mp4", tmp_path / "wave" / "a.avi")
    with pytest.raises(UserError, match="'wave/a' is listed 2 times"):
        FolderSource(root=tmp_path).listing()


def test_names_that_are_not_utf8_are_written_out_and_stay_apart(tmp_path):
    touch(*(tmp_path / "wave" / os.fsdecode(name) for name in (b"\xfe.mp4", b"\xff.mp4", "ö.mp4".encode())))
    names = [entry.name for entry in FolderSource(root=tmp_path).listing().clips]
    assert sorted(names) == [r"wave/\xfe", r"wave/\xff", "wave/ö"]
    (tmp_path / os.fsdecode(b"\xff")).mkdir()
    with pytest.raises(UserError, match="not UTF-8: rename it"):
        FolderSource(root=tmp_path).listing()


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(UserError, match="no video in it"):
        FolderSource(root=tmp_path).listing()


def test_csv_rows_are_chosen_by_subset_and_may_be_ranges_of_one_video(tmp_path):
    touch(tmp_path / "v" / "a.mp4", tmp_path / "v" / "b.mp4")
    file = tmp_path / "list.csv"
    file.write_text(
        "path,label,start,end,split\n"
        "v/a.mp4,run,0,16,train\n"
        "v/a.mp4,run,16,32,train\n"
        "v/gone.mp4,run,,,train\n"
        "v/b.mp4,jump,,,test\n"
    )
    train = CsvSource(file=file, subset="train").listing()
    assert train.classes == ("jump", "run")
    assert train.clips == (
        ClipEntry("run/a_0_16", tmp_path / "v" / "a.mp4", "run", 0, 16),
        ClipEntry("run/a_16_32", tmp_path / "v" / "a.mp4", "run", 16, 32),
    )
    assert [entry.name for entry in train.missing] == ["run/gone"]
    assert [entry.name for entry in CsvSource(file=file, subset="test").listing().clips] == ["jump/b"]
    assert len(CsvSource(file=file).listing().clips) == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,label\na.mp4,run\n", "its columns must be"),
        ("path,label,start\na.mp4,run,soon\n", "line 2: start must be a frame number"),
        ("path,label,start,end\na.mp4,run,9,9\n", "line 2: end 9 must be greater than start 9"),
        ("path,label\n", "has no rows"),
        ("path,label\na.mp4\n", "line 2: has fewer cells than the header"),
        ("path,label\na.mp4,run,9\n", "line 2: has more cells than the header"),
        ("path,label\na.mp4,../run\n", "line 2: needs a path, and a label"),
        ("path,label\n,run\n", "line 2: needs a path, and a label"),
        ("path,label,split\na.mp4,run,val\n", r"--subset train: no row .*\['val'\]"),
    ],
)
def test_mistakes_in_a_csv_file_are_named(tmp_path, text, sentence):
    file = tmp_path / "list.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        CsvSource(file=file, subset="train" if "split" in text else "all").listing()

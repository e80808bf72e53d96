import configparser
import hashlib
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.datasets import Places365

from scenebias.annotators import (
    HardSceneLabels,
    SceneDictionaries,
    SceneFile,
    open_scene_source,
    read_scene_categories,
    scene_categories,
)
from scenebias.annotators.scenes import categories
from scenebias.annotators.scenes import probabilities as scene_file_module
from scenebias.annotators.scenes.categories import CATEGORIES_FILE
from shards.errors import UserError
from shards.format.sample import SCENE_COUNT
from shards.sources import ClipEntry
from tests.project import ROOT

ENTRY = ClipEntry("wave/a", Path("wave/a.mp4"), "wave")
OTHER = ClipEntry("clap/z", Path("clap/z.mp4"), "clap")
ABSENT = ClipEntry("run/q", Path("q.mp4"), "run")
VIDEO = "_-3456789ab"
KINETICS_ENTRY = ClipEntry(f"playing guitar/{VIDEO}_000012_000022", Path("x.mp4"), "playing guitar")
UNIFORM = np.full((1, SCENE_COUNT), 1 / SCENE_COUNT)
NEGATIVE = np.eye(1, SCENE_COUNT) * 1.5 - np.eye(1, SCENE_COUNT, 1) * 0.5  # its sum is 1


def probabilities(count: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(SCENE_COUNT), size=count).astype(np.float16)


def write_categories(path: Path, names: list[str] | None = None) -> Path:
    names = names or [f"/{'abc'[number % 3]}/place_{number}" for number in range(SCENE_COUNT)]
    path.write_text("\n".join(f"{name} {number}" for number, name in enumerate(names)))
    return path


# One NumPy file


def test_scene_vectors_are_found_by_name(tmp_path):
    path = tmp_path / "s.npz"
    np.savez(path, clips=np.array(["clap/z", "wave/a", "wave/b"]), probs=probabilities(3))
    source = open_scene_source(path, (ABSENT, ENTRY))
    assert np.array_equal(source.vector(ENTRY), probabilities(3)[1])
    assert ENTRY in source
    assert ABSENT not in source
    assert source.files() == (path,)


def test_scene_vectors_of_kinetics_may_be_called_by_the_video_alone(tmp_path):
    names = np.array([f"playing guitar/{VIDEO}", "clap/z"])
    np.savez(tmp_path / "s.npz", clips=names, probs=probabilities(2))
    assert np.array_equal(SceneFile(tmp_path / "s.npz").vector(KINETICS_ENTRY), probabilities(2)[0])


def test_scene_vectors_of_jhmdb_cover_all_its_clips(real_data):
    paths = list((real_data / "jhmdb" / "videos").glob("*/*.mp4"))
    entries = [ClipEntry(f"{path.parent.name}/{path.stem}", path, path.parent.name) for path in paths]
    source = open_scene_source(real_data / "jhmdb" / "scene_probs.npz", entries)
    for entry in entries:
        assert entry in source
        assert source.vector(entry).shape == (SCENE_COUNT,)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"clips": np.array(["a/b"])}, "cannot be read"),
        ({"clips": np.array(["a/b"], dtype=object), "probs": UNIFORM}, "allow_pickle"),
        ({"clips": np.array(["a/b"]), "probs": UNIFORM[:, :-1]}, "must be n strings"),
        ({"clips": np.array(["a/b", "a/c"]), "probs": UNIFORM}, "must be n strings"),
        ({"clips": np.array([7]), "probs": UNIFORM}, "must be n strings"),
        ({"clips": np.array("a/b"), "probs": UNIFORM[0]}, "must be n strings"),
        ({"clips": np.array(["a/b"]), "probs": UNIFORM.astype(complex)}, "must be n strings"),
        ({"clips": np.array(["a/b"]), "probs": np.eye(1, SCENE_COUNT, dtype=int)}, "'probs' float"),
        ({"clips": np.array(["a/b", "a/b"]), "probs": UNIFORM.repeat(2, axis=0)}, "a/b is listed 2 times"),
        ({"clips": np.array(["a/b"]), "probs": UNIFORM * 2}, "row of a/b is no probability vector"),
        ({"clips": np.array(["a/b"]), "probs": UNIFORM * 1e9}, "row of a/b is no probability vector"),
        ({"clips": np.array(["a/b"]), "probs": NEGATIVE}, "row of a/b is no probability vector"),
        ({"clips": np.array(["a/b"]), "probs": UNIFORM * np.nan}, "row of a/b is no probability vector"),
        ({"clips": np.array(["a/b"]), "probs": UNIFORM * np.inf}, "row of a/b is no probability vector"),
    ],
)
def test_mistakes_in_a_scene_file_are_named(tmp_path, arrays, sentence):
    path = tmp_path / "scenes.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=rf"--scenes .*scenes\.npz: .*{sentence}"):
        SceneFile(path)


@given(
    bad=st.integers(0, 9), value=st.sampled_from([np.nan, -0.5, 0.5]), dtype=st.sampled_from([np.float16, np.float32])
)
def test_the_clip_of_an_improper_row_is_named_wherever_it_stands(tmp_path_factory, bad, value, dtype):
    probability_NS = probabilities(10).astype(dtype)
    probability_NS[bad, 100] = value
    path = tmp_path_factory.mktemp("scenes") / "s.npz"
    np.savez(path, clips=np.array([f"wave/{number}" for number in range(10)]), probs=probability_NS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene_file_module, "ROWS_PER_CHECK", 3)
        with pytest.raises(UserError, match=rf"the row of wave/{bad} is no probability vector"):
            SceneFile(path)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut", b"x" * 99])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "scenes.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        SceneFile(path)


def test_a_scene_file_that_promises_more_than_it_holds_is_refused(tmp_path):
    np.save(tmp_path / "clips.npy", np.array(["a/b"]))
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        archive.write(tmp_path / "clips.npy", "clips.npy")
        with archive.open("probs.npy", "w") as member:
            header = {"descr": "<f8", "fortran_order": False, "shape": (2**50, SCENE_COUNT)}
            np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(UserError, match=r"s\.npz: cannot be read"):
        SceneFile(tmp_path / "s.npz")


# The order of the categories


def test_the_names_that_come_with_the_package_are_those_that_places365_publishes():
    """The reference is the checksum that torchvision has of the original."""
    name, md5 = Places365._CATEGORIES_META
    assert CATEGORIES_FILE.name == name
    assert hashlib.md5(CATEGORIES_FILE.read_bytes()).hexdigest() == md5
    names = scene_categories()
    assert len(set(names)) == SCENE_COUNT
    assert (names[0], names[1], names[364]) == ("airfield", "airplane_cabin", "zen_garden")
    assert "MIT License" in (CATEGORIES_FILE.parent / "LICENSE").read_text()


def test_the_names_are_installed_with_the_package():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    (pattern,) = settings["options.package_data"]["scenebias.annotators.scenes"].split()
    scenes = Path(categories.__file__).parent
    assert CATEGORIES_FILE in scenes.glob(pattern)


def test_the_categories_of_places365_are_read_without_the_folder_of_their_letter(real_data):
    path = real_data / "labels" / "places365" / "categories_places365.txt"
    names = read_scene_categories(path)
    assert len(names) == len(set(names)) == SCENE_COUNT
    assert (names[0], names[8], names[364]) == ("airfield", "apartment_building/outdoor", "zen_garden")
    assert [line.split()[0][3:] for line in path.read_text().splitlines()] == list(names)
    with pytest.raises(
        UserError, match=r"--scene-names .*IO_places365.txt: expected '<category> 0', found '/a/airfield 2'"
    ):
        read_scene_categories(path.with_name("IO_places365.txt"), option="--scene-names")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"", "0 categories instead of 365"),
        (b"/a/airfield", "expected '<category> 0', found '/a/airfield'"),
        (b"/a/airfield 1", "expected '<category> 0', found '/a/airfield 1'"),
        (b"/a/airfield 0\n/a/b c 1", "expected '<category> 1', found '/a/b c 1'"),
        (b"/a/airfield 0\n\n/b/bog 1\n", "2 categories instead of 365"),
    ],
)
def test_mistakes_in_a_file_of_categories_are_named(tmp_path, content, sentence):
    path = tmp_path / "categories.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"--scene-categories .*categories.txt: {sentence}"):
        read_scene_categories(path)


def test_a_category_listed_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match="364 categories instead of 365"):
        read_scene_categories(write_categories(tmp_path / "c.txt", ["/a/a", *map(str, range(363)), "/a/a"]))


@settings(max_examples=20)
@given(swap=st.permutations(range(SCENE_COUNT)), prefixed=st.booleans())
def test_categories_in_another_order_are_named(tmp_path_factory, swap, prefixed):
    folder = tmp_path_factory.mktemp("order")
    categories = read_scene_categories(write_categories(folder / "c.txt"))
    order = [f"/p/{categories[number]}" if prefixed else categories[number] for number in swap]
    np.savez(folder / "s.npz", clips=np.array([ENTRY.name]), probs=UNIFORM, categories=np.array(order))
    first = next((place for place, number in enumerate(swap) if place != number), None)
    if first is None:
        open_scene_source(folder / "s.npz", (ENTRY,), folder / "c.txt")
        return
    with pytest.raises(UserError, match=rf"s.npz: category {first} is '.*place_{swap[first]}', but 'place_{first}' in"):
        open_scene_source(folder / "s.npz", (ENTRY,), folder / "c.txt")
    open_scene_source(folder / "s.npz", (ENTRY,))


@pytest.mark.parametrize("count", [None, 364])
def test_scene_files_pass_with_the_right_order_and_fail_with_too_few(tmp_path, count):
    path = write_categories(tmp_path / "c.txt")
    names = np.array(read_scene_categories(path)[:count])
    np.savez(tmp_path / "s.npz", clips=np.array([ENTRY.name]), probs=UNIFORM, categories=names)
    if count is None:
        assert ENTRY in open_scene_source(tmp_path / "s.npz", (ENTRY,), path)
    else:
        with pytest.raises(UserError, match=r"s\.npz: 364 categories instead of 365"):
            open_scene_source(tmp_path / "s.npz", (ENTRY,), path)


# SDN's dictionaries


def label(probs: np.ndarray) -> dict[str, object]:
    """A label as SDN publishes it."""
    predicted = probs.argmax(axis=-1)
    return {"probs": probs, "pred_cls": predicted if probs.ndim > 1 else int(predicted)}


def test_the_dictionaries_of_sdn_are_read_as_its_code_reads_them(tmp_path):
    random = np.random.default_rng(0)
    frames_NS = random.dirichlet(np.ones(SCENE_COUNT), size=7).astype(np.float32)
    one_S = random.dirichlet(np.ones(SCENE_COUNT)).astype(np.float32)
    np.save(tmp_path / "playing guitar_train.npy", {"playing guitar": {VIDEO: label(frames_NS)}})
    np.save(tmp_path / "others_val.npy", {"wave": {"a": label(one_S), "b": label(one_S)}, "clap": {"a": label(one_S)}})
    (tmp_path / "notes.txt").write_text("not a label")
    source = open_scene_source(tmp_path, (ABSENT, KINETICS_ENTRY, ENTRY))
    assert [entry in source for entry in (ABSENT, KINETICS_ENTRY, ENTRY, OTHER)] == [False, True, True, False]
    assert len(source.files()) == 2
    place_pred = np.load(tmp_path / "playing guitar_train.npy", allow_pickle=True).item()
    expected_S = np.mean(place_pred["playing guitar"][VIDEO]["probs"], axis=0)
    assert np.array_equal(source.vector(KINETICS_ENTRY), expected_S.astype(np.float16))
    assert np.array_equal(source.vector(ENTRY), one_S.astype(np.float16))


def test_a_clip_in_a_folder_below_its_class_is_looked_up_in_its_class(tmp_path):
    deep = ClipEntry("wave/p1/a", Path("wave/p1/a.mp4"), "wave")
    np.save(tmp_path / "wave.npy", {"wave": {"p1/a": label(UNIFORM[0]), "a": label(np.eye(SCENE_COUNT)[3])}})
    source = open_scene_source(tmp_path, (ENTRY, deep))
    assert source.vector(deep)[0] == UNIFORM[0, 0].astype(np.float16)
    assert source.vector(ENTRY)[3] == 1


def test_one_dictionary_is_enough(tmp_path):
    np.save(tmp_path / "wave.npy", {"wave": {"a": label(UNIFORM[0])}})
    source = open_scene_source(tmp_path / "wave.npy", (ENTRY,))
    assert source.files() == (tmp_path / "wave.npy",)
    assert source.vector(ENTRY).sum(dtype=np.float64) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"wave": 1}, "'wave' holds no clips"),
        ({"wave": {"a": 1}}, "the label of wave/a cannot be read"),
        ({"wave": {"a": {"pred_cls": 1}}}, "the label of wave/a cannot be read .'probs'."),
        ({"wave": {"a": {"probs": UNIFORM[0, :-1]}}}, r"'probs' are float64 \(1, 364\)"),
        ({"wave": {"a": {"probs": UNIFORM[:0]}}}, r"'probs' are float64 \(0, 365\)"),
        ({"wave": {"a": {"probs": UNIFORM[np.newaxis]}}}, r"'probs' are float64 \(1, 1, 365\)"),
        ({"wave": {"a": {"probs": np.eye(1, SCENE_COUNT, dtype=int)}}}, "'probs' are int64"),
        ({"wave": {"a": {"probs": np.array(["x"])}}}, "the label of wave/a cannot be read"),
        ({"wave": {"a": {"probs": UNIFORM * np.nan}}}, "'probs' of wave/a is no probability vector"),
        ({"wave": {"a": {"probs": np.arange(365.0)}}}, "'probs' of wave/a is no probability vector; apply the softmax"),
        ({"wave": {"a": {"probs": -UNIFORM}}}, "'probs' of wave/a is no probability vector"),
    ],
)
def test_mistakes_in_a_dictionary_are_named(tmp_path, content, sentence):
    np.save(tmp_path / "d.npy", content)
    with pytest.raises(UserError, match=rf"--scenes .*d\.npy: .*{sentence}"):
        SceneDictionaries(tmp_path, (ENTRY,))


def test_a_clip_in_two_dictionaries_is_refused(tmp_path):
    for name in ("one", "two"):
        np.save(tmp_path / f"{name}.npy", {"wave": {"a": label(UNIFORM[0])}})
    with pytest.raises(UserError, match=r"two\.npy: wave/a has a label in another file too"):
        SceneDictionaries(tmp_path, (ENTRY,))


def test_dictionaries_that_run_code_are_refused(tmp_path):
    class Malicious:
        def __reduce__(self):
            return exec, ("raise SystemExit('owned')",)

    cell = np.empty((), dtype=object)
    cell[()] = {"wave": {"a": Malicious()}}
    np.save(tmp_path / "d.npy", cell)
    with pytest.raises(UserError, match=r"d\.npy: .*it asks for builtins\.exec"):
        open_scene_source(tmp_path, (ENTRY,))
    (tmp_path / "d.npy").write_bytes(pickle.dumps({"wave": {}}))
    with pytest.raises(UserError, match=r"d\.npy: no dictionary saved with np\.save"):
        open_scene_source(tmp_path, (ENTRY,))


def test_a_folder_without_dictionaries_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no \.npy file in this folder"):
        open_scene_source(tmp_path, (ENTRY,))


# Hard labels


def write_labels(path: Path, labels: object) -> Path:
    path.write_text(labels if isinstance(labels, str) else json.dumps(labels))
    return path


@settings(max_examples=30)
@given(number=st.integers(0, SCENE_COUNT - 1), key=st.sampled_from(["wave/a", "a"]), prefixed=st.booleans())
def test_hard_labels_are_one_at_their_category(tmp_path_factory, number, key, prefixed):
    folder = tmp_path_factory.mktemp("labels")
    categories = write_categories(folder / "c.txt")
    line = categories.read_text().splitlines()[number].split()[0]
    name = line if prefixed else line[3:]
    for label in (number, name):
        source = open_scene_source(write_labels(folder / "l.json", {key: label}), (ABSENT, ENTRY), categories)
        assert np.array_equal(source.vector(ENTRY), np.eye(SCENE_COUNT)[number])
        assert ENTRY in source
        assert ABSENT not in source
        assert source.files() == (folder / "l.json", categories)


def test_hard_labels_of_kinetics_may_be_called_by_the_video_alone(tmp_path):
    for key in (KINETICS_ENTRY.name, f"playing guitar/{VIDEO}", f"{VIDEO}_000012_000022", VIDEO):
        source = HardSceneLabels(write_labels(tmp_path / "l.json", {key: 7, "x": 1}), (KINETICS_ENTRY,))
        assert source.vector(KINETICS_ENTRY).argmax() == 7


def test_the_label_with_the_class_comes_first(tmp_path):
    source = HardSceneLabels(write_labels(tmp_path / "l.json", {"a": 1, "wave/a": 2}), (ENTRY,))
    assert source.vector(ENTRY).argmax() == 2


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"a": 1, "a": 2}', "cannot be read .'a' is listed 2 times."),
        ("[1]", "no JSON object"),
        ({"a": 365}, "the label of a, 365, is no category"),
        ({"a": -1}, "the label of a, -1, is no category"),
        ({"a": True}, "the label of a, True, is no category"),
        ({"a": 1.0}, "the label of a, 1.0, is no category"),
        ({"a": None}, "the label of a, None, is no category"),
        ({"a": [1]}, r"the label of a, \[1\], is no category"),
        ({"a": "/z/nowhere"}, "the label of a, '/z/nowhere', is no category"),
    ],
)
def test_mistakes_in_hard_labels_are_named(tmp_path, labels, sentence):
    categories = write_categories(tmp_path / "c.txt")
    with pytest.raises(UserError, match=rf"--scenes .*l\.json: {sentence}"):
        open_scene_source(write_labels(tmp_path / "l.json", labels), (ENTRY,), categories)


def test_names_of_categories_need_their_order(tmp_path):
    with pytest.raises(UserError, match=r"is a name, '/a/airfield'; give the order .* --scene-categories"):
        open_scene_source(write_labels(tmp_path / "l.json", {"a": "/a/airfield"}), (ENTRY,))


def test_a_label_for_two_clips_of_one_name_is_refused(tmp_path):
    namesake = ClipEntry("clap/a", Path("clap/a.mp4"), "clap")
    path = write_labels(tmp_path / "l.json", {"a": 1})
    with pytest.raises(UserError, match="2 clips are called 'a'; write <class>/<clip>"):
        open_scene_source(path, (ENTRY, namesake))


# All of them


@pytest.mark.parametrize("kind", ["l.json", "s.npz", "d.npy", ""])
def test_labels_that_fit_no_clip_are_refused(tmp_path, kind):
    np.savez(tmp_path / "s.npz", clips=np.array(["clap/z"]), probs=UNIFORM)
    np.save(tmp_path / "d.npy", {"clap": {"z": label(UNIFORM[0])}})
    write_labels(tmp_path / "l.json", {"clap/z": 1})
    assert OTHER in open_scene_source(tmp_path / kind, (ENTRY, OTHER))
    with pytest.raises(UserError, match="no scene label for any of the 1 clips, such as wave/a"):
        open_scene_source(tmp_path / kind, (ENTRY,))


def test_every_reader_tells_its_format(tmp_path):
    np.savez(tmp_path / "s.npz", clips=np.array(["clap/z"]), probs=UNIFORM)
    np.save(tmp_path / "d.npy", {"clap": {"z": label(UNIFORM[0])}})
    write_labels(tmp_path / "l.json", {"clap/z": 1})
    sources = [open_scene_source(tmp_path / name, (OTHER,)) for name in ("s.npz", "d.npy", "l.json")]
    assert len({json.dumps(source.settings()) for source in sources}) == 3


def test_a_label_called_like_the_video_of_two_clips_is_refused(tmp_path):
    clips = ["x/abcdefghijk", "x/abcdefghijk_000001_000011"]
    np.savez(tmp_path / "s.npz", clips=clips, probs=np.full((2, SCENE_COUNT), 1 / SCENE_COUNT))
    names = ["x/abcdefghijk_000001_000011", "x/abcdefghijk_000050_000060"]
    entries = [ClipEntry(name, Path("v.mp4"), "x") for name in names]
    assert entries[1] in open_scene_source(tmp_path / "s.npz", entries[1:])
    with pytest.raises(UserError, match=r"--scenes .*: x/abcdefghijk may be of .*_000011 or of .*_000060; call it"):
        open_scene_source(tmp_path / "s.npz", entries)


def test_a_misspelt_network_is_told_which_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"--scenes resnet_places: no such file .*resnet18_places365, resnet50_places365"
    ):
        open_scene_source(Path("resnet_places"), (ClipEntry("a/b", Path("b.mp4"), "a"),))

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from scenebias.annotators import JhmdbMasks, NumpyMasks, SceneFile, open_mask_source
from shards.errors import UserError
from shards.sample import SCENE_COUNT
from shards.sources import ClipEntry

FPS = 25.0
ENTRY = ClipEntry("wave/a", Path("wave/a.mp4"), "wave")
MASK_NHW = np.random.default_rng(0).random((5, 12, 21)) < 0.3


def write_masks(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "mat":
        savemat(path, {"part_mask": MASK_NHW.transpose(1, 2, 0).astype(np.uint8)})
    elif kind == "npz packed":
        np.savez(path, masks=np.packbits(MASK_NHW, axis=-1))
    elif kind == "npz bool":
        np.savez_compressed(path, masks=MASK_NHW)
    elif kind == "npy 0 and 255":
        np.save(path, MASK_NHW.astype(np.uint8) * 255)


KINDS = [("mat", ".mat"), ("npz packed", ".npz"), ("npz bool", ".npz"), ("npy 0 and 255", ".npy")]


@pytest.mark.parametrize(("kind", "suffix"), KINDS)
def test_every_format_gives_the_same_masks(tmp_path, kind, suffix):
    write_masks(tmp_path / f"wave/a{suffix}", kind)
    source = pickle.loads(pickle.dumps(open_mask_source(tmp_path, (ENTRY,))))
    mask_NHW = source.load(ENTRY, 5, 12, 21, FPS)
    assert mask_NHW.dtype == bool
    assert np.array_equal(mask_NHW, MASK_NHW)


# Of packed masks only whole bytes of width are known: rows of 17 to 24 pixels take the same three.
@pytest.mark.parametrize("size", [(4, 12, 21), (6, 12, 21), (5, 11, 21), (5, 12, 16), (5, 12, 40), (5, 21, 12)])
@pytest.mark.parametrize(("kind", "suffix"), KINDS)
def test_masks_that_do_not_fit_the_video_are_refused(tmp_path, kind, suffix, size):
    write_masks(tmp_path / f"wave/a{suffix}", kind)
    with pytest.raises(UserError, match=rf"a\{suffix}: masks of shape .* for wave/a.mp4"):
        open_mask_source(tmp_path, (ENTRY,)).load(ENTRY, *size, FPS)


def test_a_single_frame_that_matlab_flattened_is_read(tmp_path):
    (tmp_path / "wave").mkdir()
    savemat(tmp_path / "wave" / "a.mat", {"part_mask": MASK_NHW[0].astype(np.uint8)})
    assert np.array_equal(JhmdbMasks(tmp_path).load(ENTRY, 1, 12, 21, FPS), MASK_NHW[:1])


def test_the_original_layout_of_jhmdb_is_read(tmp_path):
    write_masks(tmp_path / "wave" / "a" / "puppet_mask.mat", "mat")
    assert np.array_equal(open_mask_source(tmp_path, (ENTRY,)).load(ENTRY, 5, 12, 21, FPS), MASK_NHW)


def test_a_clip_without_a_mask_file_has_no_masks(tmp_path):
    write_masks(tmp_path / "wave" / "a.npz", "npz bool")
    other = ClipEntry("wave/b", Path("wave/b.mp4"), "wave")
    source = open_mask_source(tmp_path, (other, ENTRY))
    assert source.path(other) is None
    assert source.load(other, 5, 12, 21, FPS) is None


def test_folders_that_hold_no_mask_of_the_clips_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        open_mask_source(tmp_path / "nowhere", (ENTRY,))
    write_masks(tmp_path / "clap" / "z.npz", "npz bool")
    with pytest.raises(UserError, match="no mask file for any of the 1 clips"):
        open_mask_source(tmp_path, (ENTRY,))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an array",
        pickle.dumps({"masks": 1}),
    ],
)
@pytest.mark.parametrize("source", [JhmdbMasks, NumpyMasks])
def test_unreadable_mask_files_are_named(tmp_path, source, content):
    path = tmp_path / f"wave/a{source.suffixes[0]}"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"wave/a\{path.suffix}: no "):
        source(tmp_path).load(ENTRY, 5, 12, 21, FPS)


def test_masks_are_never_unpickled(tmp_path):
    (tmp_path / "wave").mkdir()
    np.savez(tmp_path / "wave" / "a.npz", masks=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="allow_pickle"):
        NumpyMasks(tmp_path).load(ENTRY, 5, 12, 21, FPS)


@pytest.mark.parametrize("array", [np.zeros((5, 12, 21), np.float32), np.zeros((5, 12, 21), np.int64)])
def test_masks_of_another_type_are_refused(tmp_path, array):
    (tmp_path / "wave").mkdir()
    np.save(tmp_path / "wave" / "a.npy", array)
    with pytest.raises(UserError, match="must be bool or uint8"):
        NumpyMasks(tmp_path).load(ENTRY, 5, 12, 21, FPS)


@pytest.mark.parametrize("shape", [(), (5,), (12, 21), (5, 12, 21, 3)])
def test_masks_of_another_number_of_axes_are_refused(tmp_path, shape):
    (tmp_path / "wave").mkdir()
    np.savez(tmp_path / "wave" / "a.npz", masks=np.ones(shape, np.uint8))
    with pytest.raises(UserError, match=r"a\.npz: masks must be bool or uint8 and have 3 axes"):
        NumpyMasks(tmp_path, 25.0).load(ENTRY, 5, 12, 21, FPS)


def test_matlab_masks_of_four_axes_are_refused(tmp_path):
    (tmp_path / "wave").mkdir()
    savemat(tmp_path / "wave" / "a.mat", {"part_mask": np.ones((12, 21, 5, 2), np.uint8)})
    with pytest.raises(UserError, match=r"a\.mat: masks must be bool or uint8 and have 3 axes"):
        JhmdbMasks(tmp_path).load(ENTRY, 5, 12, 21, FPS)


def test_masks_of_jhmdb_are_read_as_scipy_reads_them(real_data):
    folder = real_data / "jhmdb" / "masks"
    for path in sorted(folder.glob("*/*.mat"))[::150]:
        entry = ClipEntry(f"{path.parent.name}/{path.stem}", path, path.parent.name)
        part_mask = loadmat(path)["part_mask"]
        mask_NHW = open_mask_source(folder, (entry,)).load(entry, part_mask.shape[2], 240, 320, 30.0)
        assert mask_NHW.any()
        for frame, mask_HW in enumerate(mask_NHW):
            assert np.array_equal(mask_HW, part_mask[:, :, frame] == 1)


def test_masks_drawn_at_a_lower_rate_are_matched_by_time_only_if_asked(tmp_path):
    write_masks(tmp_path / "wave" / "a.mat", "mat")
    assert np.array_equal(JhmdbMasks(tmp_path, 25.0).load(ENTRY, 5, 12, 21, 30.0), MASK_NHW)
    matched_NHW = JhmdbMasks(tmp_path, 25.0).load(ENTRY, 6, 12, 21, 30.0)
    assert np.array_equal(matched_NHW, MASK_NHW[[0, 1, 2, 3, 3, 4]])
    for source, frame_count in (
        (JhmdbMasks(tmp_path), 6),
        (JhmdbMasks(tmp_path, 25.0), 7),
        (JhmdbMasks(tmp_path, 25.0), 4),
    ):
        with pytest.raises(UserError, match=r"--mask-fps"):
            source.load(ENTRY, frame_count, 12, 21, 30.0)


def test_scene_vectors_are_found_by_name(tmp_path):
    probability_NS = np.random.default_rng(0).dirichlet(np.ones(SCENE_COUNT), size=3).astype(np.float16)
    np.savez(tmp_path / "s.npz", clips=np.array(["clap/z", "wave/a", "wave/b"]), probs=probability_NS)
    assert np.array_equal(SceneFile(tmp_path / "s.npz").vector(ENTRY), probability_NS[1])
    with pytest.raises(UserError, match="no scene vector for run/q, but 3 for other clips"):
        SceneFile(tmp_path / "s.npz").vector(ClipEntry("run/q", Path("q.mp4"), "run"))


def test_scene_vectors_of_jhmdb_cover_all_its_clips(real_data):
    source = SceneFile(real_data / "jhmdb" / "scene_probs.npz")
    paths = list((real_data / "jhmdb" / "videos").glob("*/*.mp4"))
    for path in paths:
        vector = source.vector(ClipEntry(f"{path.parent.name}/{path.stem}", path, path.parent.name))
        assert vector.shape == (SCENE_COUNT,)


UNIFORM = np.full((1, SCENE_COUNT), 1 / SCENE_COUNT)


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
        ({"clips": np.array(["a/b"]), "probs": UNIFORM * np.nan}, "row of a/b is no probability vector"),
    ],
)
def test_mistakes_in_a_scene_file_are_named(tmp_path, arrays, sentence):
    path = tmp_path / "scenes.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=rf"--scenes .*scenes\.npz: .*{sentence}"):
        SceneFile(path)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut", b"x" * 99])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "scenes.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        SceneFile(path)

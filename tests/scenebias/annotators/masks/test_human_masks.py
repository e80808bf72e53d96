import io
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.io import loadmat, savemat

from scenebias.annotators import JhmdbMasks, MaskFolder, NumpyMasks, PngMasks, open_mask_source
from shards.errors import UserError
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
    elif kind == "png":
        write_pictures(path, MASK_NHW)


def write_pictures(folder: Path, mask_NHW: np.ndarray, *, mode: str = "1", first: int = 8) -> None:
    """Pictures without leading zeros, so that their names sort otherwise than their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, mask_HW in enumerate(mask_NHW, start=first):
        if mode == "1":
            image = Image.fromarray(mask_HW)
        else:
            image = Image.fromarray(mask_HW.astype(np.uint8) * 3)
            if mode == "P":
                image.putpalette([0, 0, 0, 9, 9, 9, 0, 255, 0, 0, 0, 0])
            elif mode == "I;16":
                image = Image.fromarray(mask_HW.astype(np.uint16) * 256)
        assert image.mode == mode
        image.save(folder / f"frame_{number}.png")


KINDS = [("mat", ".mat"), ("npz packed", ".npz"), ("npz bool", ".npz"), ("npy 0 and 255", ".npy"), ("png", "")]


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
    with pytest.raises(UserError, match=rf"wave/a{re.escape(suffix)}: masks of shape .* for \d+ frames of"):
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
    assert source.files(other) == ()
    assert source.files(ENTRY) == (tmp_path / "wave" / "a.npz",)
    assert source.load(other, 5, 12, 21, FPS) is None


def test_folders_that_hold_no_mask_of_the_clips_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        open_mask_source(tmp_path / "nowhere", (ENTRY,))
    write_masks(tmp_path / "clap" / "z.npz", "npz bool")
    with pytest.raises(UserError, match="no masks for any of the 1 clips, such as wave/a"):
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


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_masks_are_never_unpickled(tmp_path, suffix):
    (tmp_path / "wave").mkdir()
    objects = np.array([{"a": 1}], dtype=object)
    if suffix == ".npz":
        np.savez(tmp_path / "wave" / "a.npz", masks=objects)
    else:
        np.save(tmp_path / "wave" / "a.npy", objects)
    with pytest.raises(UserError, match=rf"wave/a\{suffix}: its array holds pickled objects, which are never loaded"):
        NumpyMasks(tmp_path).load(ENTRY, 5, 12, 21, FPS)


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The start of a .npy file that promises an array."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|b1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def test_masks_of_an_absurd_size_are_refused_unread(tmp_path):
    (tmp_path / "wave").mkdir()
    (tmp_path / "wave" / "a.npy").write_bytes(npy_header((10**6, 10**5, 10**5)))
    with pytest.raises(UserError, match="masks of shape 1000000x100000x100000 for"):
        NumpyMasks(tmp_path).load(ENTRY, 5, 12, 21, FPS)
    with zipfile.ZipFile(tmp_path / "wave" / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("masks.npy", npy_header((10**9, 12, 21)))
    with pytest.raises(UserError, match="masks of shape 1000000000x12x21 for"):
        NumpyMasks(tmp_path).load(ClipEntry("wave/b", Path("b.mp4"), "wave"), 5, 12, 21, FPS)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_arrays_that_end_early_are_refused(tmp_path, suffix):
    (tmp_path / "wave").mkdir()
    cut = npy_header((5, 12, 21)) + bytes(700)
    path = tmp_path / "wave" / f"a{suffix}"
    if suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("masks.npy", cut)
    else:
        path.write_bytes(cut)
    with pytest.raises(UserError, match=rf"wave/a\{suffix}: no NumPy file with an array 'masks'"):
        NumpyMasks(tmp_path).load(ENTRY, 5, 12, 21, FPS)


@pytest.mark.parametrize("array", [np.zeros((5, 12, 21), np.float32), np.zeros((5, 12, 21), np.int64)])
def test_masks_of_another_type_are_refused(tmp_path, array):
    (tmp_path / "wave").mkdir()
    np.save(tmp_path / "wave" / "a.npy", array)
    with pytest.raises(UserError, match=rf"wave/a.npy: masks must be bool or uint8, found {array.dtype}"):
        NumpyMasks(tmp_path).load(ENTRY, 5, 12, 21, FPS)


@pytest.mark.parametrize("shape", [(), (5,), (12, 21), (5, 12, 21, 3)])
def test_masks_of_another_number_of_axes_are_refused(tmp_path, shape):
    (tmp_path / "wave").mkdir()
    np.savez(tmp_path / "wave" / "a.npz", masks=np.ones(shape, np.uint8))
    with pytest.raises(UserError, match=r"a\.npz: masks of shape"):
        NumpyMasks(tmp_path, 25.0).load(ENTRY, 5, 12, 21, FPS)


def test_matlab_masks_of_four_axes_are_refused(tmp_path):
    (tmp_path / "wave").mkdir()
    savemat(tmp_path / "wave" / "a.mat", {"part_mask": np.ones((12, 21, 5, 2), np.uint8)})
    with pytest.raises(UserError, match=r"a\.mat: masks of shape"):
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


@pytest.mark.parametrize(("kind", "suffix"), KINDS)
def test_masks_of_every_format_are_matched_by_time(tmp_path, kind, suffix):
    write_masks(tmp_path / f"wave/a{suffix}", kind)
    matched_NHW = open_mask_source(tmp_path, (ENTRY,), mask_fps=25.0).load(ENTRY, 6, 12, 21, 30.0)
    assert np.array_equal(matched_NHW, MASK_NHW[[0, 1, 2, 3, 3, 4]])


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


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16"])
@settings(max_examples=40)
@given(mask_NHW=arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 9), st.integers(1, 17))))
def test_pictures_of_every_kind_give_back_their_masks(tmp_path_factory, mode, mask_NHW):
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder / "wave" / "a", mask_NHW, mode=mode)
    found_NHW = PngMasks(folder).load(ENTRY, *mask_NHW.shape, FPS)
    assert found_NHW.dtype == bool
    assert np.array_equal(found_NHW, mask_NHW)


def test_pictures_stand_in_the_order_of_their_numbers(tmp_path):
    folder = tmp_path / "wave" / "a"
    folder.mkdir(parents=True)
    names = ["clip2_9_x.PNG", "clip2_010_x.png", "clip2_11_x.png", "clip10_1_x.png"]
    for name in reversed(names):
        (folder / name).touch()
    for other in ("._clip2_9_x.png", "notes.txt"):
        (folder / other).touch()
    assert [path.name for path in PngMasks(tmp_path).files(ENTRY)] == names


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_pictures_in_colour_are_refused(tmp_path, mode):
    (tmp_path / "wave" / "a").mkdir(parents=True)
    Image.new(mode, (21, 12)).save(tmp_path / "wave" / "a" / "1.png")
    with pytest.raises(UserError, match=rf"wave/a/1.png: a picture in {mode}, .*; save masks as grey or palette"):
        open_mask_source(tmp_path, (ENTRY,)).load(ENTRY, 1, 12, 21, FPS)


def test_a_picture_of_another_size_among_the_masks_is_named(tmp_path):
    write_pictures(tmp_path / "wave" / "a", MASK_NHW)
    Image.new("1", (21, 13)).save(tmp_path / "wave" / "a" / "frame_10.png")
    with pytest.raises(UserError, match=r"frame_10.png: 21x13 pixels, but frame_8.png has 21x12"):
        PngMasks(tmp_path).load(ENTRY, 5, 12, 21, FPS)


@given(place=st.integers(0, 10_000), value=st.integers(1, 255), cut=st.integers(0, 200))
def test_a_damaged_picture_is_named_or_read(tmp_path_factory, place, value, cut):
    folder = tmp_path_factory.mktemp("damaged")
    write_pictures(folder / "wave" / "a", MASK_NHW[:1])
    path = folder / "wave" / "a" / "frame_8.png"
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= value
    path.write_bytes(content[: len(content) - cut])
    try:
        mask_NHW = PngMasks(folder).load(ENTRY, 1, 12, 21, FPS)
        result = f"{folder}: {mask_NHW.shape}"
    except UserError as error:
        result = str(error)
    assert result.startswith(str(folder))


def test_masks_of_kinetics_may_be_called_by_the_video_alone(tmp_path):
    entry = ClipEntry("wave/_-3456789ab_000012_000022", Path("x.mp4"), "wave")
    write_masks(tmp_path / "wave" / "_-3456789ab.npz", "npz bool")
    assert np.array_equal(open_mask_source(tmp_path, (entry,)).load(entry, 5, 12, 21, FPS), MASK_NHW)
    write_masks(tmp_path / "wave" / "-3456789ab.npz", "npz bool")
    write_masks(tmp_path / "wave" / "x_-3456789ab.npz", "npz bool")
    write_masks(tmp_path / f"{entry.name}.npz", "npz packed")
    source = NumpyMasks(tmp_path)
    assert source.files(entry) == (tmp_path / f"{entry.name}.npz",)
    for name in (
        "wave/_-3456789ab_12_22",
        "wave/x_-3456789ab_000012_000022",
        "wave/-3456789ab_000012_000022",
        "clap/_-3456789ab_000012_000022",
    ):
        assert source.files(ClipEntry(name, Path("x.mp4"), "wave")) == ()


def test_settings_tell_readers_and_rates_apart(tmp_path):
    sources: list[MaskFolder] = [JhmdbMasks(tmp_path), JhmdbMasks(tmp_path, 25.0), PngMasks(tmp_path)]
    assert len({str(source.settings()) for source in sources}) == 3


def test_a_misspelt_network_is_told_which_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"--masks deeplabv3_resnet5: no such folder, and no network; .*resnet50_fpn, .*"
    ):
        open_mask_source(Path("deeplabv3_resnet5"), (ENTRY,))

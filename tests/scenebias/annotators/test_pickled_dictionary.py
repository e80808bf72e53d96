import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from scenebias.annotators.pickled_dictionary import read_pickled_dictionary
from shards.errors import UserError

NUMBERS = st.sampled_from([np.bool_, np.uint8, np.int64, np.float16, np.float32, np.float64, np.dtype(">f4")])


def write_pickle(path: Path, pickled: bytes) -> Path:
    """A .npy file that promises one object, then ``pickled``."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(pickled)
    return path


def save(path: Path, content: Any, protocol: int) -> Path:
    """What np.save writes, at any version's protocol: NumPy before 1.17 used 2, later 3, now 4."""
    return write_pickle(path, pickle.dumps(np.array(content, dtype=object), protocol=protocol))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@settings(max_examples=40)
@given(
    array=NUMBERS.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))),
    column_major=st.booleans(),
)
def test_arrays_come_back_as_they_were(tmp_path_factory, protocol, array, column_major):
    array = np.array(array, order="F" if column_major else "C")
    path = save(tmp_path_factory.mktemp("pickles") / "d.npy", {"a b": {1: array}}, protocol)
    found = np.asarray(read_pickled_dictionary(path)["a b"][1])
    assert found.dtype == array.dtype
    assert np.array_equal(found, array, equal_nan=array.dtype.kind == "f")


def test_what_np_save_writes_is_read(tmp_path):
    content = {"x": [1, 2.5, None, True, "ü", (3,)], np.int64(7): np.float32(0.25), "e": {}}
    np.save(tmp_path / "d.npy", content)
    assert read_pickled_dictionary(tmp_path / "d.npy") == content


def test_pickles_of_python_2_are_read(tmp_path):
    """The bytes of arrays are text there, and so are keys; NumPy's module had its old name."""
    array = np.arange(-3, 400, 7, dtype=np.float32)
    inner = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I%d\ntcnumpy\ndtype\n"
        b"(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS%stb"
    ) % (len(array), ascii(array.tobytes().decode("latin1")).encode() + b"\n")
    outer = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(tcnumpy\ndtype\n"
        b"(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntbI00\n((dS'k\\xe9y'\n" + inner + b"sltb."
    )
    assert np.array_equal(
        pickle.loads(outer, encoding="latin1").item()["k\xe9y"], array
    )  # NumPy itself agrees: it is a pickle of an array
    found = read_pickled_dictionary(write_pickle(tmp_path / "d.npy", outer))
    assert np.array_equal(np.asarray(found["k\xe9y"]), array)


class Malicious:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("where", ["key", "value", "in an array", "instead"])
@pytest.mark.parametrize("function", ["os.system", "eval", "exec", "getattr", "numpy.load", "open"])
def test_no_pickle_runs_anything(tmp_path, monkeypatch, protocol, where, function):
    monkeypatch.chdir(tmp_path)
    calls = {
        "os.system": (os.system, "touch owned"),
        "eval": (eval, "__import__('pathlib').Path('owned').touch()"),
        "exec": (exec, "import pathlib; pathlib.Path('owned').touch()"),
        "getattr": (getattr, "text", "upper"),
        "numpy.load": (np.load, "d.npy", None, True),
        "open": (open, "owned", "w"),
    }
    evil = Malicious(*calls[function])
    contents = {"key": {evil: 1}, "value": {"a": {"b": evil}}, "in an array": {"a": np.array([evil, 1])}}
    if where == "instead":
        path = write_pickle(tmp_path / "d.npy", pickle.dumps(evil, protocol=protocol))
    else:
        path = save(tmp_path / "d.npy", contents[where], protocol)
    with pytest.raises(UserError, match=r"d\.npy: no dictionary saved with np.save \(it asks for \w+\.\w+\); only one"):
        read_pickled_dictionary(path)
    assert not (tmp_path / "owned").exists()


def names_of_stand_ins() -> list[bytes]:
    """All globals that a pickle of numbers names, as opcodes of protocol 0."""
    pickled = pickle.dumps(np.array({"a": np.float32(1), "b": b"", "c": b"\xff"}, dtype=object), protocol=2)
    names = {argument for opcode, argument, _ in pickletools.genops(pickled) if opcode.name == "GLOBAL"}
    assert len(names) >= 5
    return [b"c" + name.replace(" ", "\n").encode() + b"\n" for name in sorted(names)]


@pytest.mark.parametrize("name", names_of_stand_ins())
@pytest.mark.parametrize(
    "state",
    [
        b"(dS'__class__'\nI1\ns",
        b"(N(dS'__setstate__'\nI1\nst",
        b"(N(dS'__array__'\nI1\nst",
        b"(N(dS'__defaults__'\nNst",
        b"(N(dS'__code__'\nNst",
    ],
)
def test_a_pickle_cannot_change_how_later_ones_are_read(tmp_path, name, state):
    """The opcode BUILD sets attributes of whatever it finds."""
    with pytest.raises(UserError):
        read_pickled_dictionary(write_pickle(tmp_path / "evil.npy", name + state + b"b."))
    array = np.arange(5, dtype=np.float32)
    for protocol in (2, 4):
        path = save(tmp_path / "good.npy", {"a": array, "b": np.float64(2)}, protocol)
        content = read_pickled_dictionary(path)
        assert np.array_equal(np.asarray(content["a"]), array)
        assert content["b"] == 2


@given(place=st.integers(0, 10_000), value=st.integers(1, 255), cut=st.integers(0, 40))
def test_a_damaged_pickle_is_named_or_read(tmp_path_factory, place, value, cut):
    path = save(tmp_path_factory.mktemp("damaged") / "d.npy", {"a": np.arange(6.0), "b": np.float32(1)}, 4)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= value
    path.write_bytes(content[: len(content) - cut])
    try:
        result = f"{path}: {read_pickled_dictionary(path)}"
    except UserError as error:
        result = str(error)
    assert result.startswith(f"{path}: ")


@pytest.mark.parametrize("content", [[1], 7, "text", None, [{}]])
def test_a_pickle_of_anything_but_a_dictionary_is_refused(tmp_path, content):
    cell = np.empty((), dtype=object)
    cell[()] = content
    np.save(tmp_path / "d.npy", cell)
    with pytest.raises(UserError, match=r"d\.npy: no dictionary"):
        read_pickled_dictionary(tmp_path / "d.npy")


@pytest.mark.parametrize("array", [np.zeros(3), np.array([{}, {}], dtype=object), np.float32(1)])
def test_an_array_of_anything_but_one_object_is_refused(tmp_path, array):
    np.save(tmp_path / "d.npy", array)
    with pytest.raises(UserError, match=r"d\.npy: no dictionary saved with np.save \(an array of"):
        read_pickled_dictionary(tmp_path / "d.npy")


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY\x09\x09", b"no array"])
def test_a_file_that_is_no_npy_is_refused(tmp_path, content):
    path = tmp_path / "d.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"d\.npy: no dictionary saved with np.save"):
        read_pickled_dictionary(path)


@pytest.mark.parametrize(
    "array", [np.array(["x"]), np.array([1 + 2j]), np.array(["2020"], dtype="M8[s]"), np.array([{}])]
)
def test_arrays_of_anything_but_numbers_are_not_made(tmp_path, array):
    np.save(tmp_path / "d.npy", {"a": array})
    stand_in = read_pickled_dictionary(tmp_path / "d.npy")["a"]
    with pytest.raises(TypeError):
        np.asarray(stand_in)


def test_an_array_of_a_size_that_its_content_lacks_is_not_made(tmp_path):
    pickled = pickle.dumps(np.array({"a": np.zeros((7, 3), np.float32)}, dtype=object), protocol=2)
    assert pickled.count(b"K\x07K\x03\x86") == 1
    huge = pickled.replace(b"K\x07K\x03\x86", b"J\xff\xff\xff\x7fK\x03\x86")
    content = read_pickled_dictionary(write_pickle(tmp_path / "d.npy", huge))
    with pytest.raises(ValueError, match="cannot reshape"):
        np.asarray(content["a"])

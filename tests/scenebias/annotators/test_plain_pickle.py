import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenebias.annotators.plain_pickle import read_plain_pickle
from shards.errors import UserError

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner))


@given(value=VALUES, protocol=st.sampled_from([3, 4, 5]))
def test_plain_values_come_back_as_they_were(tmp_path_factory, value, protocol: int) -> None:
    path = tmp_path_factory.mktemp("pickles") / "a.pickle"
    path.write_bytes(pickle.dumps(value, protocol))
    assert read_plain_pickle(path) == value


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_that_a_pickle_asks_for_is_run(tmp_path: Path, protocol: int) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a.pickle"
    path.write_bytes(pickle.dumps({"a": [Hostile(victim)]}, protocol))
    with pytest.raises(UserError, match=r"a\.pickle: no pickle of lists.*it asks for .*mkdir"):
        read_plain_pickle(path)
    assert not victim.exists()


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps([1, 2])[:-3], pickle.dumps(np.zeros(3))])
def test_whatever_else_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pickle"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.pickle: no pickle of lists"):
        read_plain_pickle(path)
    with pytest.raises(UserError, match=r"nowhere\.pickle: no pickle of lists"):
        read_plain_pickle(tmp_path / "nowhere.pickle")

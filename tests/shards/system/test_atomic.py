import pytest

from shards.system.atomic import atomic_write, write_json


def test_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_leaves_the_old_content_and_no_temporary_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half():
        with atomic_write(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_the_same_bytes_whatever_the_order_of_keys(tmp_path):
    write_json(tmp_path / "a", {"x": 1, "é": [2]})
    write_json(tmp_path / "b", {"é": [2], "x": 1})
    assert (
        (tmp_path / "a").read_bytes()
        == (tmp_path / "b").read_bytes()
        == '{\n  "x": 1,\n  "é": [\n    2\n  ]\n}\n'.encode()
    )

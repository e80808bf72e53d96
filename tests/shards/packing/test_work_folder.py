import multiprocessing
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.format.manifest import MANIFEST_NAME
from shards.packing.work_folder import WorkFolder


def fill(out: Path, request: str = "request", *, overwrite: bool = False, content: str = "new") -> None:
    """Pack a data set of one shard."""
    work = WorkFolder(out)
    with work.prepared(request, overwrite=overwrite):
        work.shard_files(0).journal.write_text("done")
        work.shard_files(0).final.write_text(content)
        (work.dataset / MANIFEST_NAME).write_text("{}")
        work.move_into_place(overwrite=overwrite)


def leave_unfinished(out: Path, request: str) -> None:
    work = WorkFolder(out)
    with work.prepared(request, overwrite=True):
        work.shard_files(0).journal.write_text("half")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_data_set_appears_when_it_is_complete_and_nothing_else_stays(tmp_path):
    fill(tmp_path / "deep" / "out")
    assert names(tmp_path / "deep") == {"out"}
    assert names(tmp_path / "deep" / "out") == {"shard-000000.tar", MANIFEST_NAME}


def test_an_error_before_anything_is_done_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), WorkFolder(tmp_path / "deep" / "out").prepared("request", overwrite=False):
        raise KeyboardInterrupt
    assert names(tmp_path) == set()


def test_work_is_taken_up_by_the_same_request_only(tmp_path):
    out = tmp_path / "out"
    leave_unfinished(out, "request")
    work = WorkFolder(out)
    with pytest.raises(UserError, match=r"holds an unfinished pack .*--overwrite"):
        fill(out, "another")
    assert work.holds("request")
    with work.prepared("request", overwrite=False):
        assert work.shard_files(0).journal.read_text() == "half"
    fill(out, "another", overwrite=True)
    assert names(tmp_path) == {"out"}


def test_half_written_files_are_swept_away(tmp_path):
    out = tmp_path / "out"
    leave_unfinished(out, "request")
    work = WorkFolder(out)
    leftovers = [work.dataset / ".shard-000000.idx.77.tmp", work.shard_files(0).journal.with_name(".x.77.tmp")]
    for leftover in leftovers:
        leftover.write_text("")
    with work.prepared("request", overwrite=False):
        assert not any(leftover.exists() for leftover in leftovers)


def test_a_second_process_is_kept_out(tmp_path):
    out = tmp_path / "out"
    with WorkFolder(out).prepared("request", overwrite=False):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            with pytest.raises(UserError, match="another process is packing into it"):
                pool.apply(fill, (out,))
        assert WorkFolder(out).holds("request")


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_a_kill_amid_the_renames_loses_neither_data_set(tmp_path, moved):
    """The renames of `move_into_place`, cut off after each of them."""
    out = tmp_path / "out"
    fill(out, "old", content="old")
    leave_unfinished(out, "request")
    work = WorkFolder(out)
    work.shard_files(0).final.write_text("new")
    (work.dataset / MANIFEST_NAME).write_text("{}")
    if moved >= 1:
        out.rename(work.path / "replaced")
    if moved >= 2:
        work.dataset.rename(out)
    if moved >= 3:
        (work.path / "request.json").unlink()
    if moved >= 2:  # the next call sees that the data set is complete
        work.remove_leftovers()
    else:
        with work.prepared("request", overwrite=True):
            assert (out / "shard-000000.tar").read_text() == "old"
            assert work.shard_files(0).journal.read_text() == "half"
            work.move_into_place(overwrite=True)
    assert names(tmp_path) == {"out"}
    assert (out / "shard-000000.tar").read_text() == "new"


def test_a_complete_leftover_does_not_stop_another_request(tmp_path):
    out = tmp_path / "out"
    leave_unfinished(out, "request")
    (WorkFolder(out).dataset / MANIFEST_NAME).write_text("{}")
    WorkFolder(out).dataset.rename(out)
    fill(out, "another", overwrite=True)
    assert names(tmp_path) == {"out"}


def test_the_work_lies_beside_the_target_of_a_link(tmp_path):
    (tmp_path / "disk" / "target").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "target")
    assert WorkFolder(tmp_path / "out").path == tmp_path / "disk" / ".target.packing"
    fill(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert MANIFEST_NAME in names(tmp_path / "disk" / "target")


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_comes_to_the_place_meanwhile_is_not_removed(tmp_path, overwrite):
    out = tmp_path / "out"
    work = WorkFolder(out)
    with work.prepared("request", overwrite=overwrite):
        work.shard_files(0).journal.write_text("done")
        out.mkdir()
        (out / "thesis.tex").write_text("precious")
        with pytest.raises(UserError, match="holds other files"):
            work.move_into_place(overwrite=overwrite)
    assert (out / "thesis.tex").read_text() == "precious"
    assert work.holds("request")


def take_lock(out: Path, number: int) -> None:
    with WorkFolder(out).shard_locks() as locks:
        locks.take(number)


def test_a_shard_is_made_by_one_process_at_a_time(tmp_path):
    out = tmp_path / "out"
    with WorkFolder(out).prepared("request", overwrite=False), WorkFolder(out).shard_locks() as locks:
        locks.take(3)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(take_lock, (out, 4))
            with pytest.raises(UserError, match=r"another process makes shard-000003\.tar"):
                pool.apply(take_lock, (out, 3))

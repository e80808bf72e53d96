from itertools import pairwise

import pytest

from shards.format.growing_shard import GrowingShard
from shards.format.index import read_shard
from shards.packing.journal import Commit, ShardFiles, ShardJournal


@pytest.fixture
def files(tmp_path) -> ShardFiles:
    return ShardFiles(tmp_path / "shard-000000.tar", tmp_path / "growing.tar", tmp_path / "journal")


def write(files: ShardFiles, synthetic_sample, stop: int = 6, finish: bool = True) -> ShardJournal:
    """Go on with a shard of 6 samples up to ``stop``, two at a time."""
    journal = ShardJournal.load("request", files)
    if journal.finished:
        return journal
    with GrowingShard(files.growing, journal.bytes) as file:
        for first in range(journal.clips, stop, 2):
            for number in (first, first + 1):
                file.append(number, synthetic_sample(number, 3).components())
            size, crc32 = file.sync()
            journal.add(Commit(clips=2, bytes=size, crc32=crc32, broken={f"a/{first}": "dämaged"}))
        if stop == 6 and finish:
            journal.finish(file.finish(files.final))
    return journal


@pytest.fixture
def undisturbed(tmp_path_factory, synthetic_sample) -> ShardFiles:
    folder = tmp_path_factory.mktemp("undisturbed")
    files = ShardFiles(folder / "shard-000000.tar", folder / "growing.tar", folder / "journal")
    write(files, synthetic_sample)
    return files


def assert_same(files: ShardFiles, expected: ShardFiles) -> None:
    for suffix in (".tar", ".idx"):
        assert files.final.with_suffix(suffix).read_bytes() == expected.final.with_suffix(suffix).read_bytes()
    assert files.journal.read_bytes() == expected.journal.read_bytes()
    assert not files.growing.exists()


@pytest.mark.parametrize("stop", [0, 2, 4, 6])
def test_a_continued_shard_is_that_of_an_undisturbed_run(files, synthetic_sample, undisturbed, stop):
    write(files, synthetic_sample, stop, finish=False)
    journal = write(files, synthetic_sample)
    assert_same(files, undisturbed)
    assert [commit.broken for commit in journal.commits] == [{f"a/{first}": "dämaged"} for first in (0, 2, 4)]


def test_a_tail_that_was_not_made_durable_does_not_count(files, synthetic_sample, undisturbed):
    """Cut the shard and the journal at every interesting place, as a crash might."""
    write(files, synthetic_sample, 4)
    shard, journal = files.growing.read_bytes(), files.journal.read_bytes()
    ends = [0, *(place + 1 for place, byte in enumerate(journal) if byte == ord("\n"))]
    cuts = [cut for start, end in pairwise(ends) for cut in (start, (start + end) // 2, end - 1)]
    sizes = {0: 0} | {k + 1: commit.bytes for k, commit in enumerate(write(files, synthetic_sample, 4).commits)}
    for cut in cuts:
        for shard_bytes in (len(shard), sizes[1] + 7, sizes[1] - 1, 0):
            files.remove()
            files.journal.write_bytes(journal[:cut])
            files.growing.write_bytes(shard[:shard_bytes])
            lines = journal[:cut].count(b"\n")
            expected = 2 * max(0, min(lines - 1, sum(shard_bytes >= sizes[k] for k in (1, 2))))
            assert ShardJournal.load("request", files).clips == expected
            write(files, synthetic_sample)
            assert_same(files, undisturbed)


def test_a_damaged_byte_in_the_shard_is_noticed(files, synthetic_sample, undisturbed):
    write(files, synthetic_sample, 4)
    shard = bytearray(files.growing.read_bytes())
    shard[-3000] ^= 1
    files.growing.write_bytes(shard)
    assert ShardJournal.load("request", files).clips == 2
    write(files, synthetic_sample)
    assert_same(files, undisturbed)


def test_work_for_another_request_is_removed(files, synthetic_sample):
    write(files, synthetic_sample)
    assert ShardJournal.load("another", files).clips == 0
    assert list(files.journal.parent.iterdir()) == []


def test_a_shard_that_was_renamed_but_not_noted_is_not_made_again(files, synthetic_sample, undisturbed):
    write(files, synthetic_sample)
    whole = files.journal.read_bytes()
    files.journal.write_bytes(whole[: whole.rindex(b'{"finished')])
    journal = ShardJournal.load("request", files)
    assert (journal.clips, journal.finished) == (6, False)
    write(files, synthetic_sample)
    assert_same(files, undisturbed)


def test_a_finished_shard_that_is_gone_or_cut_is_made_again(files, synthetic_sample, undisturbed):
    for damage in (files.final.unlink, lambda: files.final.write_bytes(files.final.read_bytes()[:-1])):
        write(files, synthetic_sample)
        damage()
        assert not ShardJournal.load("request", files).finished
        write(files, synthetic_sample)
        assert_same(files, undisturbed)


def test_a_shard_without_any_whole_clip_has_no_file(files):
    journal = ShardJournal.load("request", files)
    journal.add(Commit(clips=2, bytes=0, crc32=0, broken={"a/0": "empty", "a/1": "empty"}))
    journal.finish(None)
    again = ShardJournal.load("request", files)
    assert (again.finished, again.record, again.clips) == (True, None, 2)


def test_every_sample_of_a_continued_shard_is_indexed(files, synthetic_sample):
    write(files, synthetic_sample, 2)
    journal = write(files, synthetic_sample)
    assert journal.record is not None
    assert journal.record.samples == len(list(read_shard(files.final))) == 6

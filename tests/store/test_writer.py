"""The writer on a real environment: what a commit keeps, and what an abort takes back."""

from pathlib import Path

import lmdb
import pytest

from mta.message import QueueName
from mta.store import (
    QueueRow,
    Reader,
    StorageFull,
    StoreError,
    Writer,
    decode_queue,
    move_wake,
    number,
    number_key,
    open_queue,
    remove_queue,
)
from mta.store.codec import ROW_OCTETS

from .conftest import MAP_OCTETS

NAME = QueueName("default", "", 0, "a.test", "")


def read(writer: Writer, tmp_path: Path, extents: tuple[tuple[int, int], ...]) -> bytes:
    """Return content as a reader sees it; one process can have the environment open once."""
    writer.close()
    reader = Reader(str(tmp_path), MAP_OCTETS)
    try:
        return reader.content(extents)
    finally:
        reader.close()


def numbers(writer: Writer) -> dict[bytes, int]:
    return {key: number(value) for key, value in writer.look("meta", b"", 20)}


# Content


@pytest.mark.parametrize("octets", [0, 1, 2015, 2016, 2017, 4032, 300_000])
def test_extent_of_any_size_is_read_back_and_removed_whole(writer: Writer, tmp_path: Path, octets: int) -> None:
    content = bytes(i % 251 for i in range(octets))
    writer.begin()
    before = writer.add_extent(b"before")
    extent = writer.add_extent(content)
    after = writer.add_extent(b"after")
    writer.commit()
    assert writer.live_octets == octets + 11
    whole = read(writer, tmp_path, ((before, 6), (extent, octets), (after, 5)))
    assert whole == b"before" + content + b"after"
    writer = Writer(str(tmp_path), MAP_OCTETS)
    writer.begin()
    writer.remove_extent(extent, octets)
    writer.commit()
    assert writer.live_octets == 11
    assert read(writer, tmp_path, ((before, 6), (after, 5))) == b"beforeafter"
    if octets:
        with pytest.raises(LookupError):
            read(writer, tmp_path, ((extent, octets),))


def test_extents_over_many_commits_are_appended_in_order(writer: Writer, tmp_path: Path) -> None:
    extents = []
    for round_ in range(5):
        writer.begin()
        extents += [(writer.add_extent(b"%d.%d" % (round_, n) * 2000), 6000) for n in range(3)]
        writer.commit()
    assert [extent for extent, _ in extents] == sorted(extent for extent, _ in extents)
    expected = b"".join(b"%d.%d" % (round_, n) * 2000 for round_ in range(5) for n in range(3))
    assert read(writer, tmp_path, tuple(extents)) == expected


def test_remove_extent_that_is_not_there_is_an_error(writer: Writer) -> None:
    writer.begin()
    with pytest.raises(StoreError, match="chunk 0 of extent 7"):
        writer.remove_extent(7, 1)
    writer.abort()


# Rows


def test_rows_add_replace_remove_say_what_they_found(writer: Writer) -> None:
    writer.begin()
    assert writer.add("gone", b"a", b"1")
    assert not writer.add("gone", b"a", b"2")
    assert writer.get("gone", b"a") == b"1"
    writer.replace("gone", b"a", b"3")
    assert writer.scan("gone", b"", 5) == [(b"a", b"3")]
    assert writer.look("gone", b"", 5) == []
    writer.remove("gone", b"a")
    with pytest.raises(StoreError, match="is not there"):
        writer.remove("gone", b"a")
    assert not writer.discard("gone", b"a")
    writer.commit()


@pytest.mark.parametrize("table", ["message", "part", "recipient", "due", "event"])
def test_row_above_the_limit_is_refused_in_every_table(writer: Writer, table: str) -> None:
    writer.begin()
    with pytest.raises(ValueError, match="over the limit"):
        writer.add(table, b"k" * 16, bytes(ROW_OCTETS - 15))
    with pytest.raises(ValueError, match="over the limit"):
        writer.replace(table, b"k" * 16, bytes(ROW_OCTETS - 15))
    with pytest.raises(ValueError, match="over the limit"):
        writer.add_event(bytes(ROW_OCTETS - 7))
    assert writer.add(table, b"k" * 16, bytes(ROW_OCTETS - 16))
    writer.commit()


@pytest.mark.parametrize("key", [b"", bytes(512)])
def test_key_that_lmdb_does_not_take_is_a_store_error(writer: Writer, key: bytes) -> None:
    writer.begin()
    with pytest.raises(StoreError):
        writer.add("message", key, b"")
    writer.abort()


def test_writer_without_transaction_refuses_to_write(writer: Writer) -> None:
    with pytest.raises(StoreError, match="no transaction"):
        writer.add("gone", b"a", b"")


# Abort


def test_abort_takes_every_number_and_counter_back(writer: Writer, tmp_path: Path) -> None:
    writer.begin()
    writer.count("a", "received", 5)
    open_queue(writer, NAME, 100)
    writer.add_extent(b"x")
    writer.add_event(b"e")
    writer.commit()
    before = numbers(writer)
    writer.begin()
    writer.new_incarnation()
    open_queue(writer, QueueName("b", "", 0, "b.test", ""), 100)
    writer.add_extent(bytes(5000))
    writer.add_event(b"f")
    writer.count("a", "received", 2)
    writer.count("b", "received", 3)
    writer.count("c", "bounced", 4)
    writer.abort()
    assert writer.live_octets == 1
    # The next transaction goes on where the last commit ended.
    writer.begin()
    assert open_queue(writer, QueueName("c", "", 0, "c.test", ""), 100) == before[b"next_queue"]
    assert writer.add_extent(b"y") == before[b"next_extent"]
    assert writer.new_incarnation() == before[b"incarnation"] + 1
    writer.add_event(b"g")
    writer.count("b", "received", 1)
    writer.commit()
    writer.close()
    reader = Reader(str(tmp_path), MAP_OCTETS)
    assert {row.tenant: (row.received, row.bounced) for row in reader.counters()} == {"a": (5, 0), "b": (1, 0)}
    assert reader.events(0, 10) == [(1, b"e"), (2, b"g")]
    assert reader.content(((1, 1), (2, 1))) == b"xy"
    reader.close()


# Queues


def test_queue_opened_twice_is_one_until_it_is_removed(writer: Writer) -> None:
    writer.begin()
    queue = open_queue(writer, NAME, 100)
    assert open_queue(writer, NAME, 200) == queue
    move_wake(writer, queue, QueueRow(NAME, 100), 900)
    writer.commit()
    assert [key for key, _ in writer.look("wake", b"", 9)] == [number_key(900) + number_key(queue)]
    writer.begin()
    remove_queue(writer, queue, NAME, 900)
    writer.commit()
    assert not any(writer.look(table, b"", 9) for table in ("queue", "queue_name", "wake"))
    writer.begin()
    assert open_queue(writer, NAME, 300) > queue
    writer.commit()


def test_queue_that_sleeps_and_takes_mail_wakes_after_a_restart(writer: Writer) -> None:
    writer.begin()
    queue = open_queue(writer, NAME, 100)
    move_wake(writer, queue, QueueRow(NAME, 100), 900)
    # A part is due at 200 now: the row has to be a lower bound of it.
    assert open_queue(writer, NAME, 200) == queue
    writer.commit()
    assert [key for key, _ in writer.look("wake", b"", 9)] == [number_key(200) + number_key(queue)]
    assert decode_queue(writer.look_up("queue", number_key(queue)) or b"").wake == 200


# The outbox, and what lasts


def test_remove_events_goes_in_slices(writer: Writer, tmp_path: Path) -> None:
    writer.begin()
    for n in range(10):
        writer.add_event(b"%d" % n)
    writer.commit()
    left = []
    for _ in range(3):
        writer.begin()
        left.append(writer.remove_events(8, 3))
        writer.commit()
    assert left == [True, True, False]
    assert writer.look("event", b"", 10) == [(number_key(9), b"8"), (number_key(10), b"9")]


def test_reopen_emptied_outbox_keeps_its_numbers_and_incarnations_never_repeat(tmp_path: Path) -> None:
    incarnations, nodes = [], set()
    for round_ in range(3):
        writer = Writer(str(tmp_path), MAP_OCTETS)
        writer.begin()
        incarnations.append(writer.new_incarnation())
        writer.add_event(b"e")
        writer.commit()
        assert writer.look("event", b"", 9) == [(number_key(round_ + 1), b"e")]
        writer.begin()
        writer.remove_events(round_ + 1, 10)
        writer.commit()
        nodes.add(writer.node)
        writer.close()
    assert incarnations == [1, 2, 3]
    assert len(nodes) == 1


def test_schema_of_another_number_is_an_error_and_leaves_the_environment_closed(tmp_path: Path) -> None:
    Writer(str(tmp_path), MAP_OCTETS).close()
    with lmdb.open(str(tmp_path / "queue"), max_dbs=32, map_size=MAP_OCTETS) as env:
        table = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            assert txn.put(b"schema", number_key(2), db=table)
    for _ in range(2):
        with pytest.raises(StoreError, match="another version"):
            Writer(str(tmp_path), MAP_OCTETS)


def test_data_dir_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("")
    with pytest.raises(StoreError, match="queue"):
        Writer(str(tmp_path), MAP_OCTETS)


# A full map


def fill(writer: Writer, octets: int) -> int:
    """Put extents, one a commit, until the map is full; return how many went in."""
    for n in range(1_000):
        writer.begin()
        try:
            writer.add_extent(bytes(octets))
            assert writer.add("gone", b"%016d" % n, b"")
            writer.commit()
        except StorageFull:
            writer.abort()
            return n
    raise AssertionError("the map never filled")


@pytest.mark.parametrize("octets", [40_000, 100_000])
def test_map_full_abort_and_the_environment_works_on(tmp_path: Path, octets: int) -> None:
    writer = Writer(str(tmp_path), 1 << 20)
    n = fill(writer, octets)
    assert n > 5
    assert writer.live_octets == n * octets
    for at in range(n):
        writer.begin()
        writer.remove_extent(at + 1, octets)
        writer.remove("gone", b"%016d" % at)
        writer.commit()
    assert writer.live_octets == 0
    assert fill(writer, octets) > n // 2
    writer.close()


def test_map_full_in_the_middle_of_a_transaction_is_storage_full_for_deletes_too(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path), 1 << 20)
    writer.begin()
    for n in range(1000):
        assert writer.add("gone", b"%016d" % n, bytes(100))
    writer.commit()
    writer.begin()
    with pytest.raises(StorageFull):
        add_many(writer, "message")
    # A delete copies its page first, and there is none left to copy it to.
    with pytest.raises((StorageFull, StoreError)):
        writer.remove("gone", b"%016d" % 500)
    writer.abort()
    writer.begin()
    writer.remove("gone", b"%016d" % 500)
    writer.commit()
    writer.close()


def add_many(writer: Writer, table: str) -> None:
    for n in range(10_000):
        writer.add(table, b"%016d" % n, bytes(1000))

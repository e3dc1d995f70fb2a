"""The reader: what another process sees of the writer's commits."""

import subprocess
import sys
from pathlib import Path

import pytest

from mta.message import QueueName
from mta.store import (
    MessageRow,
    PartRow,
    Reader,
    RecipientRow,
    Writer,
    due_key,
    encode,
    number_key,
    open_queue,
    part_name,
    recipient_key,
)
from tests.store.conftest import MAP_OCTETS

NAME = QueueName("default", "", 0, "a.test", "")

WATCH = """
import sys
from mta.store import Reader
reader = Reader(sys.argv[1], 1 << 30)
for _ in sys.stdin:
    print(reader.n_messages(), len(reader.events(0, 100)), flush=True)
"""


def put(writer: Writer, id_: bytes, parts: tuple[tuple[str, ...], ...]) -> None:
    queue = open_queue(writer, NAME, 100)
    n_recipients = sum(map(len, parts))
    extent = writer.add_extent(b"content")
    message = MessageRow("s@a.test", 7, 90, "default", "", ((extent, 7),), 0, len(parts), n_recipients)
    assert writer.add("message", id_, encode(message))
    for at, addresses in enumerate(parts):
        name = part_name(id_, at)
        assert writer.add("part", name, encode(PartRow(queue, 100, 900, 0, 0, "", "", len(addresses), 1)))
        assert writer.add("due", due_key(queue, 100, name), b"")
        for number_, address in enumerate(addresses):
            assert writer.add("recipient", recipient_key(name, number_), encode(RecipientRow(address, "", None, 0)))
    writer.add_event(b"received")


def test_reader_environment_that_is_missing_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no queue yet"):
        Reader(str(tmp_path), MAP_OCTETS)
    (tmp_path / "queue").mkdir()
    with pytest.raises(FileNotFoundError, match="no queue yet"):
        Reader(str(tmp_path), MAP_OCTETS)


def test_reader_messages_are_whole_and_paged_oldest_first(writer: Writer, tmp_path: Path) -> None:
    ids = [bytes([n]) * 16 for n in (3, 1, 2)]
    writer.begin()
    for id_ in ids:
        put(writer, id_, (("x@a.test", "y@a.test"), ("z@a.test",)))
    writer.commit()
    writer.close()
    reader = Reader(str(tmp_path), MAP_OCTETS)
    assert [id_ for id_, queued in reader.page(b"", 10) if queued] == sorted(ids)
    assert [id_ for id_, queued in reader.page(ids[1], 1) if queued] == [ids[2]]
    queued = reader.queued(ids[0])
    assert queued is not None
    assert [[row.address for _, row in part.recipients] for part in queued.parts] == [
        ["x@a.test", "y@a.test"],
        ["z@a.test"],
    ]
    assert queued.parts[0].queue.name == NAME
    assert reader.content(queued.message.extents) == b"content"
    assert reader.queued(bytes(16)) is None
    assert [name for name, _ in reader.parts(part_name(ids[1], 1), 3)] == [
        part_name(ids[2], 0),
        part_name(ids[2], 1),
        part_name(ids[0], 0),
    ]
    known = reader.leased(part_name(ids[0], 1))
    assert known is not None
    assert known.recipients == ((0, "z@a.test"),)
    assert reader.leased(part_name(bytes(16), 0)) is None
    reader.close()


def test_reader_ids_queues_and_what_is_due_are_paged(writer: Writer, tmp_path: Path) -> None:
    ids = [bytes([n]) * 16 for n in (1, 2, 3)]
    writer.begin()
    for id_ in ids:
        put(writer, id_, (("x@a.test",),))
    other = open_queue(writer, QueueName("default", "", 0, "b.test", ""), 100)
    writer.replace("queue", number_key(other + 1), b"\xc1")
    writer.commit()
    writer.close()
    reader = Reader(str(tmp_path), MAP_OCTETS)
    assert reader.ids(b"", 2) == ids[:2]
    assert reader.ids(ids[1], 2) == ids[2:]
    assert reader.ids(ids[2], 2) == []
    (first, row), *rest = reader.queues(b"", 10)
    assert row is not None
    assert row.name == NAME
    assert [(key, queue and queue.name.domain) for key, queue in rest] == [
        (number_key(other), "b.test"),
        (number_key(other + 1), None),
    ]
    assert reader.queues(first, 1) == rest[:1]
    keys = [due_key(1, 100, part_name(id_, 0)) for id_ in ids]
    assert reader.due(first, b"", 2) == keys[:2]
    assert reader.due(first, keys[1], 2) == keys[2:]
    assert reader.due(number_key(other), b"", 2) == []
    reader.close()


def test_reader_in_another_process_sees_each_commit(writer: Writer, tmp_path: Path) -> None:
    writer.begin()
    writer.commit()
    command = [sys.executable, "-c", WATCH, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for n in range(4):
            child.stdin.write("?\n")
            child.stdin.flush()
            assert child.stdout.readline() == f"{n} {n}\n"
            writer.begin()
            put(writer, bytes([n]) * 16, (("x@a.test",),))
            writer.commit()
        child.stdin.close()
        assert child.wait(5) == 0


def test_reader_events_above_a_number_come_in_order(writer: Writer, tmp_path: Path) -> None:
    writer.begin()
    for n in range(5):
        writer.add_event(b"%d" % n)
    writer.commit()
    writer.close()
    reader = Reader(str(tmp_path), MAP_OCTETS)
    assert reader.events(0, 2) == [(1, b"0"), (2, b"1")]
    assert reader.events(3, 9) == [(4, b"3"), (5, b"4")]
    assert reader.events(5, 9) == []
    reader.close()

"""`verify` on a good queue, on one damaged by hand in each way, and on one that changes meanwhile."""

from pathlib import Path

import pytest

from mta.queue.apply import put_message, settle_part
from mta.report import decode
from mta.store import LOST_EXTENT, NEVER_MS, Writer, decode_message, number_key, verify, wake_key
from mta.store.keys import TABLES
from tests.queue.samples import T0, put, settlement

from .damage import DAMAGES, MAP_OCTETS, Damage, id_of, look, make_queue, make_timers, raw


def test_verify_good_queue_with_something_in_every_table_says_nothing(tmp_path: Path) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        assert [table for table in TABLES if not tables.rows(table)] == []
    assert look(tmp_path) == []


def test_verify_new_queue_says_nothing(tmp_path: Path) -> None:
    Writer(str(tmp_path), MAP_OCTETS).close()
    assert look(tmp_path) == []


def test_verify_queue_without_parts_is_nothing_wrong(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path), MAP_OCTETS)
    message = put(1, ("x@b.test",))
    writer.begin()
    put_message(writer, message.head, message.content, T0, repeat=False)
    writer.commit()
    writer.begin()
    settle_part(writer, settlement(message, 0, "delivered"), T0 + 1, T0, keep_id=False)
    for key, _ in writer.scan("timer", b"", 10):
        writer.remove("timer", key)
    writer.commit()
    writer.close()
    with raw(tmp_path) as tables:
        assert len(tables.rows("queue")) == 1
    assert look(tmp_path) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name.replace(" ", "-"))
def test_verify_names_exactly_the_damage(tmp_path: Path, damage: Damage) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        damage.do(tables)
    found = look(tmp_path)
    left = list(damage.wanted)
    for wrong in found:
        fitting = [want for want in left if want[0] == wrong.table and want[1] in wrong.what]
        assert fitting, f"{damage.name}: nobody asked for: {wrong}"
        left.remove(fitting[0])
    assert not left, f"{damage.name}: not said"


def test_verify_line_names_table_key_and_what_is_wrong(tmp_path: Path) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        tables.put("message", id_of(2), b"\xc1")
        tables.put("meta", b"next_event", number_key(1))
    lines = [str(wrong) for wrong in look(tmp_path)]
    assert f"message {id_of(2).hex()}: the row cannot be decoded" in lines
    assert "meta next_event: it says 1, and an event has the number 10" in lines


@pytest.mark.parametrize(("message", "is_idle"), [(2, False), (4, True)])
def test_verify_lost_content_is_wrong_only_where_it_would_be_sent(tmp_path: Path, message: int, is_idle: bool) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        extents = decode_message(tables.get("message", id_of(message))).extents
        tables.change("message", id_of(message), decode_message, extents=(*extents, (LOST_EXTENT, 100)), octets=107)
    assert [wrong.what for wrong in look(tmp_path)] == (
        [] if is_idle else ["some of its content is lost, and it is not set aside or held"]
    )


def test_verify_snapshot_does_not_see_what_is_written_meanwhile(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path), MAP_OCTETS)
    puts = [put(n, (f"x@{n % 7}.test",), content=bytes(3000)) for n in range(1, 60)]
    writer.begin()
    for message in puts[:30]:
        put_message(writer, message.head, message.content, T0, repeat=False)
    make_timers(writer)
    writer.commit()
    with writer.snapshot() as snapshot:
        found = verify(snapshot, decode)
        # It has begun, and stands somewhere in the first messages, when they are settled and others come.
        writer.begin()
        for message in puts[:30]:
            settle_part(writer, settlement(message, 0, "delivered"), T0 + 1, T0, keep_id=False)
        for message in puts[30:]:
            put_message(writer, message.head, message.content, T0 + 2, repeat=False)
        writer.commit()
        assert list(found) == []
    writer.close()


def test_never_is_one_number() -> None:
    # It is the last of its queue, and the last to wake.
    assert wake_key(NEVER_MS, 0) > wake_key(1 << 62, 1 << 62)

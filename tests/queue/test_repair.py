"""The repair: each kind of damage is mended, and nothing that anybody might want back is gone."""

import json
from base64 import b64decode
from pathlib import Path

import pytest

from mta.queue import repair
from mta.report import Fault, decode
from mta.store import LOST_EXTENT, NEVER_MS, Reader, Writer, decode_message, decode_part, number_key, recipient_key
from mta.store.codec import decode_counter
from mta.store.keys import TABLES, body_key, tenant_key
from tests.store.damage import CONTENT, DAMAGES, MAP_OCTETS, Damage, Raw, id_of, look, make_queue, part_of, raw


def mend(data_dir: Path) -> list[str]:
    """Repair, and return what was said; nothing may be left."""
    said: list[str] = []
    assert repair(str(data_dir), MAP_OCTETS, said.append) == []
    return said


def damaged(data_dir: Path) -> list[tuple[str, bytes, bytes]]:
    """Return the rows in the files of what is damaged: table, key, value."""
    rows = []
    for file in sorted(data_dir.glob("damaged/*")):
        assert file.stat().st_mode & 0o777 == 0o600
        for line in file.read_text().splitlines():
            row = json.loads(line)
            assert row["what"]
            rows.append((row["table"], b64decode(row["key"]), b64decode(row["value"])))
    return rows


def everything(data_dir: Path) -> dict[str, list[tuple[bytes, bytes]]]:
    with raw(data_dir) as tables:
        return {table: tables.rows(table) for table in TABLES}


def test_repair_good_queue_is_left_alone(tmp_path: Path) -> None:
    make_queue(tmp_path)
    before = everything(tmp_path)
    assert mend(tmp_path) == []
    assert everything(tmp_path) == before
    assert not (tmp_path / "damaged").exists()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name.replace(" ", "-"))
def test_repair_leaves_nothing_to_verify_and_no_content_lost(tmp_path: Path, damage: Damage) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        damage.do(tables)
    before = everything(tmp_path)
    # Opening the queue to write makes a number again that was missing; there is nothing left to say then.
    assert mend(tmp_path) or damage.name == "incarnation missing"
    assert look(tmp_path) == []
    after = everything(tmp_path)
    # Every message, recipient and chunk is where it was, under a new extent, or in the file.
    moved = damaged(tmp_path)
    left = {(table, key) for table in ("message", "part", "recipient") for key, _ in after[table]}
    left |= {(table, key) for table, key, _ in moved}
    assert {(table, key) for table in ("message", "part", "recipient") for key, _ in before[table]} <= left
    chunks = {value for _, value in after["body"]} | {value for table, _, value in moved if table == "body"}
    whole = b"".join(value for _, value in after["body"])
    assert all(value in chunks or value in whole for _, value in before["body"])
    # Another run finds nothing to do.
    assert mend(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [damage for damage in DAMAGES if {table for table, _ in damage.wanted} <= {"due", "wake", "timer", "queue_name"}],
    ids=lambda damage: damage.name.replace(" ", "-"),
)
def test_repair_of_derivable_rows_gives_back_the_same_tables(tmp_path: Path, damage: Damage) -> None:
    make_queue(tmp_path)
    before = everything(tmp_path)
    with raw(tmp_path) as tables:
        damage.do(tables)
    mend(tmp_path)
    after = everything(tmp_path)
    if "bounce" in damage.name:
        before["part"], before["timer"] = after["part"], after["timer"]
    assert after == before


def test_repair_two_damages_in_one_message_are_mended_in_rounds(tmp_path: Path) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        tables.put("part", part_of(1), b"\xc1")
        tables.put("part", part_of(1, 1), b"\xc1")
        tables.delete("queue", tables.queue("d.test"))
        tables.put("meta", b"next_queue", number_key(1))
        tables.put("meta", b"next_extent", number_key(1))
        tables.delete("body", body_key(tables.extent(3), 0))
        tables.put("counter", tenant_key("default"), b"\xc1")
    mend(tmp_path)
    assert look(tmp_path) == []
    rows = damaged(tmp_path)
    assert {key for table, key, _ in rows if table == "part"} == {part_of(1), part_of(1, 1)}
    assert {key for table, key, _ in rows if table == "message"} == {id_of(1)}
    assert len([key for table, key, _ in rows if table == "recipient"]) == 3
    # Shared with message 6, which still has it.
    assert content(tmp_path, 6) == CONTENT


def content(data_dir: Path, message: int) -> bytes:
    reader = Reader(str(data_dir), MAP_OCTETS)
    try:
        queued = reader.queued(id_of(message))
        assert queued is not None
        return reader.content(queued.message.extents)
    finally:
        reader.close()


def test_repair_incomplete_content_is_set_aside_and_cannot_be_sent(tmp_path: Path) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        tables.delete("body", body_key(tables.extent(1), 1))
        part = decode_part(tables.get("part", part_of(1)))
        assert part.due < NEVER_MS
    said = mend(tmp_path)
    assert any(f"set aside: message {id_of(1).hex()}, {id_of(6).hex()}" in line for line in said)
    with raw(tmp_path) as tables:
        for message, n_parts in ((1, 2), (6, 1)):
            parts = [decode_part(tables.get("part", part_of(message, n))) for n in range(n_parts)]
            assert {(part.state, part.due) for part in parts} == {("aside", NEVER_MS)}
        first, sixth = (decode_message(tables.get("message", id_of(n))) for n in (1, 6))
        assert first.octets == sum(octets for _, octets in first.extents) == 5000
        assert [octets for _, octets in first.extents] == [2016, 2016, 968]
        assert first.extents[1][0] == LOST_EXTENT
        # What is left is stored once, as it was.
        assert sixth.extents[1:] == first.extents
        left = [tables.get("body", body_key(extent, 0)) for extent, _ in first.extents if extent != LOST_EXTENT]
        assert left == [CONTENT[:2016], CONTENT[4032:]]
    with pytest.raises(LookupError, match="extent 0"):
        content(tmp_path, 1)


def test_repair_message_of_which_content_is_lost_can_be_removed(tmp_path: Path) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        tables.delete("body", body_key(tables.extent(2), 0))
    mend(tmp_path)
    writer = Writer(str(tmp_path), MAP_OCTETS)
    live = writer.live_octets
    writer.begin()
    for extent, octets in decode_message(writer.get("message", id_of(2)) or b"").extents:
        writer.remove_extent(extent, octets)
    writer.commit()
    assert writer.live_octets == live
    writer.close()


def test_repair_content_with_more_holes_than_a_row_can_name_is_set_aside_all_the_same(tmp_path: Path) -> None:
    writer_content = bytes(2016 * 600)
    make_queue(tmp_path)
    writer = Writer(str(tmp_path), MAP_OCTETS)
    writer.begin()
    message = decode_message(writer.get("message", id_of(2)) or b"")
    extent = writer.add_extent(writer_content)
    writer.commit()
    writer.close()
    with raw(tmp_path) as tables:
        extents = (*message.extents, (extent, len(writer_content)))
        tables.change("message", id_of(2), decode_message, extents=extents, octets=message.octets + len(writer_content))
        for chunk in range(0, 600, 2):
            tables.delete("body", body_key(extent, chunk))
    mend(tmp_path)
    assert look(tmp_path) == []
    with raw(tmp_path) as tables:
        row = decode_message(tables.get("message", id_of(2)))
        assert row.extents == (*message.extents, (LOST_EXTENT, len(writer_content)))
    kept = {key for table, key, _ in damaged(tmp_path) if table == "body"}
    assert {body_key(extent, chunk) for chunk in range(1, 600, 2)} <= kept


def test_repair_orphaned_recipient_is_counted_as_dropped(tmp_path: Path) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        tables.put("part", part_of(1), b"\xc1")
    said = mend(tmp_path)
    assert any("2 more counted as dropped" in line for line in said)
    with raw(tmp_path) as tables:
        counter = decode_counter(tables.get("counter", tenant_key("default")))
    assert (counter.received, counter.delivered, counter.bounced, counter.dropped) == (8, 1, 1, 2)
    rows = damaged(tmp_path)
    assert ("part", part_of(1), b"\xc1") in rows
    assert {key for table, key, _ in rows if table == "recipient"} == {recipient_key(part_of(1), n) for n in (0, 1)}


def test_repair_event_that_is_lost_is_a_fault_under_its_number(tmp_path: Path) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        tables.put("event", number_key(3), b"\xc1")
        tables.delete("event", number_key(5))
    mend(tmp_path)
    with raw(tmp_path) as tables:
        events = [decode(value) for _, value in tables.rows("event")]
    assert len(events) == 10
    assert [at for at, event in enumerate(events, 1) if isinstance(event, Fault)] == [3, 5]
    assert ("event", number_key(3), b"\xc1") in damaged(tmp_path)


def test_repair_part_whose_queue_is_gone_waits_where_its_domain_does(tmp_path: Path) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        tables.delete("queue", tables.queue("d.test"))
    said = mend(tmp_path)
    assert any("put into the queue for d.test" in line for line in said)
    with raw(tmp_path) as tables:
        assert number_key(decode_part(tables.get("part", part_of(3))).queue) == tables.queue("d.test")


def test_repair_writes_to_its_file_before_it_takes_rows_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        tables.put("gone", bytes(17), b"told")

    class Crash(Exception):
        pass

    class Crashing(Writer):
        def commit(self) -> None:
            raise Crash

    monkeypatch.setitem(repair.__globals__, "Writer", Crashing)
    with pytest.raises(Crash):
        repair(str(tmp_path), MAP_OCTETS, lambda line: None)
    monkeypatch.undo()
    assert damaged(tmp_path) == [("gone", bytes(17), b"told")]
    with raw(tmp_path) as tables:
        assert tables.get("gone", bytes(17)) == b"told"
    # The next run has a file of its own.
    mend(tmp_path)
    assert damaged(tmp_path) == [("gone", bytes(17), b"told")] * 2
    assert len(list((tmp_path / "damaged").iterdir())) == 2


def test_repair_says_what_it_cannot_mend(tmp_path: Path) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        tables.put("meta", b"node", b"x")
    left = repair(str(tmp_path), MAP_OCTETS, lambda line: None)
    assert [str(wrong) for wrong in left] == ["meta node: it is not a number"]


def test_repair_thousands_of_damages_go_in_several_commits(tmp_path: Path) -> None:
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        spread(tables, 1600)
    said = mend(tmp_path)
    assert len(said) == 1600
    assert look(tmp_path) == []
    assert len(damaged(tmp_path)) == 1600


def spread(tables: Raw, n_rows: int) -> None:
    for number in range(n_rows):
        tables.put("gone", b"%017d" % number, b"")

"""A good queue with something in every table, and each way in which one can be damaged, done by hand with plain lmdb.

DAMAGES is used twice: `verify` has to name exactly the damage, and the repair has to leave it nothing to name.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import lmdb
import msgspec

from mta.message import QueueName
from mta.queue.apply import put_message, settle_part
from mta.report import decode
from mta.store import (
    BOUNCE,
    EXPIRE,
    LOST_EXTENT,
    NEVER_MS,
    PathRow,
    Reader,
    Writer,
    Wrong,
    decode_message,
    decode_part,
    decode_queue,
    due_key,
    encode,
    number_key,
    part_name,
    path_key,
    queue_name_key,
    recipient_key,
    timer_key,
    verify,
    wake_key,
)
from mta.store.codec import decode_counter
from mta.store.keys import TABLES, body_key, tenant_key
from tests.queue.samples import T0, name, put, settlement

MAP_OCTETS = 1 << 26
CONTENT = bytes(n % 251 for n in range(5000))


def id_of(message: int) -> bytes:
    """Return the id of a sample message."""
    return message.to_bytes(16, "big")


def part_of(message: int, part: int = 0) -> bytes:
    """Return the name of a part of a sample message."""
    return part_name(id_of(message), part)


def make_timers(writer: Writer) -> None:
    """Give each part the row for its end, where it has none yet; a transaction is open."""
    for key, value in writer.scan("part", b"", 1000):
        row = decode_part(value)
        writer.add("timer", timer_key(row.expires, key, BOUNCE if row.order == "bounce" else EXPIRE), b"")


def make_queue(data_dir: Path) -> None:
    """Make a good queue with something in every table.

    1: two parts, 5,000 octets, shared with 6. 2: of another tenant. 3: deferred. 4: set aside. 5: delivered, and
    remembered in `gone`. 7 is coming in, 8 is being deleted.
    """
    writer = Writer(str(data_dir), MAP_OCTETS)
    writer.begin()
    writer.new_incarnation()
    puts = [
        put(1, ("x@b.test", "y@b.test"), ("q@c.test",), content=CONTENT),
        put(2, ("z@b.test",), tenant="other"),
        put(3, ("d@d.test", "e@d.test")),
        put(4, ("a@e.test",)),
        put(5, ("g@f.test",)),
        put(6, ("s@b.test",), content=b""),
    ]
    for message in puts:
        assert put_message(writer, message.head, message.content, T0, repeat=False) is not None
    writer.commit()
    writer.begin()
    settle_part(writer, settlement(puts[2], 0, "deferred", "delivered"), T0 + 5, T0 + 500, keep_id=False)
    settle_part(
        writer, msgspec.structs.replace(settlement(puts[3], 0, "bounced"), results=()), T0 + 5, T0, keep_id=False
    )
    settle_part(writer, settlement(puts[4], 0, "bounced"), T0 + 5, T0, keep_id=True)
    first = decode_message(writer.get("message", id_of(1)) or b"")
    sixth = decode_message(writer.get("message", id_of(6)) or b"")
    shares = msgspec.structs.replace(sixth, extents=sixth.extents + first.extents, octets=len(CONTENT))
    writer.replace("message", id_of(6), encode(shares))
    writer.replace("extent", number_key(first.extents[0][0]), number_key(2))
    assert writer.add("incoming", id_of(7), encode(((writer.add_extent(bytes(3000)), 3000),)))
    assert writer.add("trash", id_of(8), encode(((writer.add_extent(bytes(300)), 300),)))
    assert writer.add("path", path_key("", "site"), encode(PathRow("", "site", 0, None, 1, 0, 0, 0, 0)))
    make_timers(writer)
    writer.commit()
    writer.close()


def look(data_dir: Path) -> list[Wrong]:
    """Return what `verify` says."""
    reader = Reader(str(data_dir), MAP_OCTETS)
    with reader.snapshot() as snapshot:
        found = list(verify(snapshot, decode))
    reader.close()
    return found


class Raw:
    """The tables without anybody's rules."""

    def __init__(self, env: lmdb.Environment, txn: lmdb.Transaction) -> None:
        self._txn = txn
        self._table: dict[str, Any] = {table: env.open_db(table.encode(), txn=txn) for table in TABLES}

    def get(self, table: str, key: bytes) -> bytes:
        value = self._txn.get(key, db=self._table[table])
        assert value is not None
        return cast(bytes, value)

    def put(self, table: str, key: bytes, value: bytes) -> bytes:
        assert self._txn.put(key, value, db=self._table[table])
        return value

    def delete(self, table: str, key: bytes) -> bytes:
        value = self.get(table, key)
        assert self._txn.delete(key, db=self._table[table])
        return value

    def rows(self, table: str) -> list[tuple[bytes, bytes]]:
        return cast("list[tuple[bytes, bytes]]", list(self._txn.cursor(self._table[table])))

    def change(self, table: str, key: bytes, decoder: Callable[[bytes], Any], **fields: object) -> bytes:
        return self.put(table, key, encode(msgspec.structs.replace(decoder(self.get(table, key)), **fields)))

    def queue(self, domain: str, tenant: str = "default") -> bytes:
        return self.get("queue_name", queue_name_key(name(domain, tenant)))

    def extent(self, message: int) -> int:
        return int(decode_message(self.get("message", id_of(message))).extents[0][0])


@contextlib.contextmanager
def raw(data_dir: Path) -> Iterator[Raw]:
    """Open the tables in one write transaction, committed at the end."""
    with (
        lmdb.open(str(data_dir / "queue"), max_dbs=32, map_size=MAP_OCTETS) as env,
        env.begin(write=True) as txn,
    ):
        yield Raw(env, txn)


class Damage(NamedTuple):
    """`wanted`: the table and some words of each line that `verify` should say, in any order."""

    name: str
    do: Callable[[Raw], object]
    wanted: tuple[tuple[str, str], ...]


def _move_due(tables: Raw) -> None:
    part = decode_part(tables.get("part", part_of(1)))
    tables.delete("due", due_key(part.queue, part.due, part_of(1)))
    tables.put("due", due_key(part.queue, part.due + 1, part_of(1)), b"")


def _due_row(tables: Raw, message: int) -> bytes:
    part = decode_part(tables.get("part", part_of(message)))
    return due_key(part.queue, part.due, part_of(message))


def _timer_row(tables: Raw, message: int) -> bytes:
    return timer_key(decode_part(tables.get("part", part_of(message))).expires, part_of(message), EXPIRE)


def _wake_row(tables: Raw, domain: str) -> bytes:
    queue = tables.queue(domain)
    return wake_key(decode_queue(tables.get("queue", queue)).wake, int.from_bytes(queue, "big"))


def _wake_late(tables: Raw) -> None:
    queue = tables.queue("b.test")
    number = int.from_bytes(queue, "big")
    tables.delete("wake", _wake_row(tables, "b.test"))
    tables.change("queue", queue, decode_queue, wake=T0 + 9)
    tables.put("wake", wake_key(T0 + 9, number), b"")


def _twin_queue(tables: Raw) -> None:
    tables.put("queue", number_key(7), tables.get("queue", tables.queue("b.test")))
    tables.put("wake", wake_key(T0, 7), b"")
    tables.put("meta", b"next_queue", number_key(8))


def _lose_queue(tables: Raw) -> None:
    """A queue is gone with all that leads to it; 4 is the only part in it."""
    tables.delete("wake", _wake_row(tables, "d.test"))
    queue = tables.queue("d.test")
    tables.delete("queue", queue)
    tables.delete("queue_name", queue_name_key(name("d.test")))


def _misplace_counter(tables: Raw) -> None:
    tables.put("counter", tenant_key("third"), tables.delete("counter", tenant_key("other")))


def _state(state: str, **fields: object) -> Callable[[Raw], None]:
    """A part in a state, with or without its due row where the part says."""

    def do(tables: Raw) -> None:
        old = tables.delete("due", _due_row(tables, 2))
        tables.change("part", part_of(2), decode_part, state=state, **fields)
        tables.put("due", _due_row(tables, 2), old)

    return do


GARBAGE = b"\xc1"
UNKNOWN = QueueName("default", "", 0, "nobody.test", "")

DAMAGES = [
    # Messages, parts, recipients.
    Damage(
        "message without parts",
        lambda t: (
            t.delete("part", part_of(2)),
            t.delete("recipient", recipient_key(part_of(2), 0)),
            t.change("counter", tenant_key("other"), decode_counter, dropped=1),
        ),
        (("message", "no parts"), ("due", "is not there"), ("timer", "is not there")),
    ),
    Damage(
        "message that cannot be decoded",
        lambda t: t.put("message", id_of(2), GARBAGE),
        (("message", "cannot be decoded"), ("body", "no message has this extent")),
    ),
    Damage(
        "message with text that is no text",
        lambda t: t.put("message", id_of(2), t.get("message", id_of(2)).replace(b"s@a.test", b"s\xff\xfe.test")),
        (("message", "cannot be decoded"), ("body", "no message has this extent")),
    ),
    Damage(
        "message with a key too short",
        lambda t: t.put("message", b"short", GARBAGE),
        (("message", "5 octets and not 16"),),
    ),
    Damage(
        "message of other octets than its extents",
        lambda t: t.change("message", id_of(2), decode_message, octets=9),
        (("message", "said to have 9 octets, and its extents have 7"),),
    ),
    Damage(
        "part without message",
        lambda t: t.delete("message", id_of(2)),
        (("part", "its message is not there"), ("body", "no message has this extent")),
    ),
    Damage("part that cannot be decoded", lambda t: t.put("part", part_of(1), GARBAGE), (("part", "decoded"),)),
    Damage("part with a key too long", lambda t: t.put("part", bytes(19), GARBAGE), (("part", "19 octets"),)),
    Damage(
        "part without recipients",
        lambda t: (
            t.delete("recipient", recipient_key(part_of(2), 0)),
            t.change("counter", tenant_key("other"), decode_counter, dropped=1),
        ),
        (("part", "no recipients"),),
    ),
    Damage(
        "part with a wrong number of recipients",
        lambda t: t.change("part", part_of(1), decode_part, n_open=7),
        (("part", "said to have 7 recipients, and has 2"),),
    ),
    Damage(
        "part that is held and due",
        _state("held"),
        (("part", "held, and due all the same"),),
    ),
    Damage(
        "part that is due never for no reason",
        _state("", due=NEVER_MS),
        (("part", "due never"),),
    ),
    Damage("part in no known state", _state("lost", due=NEVER_MS), (("part", "state"),)),
    Damage(
        "recipient without part",
        lambda t: t.put("recipient", recipient_key(part_of(1, 9), 0), t.get("recipient", recipient_key(part_of(1), 0))),
        (("recipient", "its part is not there"), ("counter", "received 8 recipients; 2 are decided and 7 open")),
    ),
    Damage(
        "recipient without message",
        lambda t: t.put("recipient", recipient_key(part_of(9), 0), t.get("recipient", recipient_key(part_of(1), 0))),
        (("recipient", "its part is not there"),),
    ),
    Damage(
        "recipient that cannot be decoded",
        lambda t: t.put("recipient", recipient_key(part_of(1), 0), GARBAGE),
        (("recipient", "decoded"),),
    ),
    # What is due.
    Damage("due row missing", lambda t: t.delete("due", _due_row(t, 1)), (("due", "missing"),)),
    Damage(
        "due row of nothing", lambda t: t.put("due", due_key(1, T0 + 9, part_of(9)), b""), (("due", "is not there"),)
    ),
    Damage("due row at another time", _move_due, (("due", "missing"), ("due", "not due in this queue then"))),
    Damage(
        "due row with something else in it", lambda t: t.put("due", _due_row(t, 1), b"x"), (("due", "does not hold"),)
    ),
    Damage("due row of another length", lambda t: t.put("due", b"\xff" * 9, b""), (("due", "9 octets"),)),
    Damage("timer row missing", lambda t: t.delete("timer", _timer_row(t, 1)), (("timer", "missing"),)),
    Damage(
        "timer row of nothing",
        lambda t: t.put("timer", timer_key(1, part_of(9), EXPIRE), b""),
        (("timer", "is not there"),),
    ),
    Damage(
        "timer row of another kind",
        lambda t: t.put("timer", timer_key(T0 + 1_000_000, part_of(1), BOUNCE), b""),
        (("timer", "another one"),),
    ),
    Damage(
        "timer row of a bounce that is not there",
        lambda t: t.change("part", part_of(1), decode_part, order="bounce"),
        (("timer", "missing"), ("timer", "another one")),
    ),
    Damage("timer row of another length", lambda t: t.put("timer", b"x", b""), (("timer", "1 octets"),)),
    # Queues.
    Damage(
        "queue that is not there",
        lambda t: t.delete("queue", t.queue("d.test")),
        (("part", "its queue 4 is not there"), ("queue_name", "is not there"), ("wake", "is not there")),
    ),
    Damage("queue that is not there nor named", _lose_queue, (("part", "its queue 4 is not there"),)),
    Damage(
        "queue that cannot be decoded",
        lambda t: t.put("queue", t.queue("d.test"), GARBAGE),
        (("queue", "decoded"),),
    ),
    Damage(
        "queue without a name",
        lambda t: t.delete("queue_name", queue_name_key(name("b.test"))),
        (("queue_name", "does not lead to queue 1"),),
    ),
    Damage(
        "queue name that leads to another queue",
        lambda t: t.put("queue_name", queue_name_key(name("b.test")), t.queue("d.test")),
        (("queue_name", "does not lead to queue 1"),),
    ),
    Damage(
        "queue name that leads nowhere",
        lambda t: t.put("queue_name", queue_name_key(UNKNOWN), number_key(77)),
        (("queue_name", "queue 77, to which it leads, is not there"),),
    ),
    Damage(
        "second name of a queue",
        lambda t: t.put("queue_name", queue_name_key(UNKNOWN), t.queue("d.test")),
        (("queue_name", "has another name"),),
    ),
    Damage("queue name of no form", lambda t: t.put("queue_name", b"x", b"y"), (("queue_name", "form"),)),
    Damage("two queues of one name", _twin_queue, (("queue", "queue 1 has the same name"),)),
    Damage("wake row missing", lambda t: t.delete("wake", _wake_row(t, "b.test")), (("wake", "missing"),)),
    Damage("wake row of nothing", lambda t: t.put("wake", wake_key(T0, 77), b""), (("wake", "queue 77 is not"),)),
    Damage(
        "wake row at another time",
        lambda t: t.put("wake", wake_key(5, 1), b""),
        (("wake", "queue 1 does not wake then"),),
    ),
    Damage("wake row of another length", lambda t: t.put("wake", b"x", b""), (("wake", "1 octets"),)),
    Damage("wake row with something in it", lambda t: t.put("wake", _wake_row(t, "b.test"), b"x"), (("wake", "em"),)),
    Damage("queue that wakes too late", _wake_late, (("queue", f"wakes at {T0 + 9}, and is due at {T0}"),)),
    # Content.
    Damage(
        "chunk missing in the middle",
        lambda t: t.delete("body", body_key(t.extent(1), 1)),
        (("message", "not all of its chunks"), ("message", "not all of its chunks")),
    ),
    Damage(
        "chunk missing at the end",
        lambda t: t.delete("body", body_key(t.extent(1), 2)),
        (("message", "should have 5000 octets, and has 4032"), ("message", "5000")),
    ),
    Damage(
        "chunk cut short",
        lambda t: t.put("body", body_key(t.extent(1), 0), b"short"),
        (("message", "not all of its chunks"), ("message", "not all of its chunks")),
    ),
    Damage(
        "chunk too many",
        lambda t: t.put("body", body_key(t.extent(2), 1), b"more"),
        (("message", "not all of its chunks"),),
    ),
    Damage("content missing", lambda t: t.delete("body", body_key(t.extent(2), 0)), (("message", "nothing of it"),)),
    Damage(
        "content of which two messages think otherwise",
        lambda t: t.change("message", id_of(2), decode_message, extents=((t.extent(1), 7),)),
        (("message", "should have 7 octets, and has 5000"), ("extent", "3 messages"), ("body", "no message")),
    ),
    Damage(
        "content lost and to be sent",
        lambda t: t.change(
            "message", id_of(2), decode_message, extents=((t.extent(2), 7), (LOST_EXTENT, 9)), octets=16
        ),
        (("message", "some of its content is lost, and it is not set aside or held"),),
    ),
    Damage(
        "incoming content missing",
        lambda t: t.delete("body", body_key(7, 1)),
        (("incoming", "should have 3000 octets, and has 2016"),),
    ),
    Damage(
        "incoming that cannot be decoded",
        lambda t: t.put("incoming", id_of(7), GARBAGE),
        (("incoming", "decoded"), ("body", "no message")),
    ),
    Damage(
        "trash that cannot be decoded",
        lambda t: t.put("trash", id_of(8), GARBAGE),
        (("trash", "decoded"), ("body", "no message")),
    ),
    Damage(
        "chunks of nobody",
        lambda t: (
            [t.put("body", body_key(50, n), bytes(100)) for n in range(3)],
            t.put("meta", b"next_extent", number_key(51)),
            t.put("meta", b"live_octets", number_key(int.from_bytes(t.get("meta", b"live_octets"), "big") + 300)),
        ),
        (("body", "no message has this extent of 3 chunks with 300 octets"),),
    ),
    Damage("chunk with a key too long", lambda t: t.put("body", bytes(11), b""), (("body", "11 octets"),)),
    Damage(
        "share count missing", lambda t: t.delete("extent", number_key(t.extent(1))), (("extent", "2 messages share"),)
    ),
    Damage(
        "share count wrong",
        lambda t: t.put("extent", number_key(t.extent(1)), number_key(3)),
        (("extent", "2 messages share it, and not 3"),),
    ),
    Damage(
        "share count of one",
        lambda t: t.put("extent", number_key(t.extent(2)), number_key(1)),
        (("extent", "only for an extent that messages share"),),
    ),
    Damage(
        "share count of nothing",
        lambda t: t.put("extent", number_key(99), number_key(2)),
        (("extent", "only for an extent that messages share"),),
    ),
    # What is counted and numbered.
    Damage(
        "counter that lost a recipient",
        lambda t: t.change("counter", tenant_key("default"), decode_counter, received=9),
        (("counter", "received 9 recipients; 2 are decided and 6 open"),),
    ),
    Damage(
        "counter that counted twice",
        lambda t: t.change("counter", tenant_key("default"), decode_counter, delivered=3),
        (("counter", "tenant default received 8 recipients; 4 are decided and 6 open"),),
    ),
    Damage(
        "counter missing",
        lambda t: t.delete("counter", tenant_key("other")),
        (("counter", "tenant other has 1 open recipients and no counters"),),
    ),
    Damage(
        "counter that cannot be decoded",
        lambda t: t.put("counter", tenant_key("other"), GARBAGE),
        (("counter", "decoded"), ("counter", "no counters")),
    ),
    Damage("counter in a wrong place", _misplace_counter, (("counter", "another tenant"), ("counter", "no counters"))),
    Damage(
        "event missing",
        lambda t: t.delete("event", number_key(3)),
        (("event", "numbered 3 to 3 before it are missing"),),
    ),
    Damage("event that cannot be decoded", lambda t: t.put("event", number_key(3), GARBAGE), (("event", "decoded"),)),
    Damage("event far away", lambda t: t.put("event", number_key(1 << 40), GARBAGE), (("event", "far from"),)),
    Damage("event with a key too short", lambda t: t.put("event", b"x", GARBAGE), (("event", "1 octets"),)),
    Damage(
        "next event too low",
        lambda t: t.put("meta", b"next_event", number_key(2)),
        (("meta", "it says 2, and an event has the number 10"),),
    ),
    Damage(
        "next extent too low",
        lambda t: t.put("meta", b"next_extent", number_key(2)),
        (("meta", "it says 2, and an extent has the number 8"),),
    ),
    Damage(
        "next queue too low",
        lambda t: t.put("meta", b"next_queue", number_key(2)),
        (("meta", "it says 2, and a queue has the number 6"),),
    ),
    Damage("next queue missing", lambda t: t.delete("meta", b"next_queue"), (("meta", "not a number"),)),
    Damage(
        "live octets wrong", lambda t: t.put("meta", b"live_octets", number_key(5)), (("meta", "it says 5, and 8321"),)
    ),
    Damage("incarnation missing", lambda t: t.delete("meta", b"incarnation"), (("meta", "missing"),)),
    # The rest.
    Damage("gone with a key too long", lambda t: t.put("gone", bytes(17), b""), (("gone", "17 octets"),)),
    Damage("path that cannot be decoded", lambda t: t.put("path", path_key("", "site"), GARBAGE), (("path", "dec"),)),
    Damage(
        "path in a wrong place",
        lambda t: t.put("path", path_key("", "other"), t.get("path", path_key("", "site"))),
        (("path", "another path, to site"),),
    ),
    Damage(
        "numbers that no key can hold", lambda t: t.change("part", part_of(1), decode_part, due=-5), (("part", "dec"),)
    ),
    Damage(
        "extent that cannot be",
        lambda t: t.change("message", id_of(2), decode_message, extents=((-5, 7),)),
        (("message", "decoded"), ("body", "no message")),
    ),
]

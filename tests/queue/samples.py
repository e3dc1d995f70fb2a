"""Messages, settlements and tables for the tests of the queue process's parts."""

from typing import cast

import msgspec

from mta.link import Notice, Order, Put, PutHead, PutPart, Settlement
from mta.message import Outcome, QueueName, Status
from mta.queue.apply import Arrived, Off
from mta.queue.awake import Queue
from mta.queue.batch import Batch, Done
from mta.queue.changes import Change, Circumstances, OrderChange, PutChange, SettleChange
from mta.queue.guest import Guest
from mta.queue.schedule import Schedule
from mta.reply import Reply
from mta.report import Event, Received, decode
from mta.report import encode as encode_event
from mta.store import Writer, part_name

__all__ = [
    "NOBODY",
    "T0",
    "Teller",
    "Told",
    "events",
    "n_rows",
    "name",
    "notice",
    "part_of",
    "put",
    "settlement",
    "settling",
]

T0 = 1_700_000_000_000
"""When every test begins, in ms."""


NOBODY = cast(Guest, None)
"""Who hands in what nobody waits for."""


def name(domain: str, tenant: str = "default", priority: int = 0) -> QueueName:
    """Return a queue's name."""
    return QueueName(tenant, "", priority, domain, "")


def put(
    number: int,
    *parts: tuple[str, ...],
    content: bytes = b"content",
    repeat: bool = False,
    tenant: str = "default",
    lifetime_ms: int = 1_000_000,
) -> Put:
    """Return a PUT of message `number`; each part is its recipients' addresses, waiting for the first one's domain."""
    id_ = number.to_bytes(16, "big")
    cut: list[PutPart] = []
    first = 0
    for addresses in parts:
        cut.append(PutPart(name(addresses[0].rpartition("@")[2], tenant), first, addresses))
        first += len(addresses)
    event = Received(T0, id_, tenant, "s@a.test", first, len(content), "", "", "ESMTP", "mx", b"")
    head = PutHead(id_, "s@a.test", T0, lifetime_ms, tenant, "", 0, tuple(cut), encode_event(event))
    return Put(head, content, 0, repeat)


def part_of(put_: Put, number: int = 0) -> bytes:
    """Return the name of a part of that message."""
    return part_name(put_.head.id, number)


def settlement(put_: Put, attempt: int, *fates: Status, number: int = 0) -> Settlement:
    """Return what became of each recipient of one part."""
    part = put_.head.parts[number]
    results = tuple(
        (part.first + at, address, Outcome(fate, 250 if fate == "delivered" else 450, "", "said so", "mx", ""))
        for at, (address, fate) in enumerate(zip(part.recipients, fates, strict=True))
    )
    return Settlement(part_of(put_, number), attempt, put_.head.received_at, put_.head.tenant, results)


def n_rows(writer: Writer, *tables: str) -> dict[str, int]:
    """Return how many rows each table has."""
    return {table: len(writer.look(table, b"", 100_000)) for table in tables}


def events(writer: Writer) -> list[Event]:
    """Return what stands in the outbox."""
    return [decode(value) for _, value in writer.look("event", b"", 100_000)]


def notice(number: int, about: Put, sender: str = "s@a.test") -> Notice:
    """Return a notice to the sender of a message."""
    written = put(number, (sender,), content=b"undelivered", tenant=about.head.tenant, lifetime_ms=500_000)
    head = msgspec.structs.replace(written.head, sender="")
    return Notice(head, bytes(written.content))


class Told:
    """What a commit did, sorted by kind."""

    def __init__(self, done: Done) -> None:
        puts = [change for change in done.changes if isinstance(change, PutChange)]
        settles = [change for change in done.changes if isinstance(change, SettleChange)]
        self.answers: list[tuple[Put, Reply | None]] = [(change.put, change.reply) for change in puts]
        self.arrived: list[Arrived] = [arrived for change in puts for arrived in change.arrived or ()]
        self.off: list[Off] = [change.off for change in settles if change.off is not None]
        self.failed: list[Settlement] = [change.settlement for change in settles if change.off is None]
        self.kept_ids = [c.off.removed for c in settles if c.off is not None and c.keeps_id and c.off.removed]
        self.wakes = done.wakes


class Teller:
    """A batch, and short words for what goes into it; `leased` and `repeatable` are what RAM would know."""

    def __init__(self, writer: Writer) -> None:
        self.batch = Batch(writer)
        self.leased: set[bytes] = set()
        self.repeatable: set[bytes] = set()
        self.is_all_repeatable = False

    def put(self, message: Put) -> None:
        """Take a message."""
        self.batch.add(PutChange(NOBODY, message))

    def settle(self, told: Settlement, next_at: int) -> None:
        """Take what became of a part."""
        self.batch.add(SettleChange(told, next_at))

    def order(self, order: Order) -> OrderChange:
        """Take an operator's order."""
        change = OrderChange(NOBODY, order)
        self.batch.add(change)
        return change

    def add(self, change: Change) -> None:
        """Take any other change."""
        self.batch.add(change)

    def sleep(self, queue: Queue) -> None:
        """Take a queue that has nothing to do."""
        self.batch.sleep(queue)

    def commit(self, now: int = T0) -> Told:
        """Commit everything."""
        return Told(self.batch.commit(Circumstances(now, self.leased.__contains__, self._is_repeatable)))

    def _is_repeatable(self, id_: bytes) -> bool:
        return self.is_all_repeatable or id_ in self.repeatable


def settling(schedule: Schedule, part: bytes, now: int) -> None:
    """Let whoever holds a part say what its host made of it."""
    known = schedule._known.get(part)
    worker = known.session.worker if known is not None and known.session is not None else 0
    schedule.settling(part, worker, now, has_spoken=True)

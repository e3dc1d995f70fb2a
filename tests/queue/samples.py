"""Messages, settlements and tables for the tests of the queue process's parts."""

from mta.link import Put, PutHead, PutPart, Settlement
from mta.message import Outcome, QueueName, Status
from mta.report import Event, Received, decode
from mta.report import encode as encode_event
from mta.store import Writer, part_name

__all__ = ["T0", "events", "n_rows", "name", "part_of", "put", "settlement"]

T0 = 1_700_000_000_000
"""When every test begins, in ms."""


def name(domain: str, tenant: str = "default") -> QueueName:
    """Return a queue's name."""
    return QueueName(tenant, "", 0, domain, "")


def put(
    number: int,
    *parts: tuple[str, ...],
    content: bytes = b"content",
    repeat: bool = False,
    tenant: str = "default",
    expires: int = T0 + 1_000_000,
) -> Put:
    """Return a PUT of message `number`; each part is its recipients' addresses, waiting for the first one's domain."""
    id_ = number.to_bytes(16, "big")
    cut: list[PutPart] = []
    first = 0
    for addresses in parts:
        cut.append(PutPart(name(addresses[0].rpartition("@")[2], tenant), first, addresses))
        first += len(addresses)
    event = Received(T0, id_, tenant, "s@a.test", first, len(content), "", "", "ESMTP", "mx", b"")
    head = PutHead(id_, "s@a.test", T0, expires, tenant, "", 0, tuple(cut), encode_event(event))
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

"""Frames to rows: what a PUT, a settlement, a note change in the tables. DESIGN sections 3 and 4.

Rule: no clock, no randomness, no RAM but the writer's. Everything a change needs comes with it, so that a list of
changes can be applied, aborted, and applied again without the one that failed.

A refusal that concerns one frame is a ValueError, StoreError or msgspec error out of here; StorageFull concerns all.
What operators and the deaths of workers change is in `orders`.
"""

import msgspec

from mta.link import PutHead, Settlement
from mta.message import REASON_OCTETS, Outcome, QueueName
from mta.queue.incoming import take_parts
from mta.queue.rows import drop_message, drop_part, move_due
from mta.report import FATES, SetAside, cut
from mta.report import encode as encode_event
from mta.store import (
    NEVER_MS,
    MessageRow,
    PartRow,
    RecipientRow,
    Writer,
    decode_message,
    decode_part,
    due_row,
    encode,
    message_of,
    open_queue,
    part_name,
    recipient_key,
    timer_row,
)

__all__ = ["LATE_MS", "Arrived", "Off", "put_message", "settle_part"]

# A part costs its queue's turn one for each recipient, and one more for so many octets.
COST_OCTETS = 32_768
# What cannot be tried again before it expires is ended by its timer. If many ring at once and take a moment, nobody
# shall be asked again meanwhile.
LATE_MS = 60_000


class Arrived(msgspec.Struct, frozen=True):
    """A part is in the tables, and due at `due` ms, which is now."""

    queue: int
    name: QueueName
    part: bytes
    cost: int
    due: int


class Off(msgspec.Struct, frozen=True):
    """A part of a queue (0: it was gone before) is off its session: due again at `due` ms, or decided (0). `removed` is
    the id of a message that went with it, `arrived` are the parts of the notice that came with it."""

    part: bytes
    queue: int
    due: int
    removed: bytes
    arrived: tuple[Arrived, ...] = ()


def put_message(
    writer: Writer, head: PutHead, content: bytes | memoryview, now: int, repeat: bool, streamed: int = 0
) -> list[Arrived] | None:
    """Put a message with all its parts, due at `now`; None when it is here already or was, and must only be answered.

    `streamed` octets of it are in `incoming`, and `content` goes in front of them. Raises ValueError when the same id
    comes with another content.
    """
    if not head.parts:
        raise ValueError(f"message {head.id.hex()} has no recipients")
    octets = len(content) + streamed
    if repeat:
        known = writer.get("message", head.id)
        if known is not None:
            if decode_message(known).octets != octets:
                raise ValueError(f"message {head.id.hex()} was put twice with different content")
            return None
        if writer.get("gone", head.id) is not None:
            return None
    extents: tuple[tuple[int, int], ...] = ((writer.add_extent(content), len(content)),)
    if streamed:
        extents += take_parts(writer, head.id, streamed)
    row = MessageRow(
        head.sender,
        octets,
        head.received_at,
        head.tenant,
        head.campaign,
        extents,
        head.flags,
        len(head.parts),
        sum([len(part.recipients) for part in head.parts]),
    )
    if not writer.add("message", head.id, encode(row)):
        raise ValueError(f"message {head.id.hex()} was put twice")
    arrived: list[Arrived] = []
    expires = now + head.lifetime_ms
    for number, part in enumerate(head.parts):
        name = part_name(head.id, number)
        queue = open_queue(writer, part.queue, now)
        n_open = len(part.recipients)
        cost = n_open + octets // COST_OCTETS
        stands = PartRow(queue, now, expires, 0, 0, "", "", n_open, cost)
        fresh = writer.add("part", name, encode(stands))
        due_key, turn = due_row(name, stands)
        fresh &= writer.add("due", due_key, turn)
        fresh &= writer.add("timer", timer_row(name, stands), b"")
        for at, address in enumerate(part.recipients, part.first):
            fresh &= writer.add("recipient", recipient_key(name, at), encode(RecipientRow(address, "", None, 0)))
        if not fresh:
            raise ValueError(f"message {head.id.hex()} has rows of another message in its way")
        arrived.append(Arrived(queue, part.queue, name, cost, now))
    writer.n_messages += 1
    writer.count(head.tenant, "received", row.n_recipients)
    writer.add_event(head.event)
    return arrived


def settle_part(writer: Writer, settlement: Settlement, now: int, next_at: int, keep_id: bool) -> Off:
    """Write down what became of a leased part; nothing if it does not stand at that attempt any more.

    Recipients that were deferred are due at `next_at` ms, unless an operator ordered something meanwhile. No results at
    all mean that the part cannot be read: it is set aside. `keep_id` says that the worker that put the message may
    still repeat it: the id is remembered in `gone`.
    """
    part = settlement.part
    row = writer.get("part", part)
    if row is None:
        return Off(part, 0, 0, b"")
    stood = decode_part(row)
    if not settlement.results:
        if not stood.state:
            move_due(writer, part, stood, msgspec.structs.replace(stood, state="aside", due=NEVER_MS))
            number = int.from_bytes(part[16:], "big")
            aside = SetAside(now, message_of(part), settlement.tenant, number, "it cannot be read, or not be settled")
            writer.add_event(encode_event(aside))
        return Off(part, stood.queue, 0, b"")
    if stood.attempt != settlement.attempt:
        return Off(part, stood.queue, stood.due, b"")
    # Never before now: the schedule has read its queue up to here and does not look behind.
    due = max(next_at, now) if next_at < stood.expires else max(stood.expires, now) + LATE_MS
    is_removed = stood.order == "remove"
    attempts = stood.attempt if settlement.is_report else stood.attempt + 1
    n_open = 0
    id_ = message_of(part)
    queued_s = (now - settlement.received_at) / 1000
    for number, address, told in settlement.results:
        outcome = _cut_outcome(told)
        status: str = outcome.status
        key = recipient_key(part, number)
        if status == "deferred" and not is_removed:
            n_open += 1
            if writer.get("recipient", key) is None:
                raise ValueError(f"part {part.hex()} has no recipient {number}")
            writer.replace("recipient", key, encode(RecipientRow(address, "", outcome, now)))
        else:
            # Whom an operator took the mail from gets no report, not even that it is too old.
            status = "dropped" if is_removed and status in ("deferred", "expired") else status
            writer.remove("recipient", key)
            writer.count(settlement.tenant, status, 1)
        event = FATES[status](
            now,
            id_,
            settlement.tenant,
            address,
            number,
            attempts,
            outcome.code,
            outcome.enhanced,
            outcome.reason,
            outcome.remote_mta,
            outcome.diagnostic,
            queued_s,
            min(due, stood.expires) if status == "deferred" else 0,
        )
        writer.add_event(encode_event(event))
    if not stood.n_open == len(settlement.results) == len({number for number, _, _ in settlement.results}):
        raise ValueError(f"part {part.hex()}: {len(settlement.results)} of {stood.n_open} recipients were settled")
    notice = None if is_removed and settlement.is_report else settlement.notice
    # With the failure that it tells of, in one transaction: neither can be there without the other.
    arrived = () if notice is None else tuple(put_message(writer, notice.head, notice.content, now, False) or ())
    if n_open:
        moved = msgspec.structs.replace(stood, due=due, attempt=attempts, n_open=n_open)
        if stood.order == "retry":
            moved = msgspec.structs.replace(moved, due=now, order="")
        elif stood.order == "hold":
            moved = msgspec.structs.replace(moved, due=NEVER_MS, state="held", order="")
        move_due(writer, part, stood, moved)
        return Off(part, stood.queue, moved.due, b"", arrived)
    drop_part(writer, part, stood)
    is_gone = drop_message(writer, id_, part, keep_id)
    return Off(part, stood.queue, 0, id_ if is_gone else b"", arrived)


def _cut_outcome(outcome: Outcome) -> Outcome:
    """Return an outcome that a row can hold, whatever the peer said."""
    if len(outcome.reason) + len(outcome.remote_mta) + len(outcome.diagnostic) < REASON_OCTETS // 4:
        return outcome
    return msgspec.structs.replace(
        outcome,
        reason=cut(outcome.reason, REASON_OCTETS),
        remote_mta=cut(outcome.remote_mta, REASON_OCTETS),
        diagnostic=cut(outcome.diagnostic),
    )

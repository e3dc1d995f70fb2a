"""Frames to rows: what a PUT, a settlement, a note change in the tables. DESIGN sections 3 and 4.

Rule: no clock, no randomness, no RAM but the writer's. Everything a change needs comes with it, so that a list of
changes can be applied, aborted, and applied again without the one that failed.

A refusal that concerns one frame is a ValueError, StoreError or msgspec error out of here; StorageFull concerns all.
"""

import msgspec

from mta.link import PutHead, Settlement
from mta.message import REASON_OCTETS, Outcome, QueueName
from mta.report import FATES, cut
from mta.report import encode as encode_event
from mta.store import (
    MessageRow,
    PartRow,
    RecipientRow,
    Writer,
    decode_message,
    decode_part,
    due_key,
    encode,
    message_of,
    part_name,
    recipient_key,
)

__all__ = ["Arrived", "Off", "put_message", "settle_part"]

# A part that is set aside is due never: its row keeps its queue, and nothing wakes it.
NEVER_MS = (1 << 63) - 1


class Arrived(msgspec.Struct, frozen=True):
    """A part is in the tables, and due."""

    queue: int
    name: QueueName
    part: bytes


class Off(msgspec.Struct, frozen=True):
    """A part was settled: due again at `due` ms, or decided (0); `removed` is the id of a message that went with it."""

    part: bytes
    due: int
    removed: bytes


def put_message(writer: Writer, head: PutHead, content: bytes, now: int, *, repeat: bool) -> list[Arrived] | None:
    """Put a message with all its parts, due at `now`; None when it is here already or was, and must only be answered.

    Raises ValueError when the same id comes with another content.
    """
    if not head.parts:
        raise ValueError(f"message {head.id.hex()} has no recipients")
    octets = len(content)
    if repeat:
        known = writer.get("message", head.id)
        if known is not None:
            if decode_message(known).octets != octets:
                raise ValueError(f"message {head.id.hex()} was put twice with different content")
            return None
        if writer.get("gone", head.id) is not None:
            return None
    extents = ((writer.add_extent(content), octets),)
    row = MessageRow(
        head.sender,
        octets,
        head.received_at,
        head.tenant,
        head.campaign,
        extents,
        head.flags,
        len(head.parts),
        sum(len(part.recipients) for part in head.parts),
    )
    if not writer.add("message", head.id, encode(row)):
        raise ValueError(f"message {head.id.hex()} was put twice")
    arrived: list[Arrived] = []
    for number, part in enumerate(head.parts):
        name = part_name(head.id, number)
        queue = writer.open_queue(part.queue, now)
        n_open = len(part.recipients)
        fresh = writer.add("part", name, encode(PartRow(queue, now, head.expires, 0, 0, "", "", n_open)))
        fresh &= writer.add("due", due_key(queue, now, name), b"")
        for at, address in enumerate(part.recipients, part.first):
            fresh &= writer.add("recipient", recipient_key(name, at), encode(RecipientRow(address, "", None, 0)))
        if not fresh:
            raise ValueError(f"message {head.id.hex()} has rows of another message in its way")
        arrived.append(Arrived(queue, part.queue, name))
    writer.n_messages += 1
    writer.count(head.tenant, "received", row.n_recipients)
    writer.add_event(head.event)
    return arrived


def settle_part(writer: Writer, settlement: Settlement, now: int, next_at: int, *, keep_id: bool) -> Off:
    """Write down what became of a leased part; nothing if it does not stand at that attempt any more.

    Recipients that were deferred are due at `next_at` ms, or have expired when the part is as old as it may get. No
    results at all mean that the part cannot be read: it is set aside. `keep_id` says that the worker that put the
    message may still repeat it: the id is remembered in `gone`.
    """
    part = settlement.part
    row = writer.get("part", part)
    if row is None:
        return Off(part, 0, b"")
    stood = decode_part(row)
    if not settlement.results:
        _move_due(writer, part, stood, msgspec.structs.replace(stood, state="aside", due=NEVER_MS))
        return Off(part, 0, b"")
    if stood.attempt != settlement.attempt:
        return Off(part, stood.due, b"")
    has_expired = now >= stood.expires
    # Never before now: the schedule has read its queue up to here and does not look behind.
    due = max(min(next_at, stood.expires), now)
    n_open = 0
    id_ = message_of(part)
    queued_s = (now - settlement.received_at) / 1000
    for number, address, told in settlement.results:
        outcome = _cut_outcome(told)
        status: str = outcome.status
        key = recipient_key(part, number)
        if status == "deferred" and not has_expired:
            n_open += 1
            if writer.get("recipient", key) is None:
                raise ValueError(f"part {part.hex()} has no recipient {number}")
            writer.replace("recipient", key, encode(RecipientRow(address, "", outcome, now)))
        else:
            status = "expired" if status == "deferred" else status
            writer.remove("recipient", key)
            writer.count(settlement.tenant, status, 1)
        event = FATES[status](
            now,
            id_,
            settlement.tenant,
            address,
            number,
            stood.attempt + 1,
            outcome.code,
            outcome.enhanced,
            outcome.reason,
            outcome.remote_mta,
            outcome.diagnostic,
            queued_s,
            due if status == "deferred" else 0,
        )
        writer.add_event(encode_event(event))
    if not stood.n_open == len(settlement.results) == len({number for number, _, _ in settlement.results}):
        raise ValueError(f"part {part.hex()}: {len(settlement.results)} of {stood.n_open} recipients were settled")
    if n_open:
        moved = msgspec.structs.replace(stood, due=due, attempt=stood.attempt + 1, n_open=n_open)
        _move_due(writer, part, stood, moved)
        return Off(part, due, b"")
    writer.remove("due", due_key(stood.queue, stood.due, part))
    writer.remove("part", part)
    if not _drop_message(writer, id_, part, keep_id=keep_id):
        return Off(part, 0, b"")
    return Off(part, 0, id_)


def _move_due(writer: Writer, part: bytes, stood: PartRow, moved: PartRow) -> None:
    """Write a part's new row, and put it where it is due now."""
    writer.remove("due", due_key(stood.queue, stood.due, part))
    writer.replace("part", part, encode(moved))
    if not writer.add("due", due_key(moved.queue, moved.due, part), b""):
        raise ValueError(f"part {part.hex()} is due twice")


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


def _drop_message(writer: Writer, id_: bytes, part: bytes, *, keep_id: bool) -> bool:
    """Delete a message and its content if `part`, just removed, was its last; return whether it was."""
    row = writer.get("message", id_)
    if row is None:
        raise ValueError(f"part {part.hex()} has no message")
    message = decode_message(row)
    if message.n_parts > 1:
        rest = writer.scan("part", part_name(id_, 0), 1)
        if rest and rest[0][0].startswith(id_):
            return False
    for extent, octets in message.extents:
        writer.remove_extent(extent, octets)
    writer.remove("message", id_)
    writer.n_messages -= 1
    if keep_id:
        writer.replace("gone", id_, b"")
    return True

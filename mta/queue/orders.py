"""What operators order, what clients take back, and what the deaths of workers leave behind: changes to rows.

Rule as in `apply`: no clock and no RAM. Which parts are leased at this moment comes as an argument; on those an order
is written into PartRow.order and carried out when they are settled. Every order may be given twice.
"""

from collections.abc import Callable, Iterator

import msgspec

from mta.link import OrderName
from mta.message import Outcome
from mta.queue.rows import drop_message, drop_part, move_due
from mta.report import Dropped, SetAside
from mta.report import encode as encode_event
from mta.store import (
    NEVER_MS,
    SUSPECT_DEATHS,
    MessageRow,
    PartRow,
    Writer,
    decode_message,
    decode_part,
    decode_recipient,
    encode,
    message_of,
    part_name,
    recipient_key,
    timer_row,
    wake_by,
)

__all__ = ["Moved", "carry_out", "carry_out_pending", "count_death", "withdraw"]

MOST_PARTS = 65_535
BY_OPERATOR = Outcome("dropped", 0, "", "removed by the operator", "", "")
BY_CLIENT = Outcome("dropped", 451, "4.3.0", "the client was told to come again", "", "")


class Moved(msgspec.Struct, frozen=True):
    """A part that is not leased is due at `due` ms now; 0: it is gone. `is_up`: its timer has moved to now."""

    part: bytes
    queue: int
    due: int
    is_up: bool = False


def carry_out(
    writer: Writer, order: OrderName, id_: bytes, is_leased: Callable[[bytes], bool], now: int
) -> list[Moved] | None:
    """Do to each part of a message what an operator ordered; None if there is no such message.

    Returns the parts that changed, leased ones with the `due` they have.
    """
    row = writer.get("message", id_)
    if row is None:
        return None
    message = decode_message(row)
    moved: list[Moved] = []
    for part, stood in list(_parts(writer, id_)):
        change = _change(writer, order, message, part, stood, is_leased(part), now)
        if change is not None:
            moved.append(change)
    return moved


def _change(
    writer: Writer, order: OrderName, message: MessageRow, part: bytes, stood: PartRow, is_leased: bool, now: int
) -> Moved | None:
    if stood.order == "bounce" or (is_leased and stood.order == order):
        # What is to be reported ends by nothing but the report.
        return None
    if order == "bounce":
        writer.remove("timer", timer_row(part, stood))
        changed = msgspec.structs.replace(stood, order="bounce", expires=now)
        writer.replace("part", part, encode(changed))
        if not writer.add("timer", timer_row(part, changed), b""):
            raise ValueError(f"part {part.hex()} has two timers")
        return Moved(part, stood.queue, stood.due, is_up=True)
    if is_leased:
        wanted = "" if order == "release" else order
        if stood.order == wanted:
            return None
        writer.replace("part", part, encode(msgspec.structs.replace(stood, order=wanted)))
        return Moved(part, stood.queue, stood.due)
    if order == "remove":
        _drop(writer, message, part, stood, BY_OPERATOR, now)
        drop_message(writer, message_of(part), part, keep_id=False)
        return Moved(part, stood.queue, 0)
    if order == "hold":
        if stood.state:
            return None
        move_due(writer, part, stood, msgspec.structs.replace(stood, state="held", due=NEVER_MS, order=""))
        return Moved(part, stood.queue, NEVER_MS)
    if bool(stood.state) != (order == "release"):
        return None
    # Released after a look at it: what workers died of once is not held against it any more.
    deaths = 0 if order == "release" else stood.deaths
    move_due(writer, part, stood, msgspec.structs.replace(stood, state="", due=now, deaths=deaths, order=""))
    wake_by(writer, stood.queue, now)
    return Moved(part, stood.queue, now)


def carry_out_pending(writer: Writer, part: bytes, now: int) -> Moved | None:
    """Carry out the order that waited for a part, now that it came back without being tried; None if there is none."""
    row, told = writer.get("part", part), writer.get("message", message_of(part))
    if row is None or told is None:
        return None
    stood = decode_part(row)
    order = stood.order
    if order not in ("hold", "remove", "retry"):
        return None
    return _change(writer, order, decode_message(told), part, stood, False, now)  # type: ignore[arg-type]


def withdraw(writer: Writer, id_: bytes, is_leased: Callable[[bytes], bool], now: int) -> list[Moved]:
    """Drop a message whose client was told 451, unless somebody has tried to deliver it: then the client's next try
    makes a second copy, and nobody can help it."""
    row = writer.get("message", id_)
    if row is None:
        return []
    message = decode_message(row)
    parts = list(_parts(writer, id_))
    if len(parts) < message.n_parts or any(stood.attempt or is_leased(part) for part, stood in parts):
        return []
    for part, stood in parts:
        _drop(writer, message, part, stood, BY_CLIENT, now)
        drop_message(writer, id_, part, keep_id=False)
    return [Moved(part, stood.queue, 0) for part, stood in parts]


def count_death(writer: Writer, part: bytes, tenant: str, now: int) -> None:
    """Write down that a worker died while it had a part; one that was a suspect before is set aside."""
    row = writer.get("part", part)
    if row is None:
        return
    stood = decode_part(row)
    changed = msgspec.structs.replace(stood, deaths=stood.deaths + 1)
    if stood.deaths >= SUSPECT_DEATHS and not stood.state:
        changed = msgspec.structs.replace(changed, state="aside", due=NEVER_MS)
        reason = f"{changed.deaths} workers died while they had it"
        number = int.from_bytes(part[16:], "big")
        writer.add_event(encode_event(SetAside(now, message_of(part), tenant, number, reason)))
    move_due(writer, part, stood, changed)


def _parts(writer: Writer, id_: bytes) -> Iterator[tuple[bytes, PartRow]]:
    for key, value in writer.scan("part", part_name(id_, 0), MOST_PARTS, prefix=id_):
        yield key, decode_part(value)


def _drop(writer: Writer, message: MessageRow, part: bytes, stood: PartRow, why: Outcome, now: int) -> None:
    """Take a part out of the queue, with an event for each of its recipients."""
    queued_s = (now - message.received_at) / 1000
    for key, value in writer.scan("recipient", recipient_key(part, 0), MOST_PARTS, prefix=part):
        recipient = decode_recipient(value)
        event = Dropped(
            now,
            message_of(part),
            message.tenant,
            recipient.address,
            int.from_bytes(key[-2:], "big"),
            stood.attempt,
            why.code,
            why.enhanced,
            why.reason,
            "",
            "",
            queued_s,
            0,
        )
        writer.add_event(encode_event(event))
        writer.count(message.tenant, "dropped", 1)
        writer.remove("recipient", key)
    drop_part(writer, part, stood)

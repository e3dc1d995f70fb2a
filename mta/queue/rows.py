"""The rows that belong to one part, and those of a message that goes with its last one: moved and dropped in one place.

Rule: a part has exactly one `due` row, where PartRow says it stands, and one `timer` row. No clock; called by `apply`
and `orders` inside a transaction. A row that is not where it must be is a StoreError of the writer's.
"""

from mta.link import PUT_OCTETS
from mta.queue.trash import throw_away
from mta.store import PartRow, Writer, decode_message, due_row, encode, message_of, part_name, timer_row

__all__ = ["drop_message", "drop_part", "move_due"]


def move_due(writer: Writer, part: bytes, stood: PartRow, moved: PartRow) -> None:
    """Write a part's new row, and put it where it is due now."""
    writer.remove("due", due_row(part, stood)[0])
    writer.replace("part", part, encode(moved))
    key, turn = due_row(part, moved)
    if not writer.add("due", key, turn):
        raise ValueError(f"part {part.hex()} is due twice")


def drop_part(writer: Writer, part: bytes, stood: PartRow) -> None:
    """Delete a part whose recipients are decided."""
    writer.remove("due", due_row(part, stood)[0])
    writer.remove("timer", timer_row(part, stood))
    writer.remove("part", part)


def drop_message(writer: Writer, id_: bytes, part: bytes, keep_id: bool) -> bool:
    """Delete a message and its content if `part`, just removed, was its last; return whether it was."""
    row = writer.get("message", id_)
    if row is None:
        raise ValueError(f"part {part.hex()} has no message")
    message = decode_message(row)
    if message.n_parts > 1:
        rest = writer.scan("part", part_name(id_, 0), 1)
        if rest and message_of(rest[0][0]) == id_:
            return False
    if message.octets > PUT_OCTETS:
        throw_away(writer, id_, encode(message.extents))
    else:
        for extent, octets in message.extents:
            writer.remove_extent(extent, octets)
    writer.remove("message", id_)
    writer.n_messages -= 1
    if keep_id:
        writer.replace("gone", id_, b"")
    return True

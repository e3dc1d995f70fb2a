"""Messages that come in parts: what a commit changes for them.

Rule: an `incoming` row holds the extents of one message that are committed, in order; it changes in the commit of each
part, and goes with the message's end, into its row, or with its abort, into the trash. What a dead worker left goes
there, too: an id names the incarnation of the worker that made it.

No clock and no RAM, as in `apply`. Used by the changes, and by the desk for what is to be swept.
"""

from collections.abc import Collection

from mta.link import Part
from mta.queue.trash import throw_away
from mta.store import Writer, decode_extents, encode

__all__ = ["abort", "has_parts", "orphans", "put_part", "take_parts"]

# More than this many at once would be one row for each connection of a very large server.
SWEEP_ROWS = 100_000


def put_part(writer: Writer, part: Part) -> bool:
    """Put a part; False if it has lost its place: it stands behind one that was refused, or its message was swept away,
    and its worker is about to hear why.

    Raises ValueError when it is here with another content.
    """
    row = writer.get("incoming", part.id)
    extents = decode_extents(row) if row is not None else ()
    if part.number < len(extents):
        if extents[part.number][1] != len(part.octets):
            raise ValueError(f"part {part.number} of message {part.id.hex()} came twice with different content")
        return True
    if row is None and part.repeat and _is_done(writer, part.id):
        return True
    if part.number > len(extents):
        return False
    extents += ((writer.add_extent(part.octets), len(part.octets)),)
    writer.replace("incoming", part.id, encode(extents))
    return True


def has_parts(writer: Writer, id_: bytes, n_parts: int) -> bool:
    """Return whether a message can come to its end: so many parts are here, or it has come to it before."""
    row = writer.get("incoming", id_)
    return _is_done(writer, id_) if row is None else len(decode_extents(row)) == n_parts


def take_parts(writer: Writer, id_: bytes, octets: int) -> tuple[tuple[int, int], ...]:
    """Take the extents of a message out of `incoming`. Raises ValueError unless they are `octets` in all."""
    extents = decode_extents(writer.get("incoming", id_) or b"")
    if sum(size for _, size in extents) != octets:
        raise ValueError(f"the parts of message {id_.hex()} are not {octets} octets")
    writer.remove("incoming", id_)
    return extents


def abort(writer: Writer, id_: bytes) -> None:
    """Throw away what has come of a message, if anything has."""
    row = writer.get("incoming", id_)
    if row is not None:
        throw_away(writer, id_, row)
        writer.remove("incoming", id_)


def orphans(writer: Writer, living: Collection[int]) -> list[bytes]:
    """Return the ids of messages whose worker is none of these incarnations: nobody will bring them to their end."""
    there = (id_ for id_, _ in writer.look("incoming", b"", SWEEP_ROWS))
    return [id_ for id_ in there if int.from_bytes(id_[8:12], "big") not in living]


def _is_done(writer: Writer, id_: bytes) -> bool:
    return writer.get("message", id_) is not None or writer.get("gone", id_) is not None

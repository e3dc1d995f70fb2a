"""What is done with a message of which chunks are lost: it keeps the others, and is set aside. Part of `repair`.

The chunks that are left are put under new extents, and where some are missing stands LOST_EXTENT with their octets.
Nobody can read that as content: a message that is released all the same is set aside again, and not sent with a hole.
"""

from collections.abc import Callable

import msgspec

from mta.store import (
    CHUNK_OCTETS,
    LOST_EXTENT,
    NEVER_MS,
    ROW_OCTETS,
    MessageRow,
    Salvage,
    Writer,
    decode_extents,
    decode_message,
    decode_part,
    due_row,
    encode,
    number_key,
    part_name,
)

__all__ = ["extent_chunks", "salvage", "set_aside"]

Chunks = list[tuple[bytes, bytes]]
Extents = tuple[tuple[int, int], ...]
PAGE_ROWS = 1000


def extent_chunks(writer: Writer, extent: int) -> Chunks:
    """Return the rows of `body` that belong to an extent."""
    lead = number_key(extent)
    chunks: Chunks = []
    start = lead
    while True:
        rows = writer.scan("body", start, PAGE_ROWS)
        mine = [(key, value) for key, value in rows if key.startswith(lead) and len(key) == len(lead) + 2]
        chunks += mine
        if len(rows) < PAGE_ROWS or not rows[-1][0].startswith(lead):
            return chunks
        start = rows[-1][0] + b"\0"


def salvage(writer: Writer, cure: Salvage, add_damaged: Callable[[str, bytes, bytes, str], None]) -> str:
    """Carry out a Salvage; return what was done, "" if an owner is not what it was when that was looked for.

    Chunks that fit nowhere go to `add_damaged` (table, key, value, what is wrong).
    """
    owners: list[tuple[str, bytes, int, MessageRow | Extents]] = []
    for table, id_, octets in cure.owners:
        value = writer.get(table, id_)
        if value is None:
            return ""
        row = decode_message(value) if table == "message" else decode_extents(value)
        if (cure.extent, octets) not in (row.extents if isinstance(row, MessageRow) else row):
            return ""
        owners.append((table, id_, octets, row))
    chunks = extent_chunks(writer, cure.extent)
    rests = {octets: _rest(writer, chunks, octets) for octets in {octets for *_, octets, _ in owners}}
    if not cure.is_used:
        kept = set().union(*(good for _, good in rests.values()))
        for key, value in chunks:
            if key not in kept:
                add_damaged("body", key, value, f"not the chunk that extent {cure.extent} should have there")
            writer.remove("body", key)
        writer.live_octets -= max(octets for *_, octets, _ in owners)
    for table, id_, octets, row in owners:
        if isinstance(row, MessageRow):
            extents = _replaced(row.extents, cure.extent, rests[octets][0])
            value = encode(msgspec.structs.replace(row, extents=extents))
            if len(value) + len(id_) > ROW_OCTETS:
                # So many holes that the row cannot name what lies between them.
                for key, chunk in chunks:
                    add_damaged("body", key, chunk, f"what is left of extent {cure.extent} of message {id_.hex()}")
                extents = _replaced(row.extents, cure.extent, ((LOST_EXTENT, octets),))
                value = encode(msgspec.structs.replace(row, extents=extents))
            writer.replace(table, id_, value)
            set_aside(writer, id_)
        else:
            rest = tuple(pair for pair in rests[octets][0] if pair[0] != LOST_EXTENT)
            writer.replace(table, id_, encode(_replaced(row, cure.extent, rest)))
    ids = ", ".join(id_.hex() for table, id_, _, _ in owners if table == "message")
    return f"what is left is kept{', set aside: message ' if ids else ''}{ids}"


def _rest(writer: Writer, chunks: Chunks, octets: int) -> tuple[Extents, set[bytes]]:
    """Put the good chunks of an extent that should have `octets` under new numbers; return them, with what is lost
    between them, and the keys of the good chunks."""
    n_chunks = -(-octets // CHUNK_OCTETS)
    found: dict[int, bytes] = {}
    good: set[bytes] = set()
    for key, value in chunks:
        at = int.from_bytes(key[8:], "big")
        wanted = min(CHUNK_OCTETS, octets - at * CHUNK_OCTETS)
        if at < n_chunks and len(value) == wanted:
            found[at] = value
            good.add(key)
    extents: list[tuple[int, int]] = []
    at = 0
    while at < n_chunks:
        start = at
        is_found = at in found
        while at < n_chunks and (at in found) == is_found:
            at += 1
        size = min(at * CHUNK_OCTETS, octets) - start * CHUNK_OCTETS
        extent = writer.add_extent(b"".join(found[n] for n in range(start, at))) if is_found else LOST_EXTENT
        extents.append((extent, size))
    return tuple(extents), good


def _replaced(extents: Extents, extent: int, rest: Extents) -> Extents:
    return tuple(pair for old in extents for pair in (rest if old[0] == extent else (old,)))


def set_aside(writer: Writer, id_: bytes) -> int:
    """Let every part of a message stand aside, due never; return how many there are."""
    n_parts = 0
    start = part_name(id_, 0)
    while True:
        rows = [row for row in writer.scan("part", start, PAGE_ROWS) if row[0].startswith(id_)]
        for name, value in rows:
            try:
                stood = decode_part(value)
            except (msgspec.MsgspecError, ValueError):
                continue
            moved = msgspec.structs.replace(stood, state="aside", due=NEVER_MS)
            writer.replace("part", name, encode(moved))
            writer.discard("due", due_row(name, stood)[0])
            writer.replace("due", *due_row(name, moved))
            n_parts += 1
        if len(rows) < PAGE_ROWS:
            return n_parts
        start = rows[-1][0] + b"\0"

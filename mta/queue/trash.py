"""Content that nobody wants any more, and that is too large to be deleted in one commit.

Rule: what is thrown away here is gone for everyone the moment its row is committed; its chunks go later, a slice a
commit, from the end of the last extent on, and the row says what is left. So a restart goes on where the last slice
ended. A long run of deletes would hold up every client that waits for the same commit, and break up the free list.

`live_octets` counts what is not yet deleted: the room is not there before.
"""

from mta.store import Writer, decode_extents, encode

__all__ = ["Trash", "throw_away"]

SLICE_CHUNKS = 500

Extents = tuple[tuple[int, int], ...]


def throw_away(writer: Writer, id_: bytes, extents: bytes) -> None:
    """Leave the extents of a message, encoded, to be deleted."""
    before = writer.get("trash", id_)
    if before is not None:
        # What was aborted once has nothing more to come; but if it has, it must not stay for good.
        extents = encode(decode_extents(before) + decode_extents(extents))
    writer.replace("trash", id_, extents)


class Trash:
    """Deletes slice after slice, as part of whatever transaction is open."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._from = b""
        self.is_empty = not writer.look("trash", b"", 1)
        """As of the last `look`; what was passed over does not count."""

    def delete_slice(self) -> None:
        """Delete up to SLICE_CHUNKS chunks of what was thrown away in transactions before this one.

        Content that came in this one is not in its table before the commit. Raises StorageFull; StoreError or a msgspec
        error for a bad row.
        """
        writer = self._writer
        n_left = SLICE_CHUNKS
        rows = writer.scan("trash", self._from, 1)
        while rows and n_left > 0:
            ((id_, value),) = rows
            extents = decode_extents(value)
            while extents and n_left > 0:
                extents, n_deleted = self._shorten(extents, n_left)
                n_left -= n_deleted
            if extents:
                writer.replace("trash", id_, encode(extents))
            else:
                writer.remove("trash", id_)
                rows = writer.scan("trash", self._from, 1)

    def look(self) -> None:
        """See whether there is any, after everything else in the transaction."""
        self.is_empty = not self._writer.scan("trash", self._from, 1)

    def pass_over(self) -> bytes:
        """Leave the first row for good, for it is bad; return the message's id. The next start tries it again."""
        ((id_, _),) = self._writer.scan("trash", self._from, 1)
        self._from = id_ + b"\0"
        return id_

    def _shorten(self, extents: Extents, most: int) -> tuple[Extents, int]:
        """Delete up to `most` chunks of the last extent; return the extents that are left, and how many chunks went."""
        *before, (extent, octets) = extents
        if self._writer.unshare_extent(extent):
            # Others hold it. It counts as one, so that a slice has an end whatever it finds.
            return tuple(before), 1
        left, n_deleted = self._writer.remove_chunks(extent, octets, most)
        return (*before, (extent, left)) if left else tuple(before), n_deleted

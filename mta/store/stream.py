"""A table walked row by row, with the row at hand: for walking tables in step."""

import msgspec

from mta.message import ID_OCTETS
from mta.store.snapshot import Snapshot
from mta.store.wrong import Move, Wrong

__all__ = ["UNREADABLE", "Stream"]

# msgspec raises a ValueError of Python's own for text that is not UTF-8.
UNREADABLE = (msgspec.MsgspecError, ValueError)

# Greater than any key of the tables that are walked in step.
END = b"\xff" * 64


class Stream:
    """The rows of one table with keys of `octets`; others are told to `found` and passed over.

    `key` and `value` are those of the row at hand, `id` and `part` the message id and the part's name in its key; all
    of them greater than any other where none is left.
    """

    __slots__ = ("_found", "_octets", "_rows", "_table", "id", "is_there", "key", "part", "value")

    def __init__(self, snapshot: Snapshot, table: str, octets: int, found: list[Wrong]) -> None:
        self._rows = snapshot.rows(table)
        self._table = table
        self._octets = octets
        self._found = found
        self.move()

    def move(self) -> None:
        """Go on to the next row."""
        for key, value in self._rows:
            if len(key) == self._octets:
                self.is_there = True
                self.key, self.value = key, value
                self.id, self.part = key[:ID_OCTETS], key[: ID_OCTETS + 2]
                return
            what = f"its key has {len(key)} octets and not {self._octets}"
            self._found.append(Wrong(self._table, key, what, Move()))
        self.is_there = False
        self.key = self.id = self.part = END
        self.value = b""

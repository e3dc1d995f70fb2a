"""One state of the queue, seen whole: every table as it stood when the read transaction began.

Rule: it is for what has to compare tables with each other (`verify`), and for nothing else. While it is open LMDB keeps
every page that is freed meanwhile: the file of a busy server grows by what is written in that time, and the pages are
used again afterwards.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import lmdb

__all__ = ["Snapshot"]


class Snapshot:
    """The tables within one transaction; of no use after it."""

    def __init__(self, txn: lmdb.Transaction, tables: Mapping[str, Any]) -> None:
        self._txn = txn
        self._table = tables

    def rows(self, table: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Walk the rows of a table with key >= `start`, in order."""
        cursor = self._txn.cursor(self._table[table])
        is_there = cursor.set_range(start) if start else cursor.first()
        # Without buffers=True py-lmdb gives bytes; its stubs cannot know.
        return cast("Iterator[tuple[bytes, bytes]]", cursor.iternext()) if is_there else iter(())

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return the value under `key`, or None."""
        return cast("bytes | None", self._txn.get(key, db=self._table[table]))

    def first(self, table: str, start: bytes) -> bytes:
        """Return the first key >= `start`, b"" if there is none."""
        cursor = self._txn.cursor(self._table[table])
        return cast(bytes, cursor.key()) if cursor.set_range(start) else b""

    def n_rows(self, table: str) -> int:
        """Return how many rows a table has."""
        return int(self._txn.stat(self._table[table])["entries"])

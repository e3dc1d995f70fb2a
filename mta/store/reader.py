"""Reading the queue from other processes: workers (messages to deliver), report (the outbox), the command line.

Rule: each method is one short read transaction, opened and closed within the call. A reader that stays open keeps LMDB
from using again any page freed since.
"""

import contextlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import cast

import lmdb
import msgspec

from mta.message import Outcome, lost_site
from mta.store.codec import (
    CounterRow,
    MessageRow,
    PartRow,
    PathRow,
    QueueRow,
    RecipientRow,
    decode_counter,
    decode_message,
    decode_part,
    decode_path,
    decode_queue,
    decode_recipient,
)
from mta.store.keys import TABLES, body_key, message_of, number, number_key, part_name, path_key, recipient_key
from mta.store.snapshot import Snapshot
from mta.store.writer import MAX_TABLES

__all__ = ["DAMAGE", "READ_ERRORS", "Leased", "Queued", "Reader"]

DAMAGE = (LookupError, msgspec.MsgspecError, UnicodeDecodeError, OverflowError)
"""What a method of Reader raises for a row that is not there, or not whole."""

READ_ERRORS = (lmdb.Error, OSError, *DAMAGE)
"""What any method of Reader may raise: damage, or the environment is not readable."""


class Leased(msgspec.Struct, frozen=True):
    """What a worker needs to know of a part it shall deliver."""

    part: bytes
    attempt: int
    message: MessageRow
    recipients: tuple[tuple[int, str], ...]


class QueuedPart(msgspec.Struct, frozen=True):
    """One part as it stands in the queue, with its queue and its recipients (number, row) that are still open; and with
    its path, if what keeps it from going is known of that."""

    name: bytes
    part: PartRow
    queue: QueueRow
    recipients: tuple[tuple[int, RecipientRow], ...]
    path: PathRow | None = None


class Queued(msgspec.Struct, frozen=True):
    """One message as it stands in the queue."""

    id: bytes
    message: MessageRow
    parts: tuple[QueuedPart, ...]


class Reader:
    """A read-only view of `data_dir/queue`."""

    def __init__(self, data_dir: str, map_octets: int) -> None:
        """Open the environment. Raises FileNotFoundError while the queue process has not made it yet."""
        path = Path(data_dir, "queue")
        try:
            self._env = lmdb.open(
                str(path), map_size=map_octets, max_dbs=MAX_TABLES, readonly=True, readahead=False, create=False
            )
        except lmdb.Error as problem:
            if (path / "data.mdb").exists():
                raise
            raise FileNotFoundError(f"{path}: there is no queue yet") from problem
        try:
            self._table = {name: self._env.open_db(name.encode(), create=False) for name in TABLES}
        except lmdb.NotFoundError as problem:
            self._env.close()
            raise FileNotFoundError(f"{path}: the queue is not complete yet") from problem

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Give every table as it stands now, in one transaction that is as long as the `with`: see Snapshot."""
        with self._env.begin() as txn:
            yield Snapshot(txn, self._table)

    def leased(self, part: bytes) -> Leased | None:
        """Return what is known of a part, None if it is not there any more.

        Raises msgspec.MsgspecError for a row that cannot be decoded, LookupError for one that is missing.
        """
        with self._env.begin() as txn:
            row = txn.get(part, db=self._table["part"])
            if row is None:
                return None
            message = txn.get(message_of(part), db=self._table["message"])
            if message is None:
                raise LookupError(f"part {part.hex()} has no message")
            recipients = tuple([(number, row.address) for number, row in self._recipients(txn, part)])
            if not recipients:
                raise LookupError(f"part {part.hex()} has no recipients")
            return Leased(part, decode_part(row).attempt, decode_message(message), recipients)

    def last_outcomes(self, part: bytes) -> dict[int, Outcome]:
        """Return the last outcome of each recipient of a part that has one, by number. Raises as `leased` does."""
        with self._env.begin() as txn:
            return {number: row.last for number, row in self._recipients(txn, part) if row.last is not None}

    def _recipients(self, txn: lmdb.Transaction, part: bytes) -> list[tuple[int, RecipientRow]]:
        found: list[tuple[int, RecipientRow]] = []
        for key, value in self._from(txn, "recipient", recipient_key(part, 0)):
            if not key.startswith(part):
                break
            found.append((int.from_bytes(key[-2:], "big"), decode_recipient(value)))
        return found

    def piece(self, extents: tuple[tuple[int, int], ...], piece: int) -> bytes:
        """Return the content of one extent of a message, counted from 0. Raises LookupError if it is not all there."""
        return self.content(extents[piece : piece + 1])

    def content(self, extents: tuple[tuple[int, int], ...]) -> bytes:
        """Return the content of extents, in order. Raises LookupError if it is not all there.

        A message may be larger than a process should hold at once: whoever can takes it piece by piece.
        """
        # As views into the map the chunks of a large extent are copied once, into the result.
        with self._env.begin(buffers=True) as txn:
            cursor = txn.cursor(self._table["body"])
            chunks: list[memoryview] = []
            for extent, octets in extents:
                left = octets
                if cursor.set_key(body_key(extent, 0)):
                    for chunk in cursor.iternext(keys=False, values=True):
                        chunks.append(chunk)
                        left -= len(chunk)
                        if left <= 0:
                            break
                if left:
                    raise LookupError(f"extent {extent}: {left} of {octets} octets are not where they should be")
            return b"".join(chunks)

    def events(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to `limit` (sequence number, encoded event) from the outbox, numbered above `after`, in order."""
        with self._env.begin() as txn:
            rows = islice(self._from(txn, "event", number_key(after + 1)), limit)
            return [(number(key), value) for key, value in rows]

    def queued(self, message_id: bytes) -> Queued | None:
        """Return one message, or None if it is not in the queue."""
        with self._env.begin() as txn:
            row = txn.get(message_id, db=self._table["message"])
            return None if row is None else self._queued(txn, message_id, row)

    def _from(self, txn: lmdb.Transaction, table: str, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Walk the rows of a table with key >= `start`."""
        cursor = txn.cursor(self._table[table])
        # Without buffers=True py-lmdb gives bytes; its stubs cannot know.
        return cast("Iterator[tuple[bytes, bytes]]", cursor.iternext()) if cursor.set_range(start) else iter(())

    def _queued(self, txn: lmdb.Transaction, message_id: bytes, row: bytes | memoryview) -> Queued:
        parts = []
        for key, value in self._from(txn, "part", part_name(message_id, 0)):
            if not key.startswith(message_id):
                break
            part = decode_part(value)
            queue = txn.get(number_key(part.queue), db=self._table["queue"])
            if queue is None:
                raise LookupError(f"part {key.hex()}: its queue {part.queue} is not there")
            row_of_queue = decode_queue(queue)
            path = self._failed_path(txn, row_of_queue)
            parts.append(QueuedPart(key, part, row_of_queue, tuple(self._recipients(txn, key)), path))
        return Queued(message_id, decode_message(row), tuple(parts))

    def _failed_path(self, txn: lmdb.Transaction, queue: QueueRow) -> PathRow | None:
        """Return the path that a queue waits for, if something is wrong with it."""
        site = queue.site or lost_site(queue.name.domain, queue.name.route)
        row = txn.get(path_key("", site), db=self._table["path"])
        path = decode_path(row) if row is not None else None
        return path if path is not None and path.failure is not None else None

    def page(self, after: bytes, limit: int) -> list[tuple[bytes, Queued | None]]:
        """Return up to `limit` (id, message) with an id above `after`, oldest first; None for one that is damaged."""
        with self._env.begin() as txn:
            rows = islice(self._from(txn, "message", after + b"\0"), limit)
            return [(key, self._maybe_queued(txn, key, value)) for key, value in rows]

    def _maybe_queued(self, txn: lmdb.Transaction, message_id: bytes, row: bytes) -> Queued | None:
        try:
            return self._queued(txn, message_id, row)
        except DAMAGE:
            return None

    def ids(self, after: bytes, limit: int) -> list[bytes]:
        """Return up to `limit` ids of messages above `after`, oldest first."""
        with self._env.begin() as txn:
            return self._keys(txn, "message", after + b"\0", limit)

    def queues(self, after: bytes, limit: int) -> list[tuple[bytes, QueueRow | None]]:
        """Return up to `limit` (key, queue) with a key above `after`; None for one that cannot be decoded."""
        with self._env.begin() as txn:
            return [(key, _maybe_queue(value)) for key, value in islice(self._from(txn, "queue", after + b"\0"), limit)]

    def due(self, queue: bytes, after: bytes, limit: int) -> list[bytes]:
        """Return up to `limit` keys of `due` above `after`, of the queue with this key."""
        with self._env.begin() as txn:
            keys = self._keys(txn, "due", max(queue, after + b"\0"), limit)
            return [key for key in keys if key.startswith(queue)]

    def _keys(self, txn: lmdb.Transaction, table: str, start: bytes, limit: int) -> list[bytes]:
        cursor = txn.cursor(self._table[table])
        if not cursor.set_range(start):
            return []
        # Its stubs do not know that this gives keys alone.
        return list(islice(cast("Iterator[bytes]", cursor.iternext(values=False)), limit))

    def last_message(self) -> bytes:
        """Return the id of the newest message, b"" when there is none."""
        with self._env.begin() as txn:
            cursor = txn.cursor(self._table["message"])
            return bytes(cursor.key()) if cursor.last() else b""

    def n_messages(self) -> int:
        """Return how many messages are queued."""
        with self._env.begin() as txn:
            return int(txn.stat(self._table["message"])["entries"])

    def parts(self, after: bytes, limit: int) -> list[tuple[bytes, PartRow | None]]:
        """Return up to `limit` parts named above `after`, in order; None for one that cannot be decoded."""
        with self._env.begin() as txn:
            rows = islice(self._from(txn, "part", after + b"\0"), limit)
            return [(key, _maybe_part(value)) for key, value in rows]

    def counters(self) -> list[CounterRow]:
        """Return every tenant's counters."""
        with self._env.begin() as txn:
            return [decode_counter(value) for _, value in txn.cursor(self._table["counter"])]


def _maybe_queue(value: bytes) -> QueueRow | None:
    try:
        return decode_queue(value)
    except DAMAGE:
        return None


def _maybe_part(value: bytes) -> PartRow | None:
    try:
        return decode_part(value)
    except DAMAGE:
        return None

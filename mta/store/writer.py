"""The one writer of the queue's LMDB environment: transactions, and the rows that belong to none of them in particular.

Rule: the result of every put and delete is checked. py-lmdb reports an append out of order, or a key that is not there,
by returning False; whoever ignores that loses mail.

Only the queue process makes a Writer, after the fork. Default sync flags: a commit that returned is on the disk (data
flush, then meta page through O_DSYNC). Bodies and events are gathered and put in one append run at commit.
"""

import os
from itertools import islice
from pathlib import Path
from typing import cast

import lmdb

from mta.message import QueueName
from mta.store.codec import (
    CHUNK_OCTETS,
    CounterRow,
    QueueRow,
    checked,
    decode_counter,
    decode_queue,
    encode,
)
from mta.store.keys import TABLES, body_key, number, number_key, queue_name_key, tenant_key, wake_key

__all__ = ["MAX_TABLES", "StorageFull", "StoreError", "Writer"]

SCHEMA = 1
MAX_TABLES = 32
MAX_READERS = 1024


class StoreError(Exception):
    """The environment is not what it should be, or a row is not where it must be; the text names it."""


class StorageFull(Exception):
    """LMDB's map or the disk is full; the transaction must be aborted."""


class Writer:
    """Holds the environment, one open transaction at a time, and the numbers that every transaction moves."""

    def __init__(self, data_dir: str, map_octets: int) -> None:
        """Open or make `data_dir/queue`. Raises StoreError when it cannot, or when its schema is another one's."""
        path = Path(data_dir, "queue")
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._env = lmdb.open(
                str(path),
                map_size=map_octets,
                max_dbs=MAX_TABLES,
                max_readers=MAX_READERS,
                readahead=False,
                mode=0o600,
            )
            with self._env.begin(write=True) as txn:
                self._table = {name: self._env.open_db(name.encode(), txn=txn) for name in TABLES}
                self._load(txn)
        except StoreError:
            self._env.close()
            raise
        except (lmdb.Error, OSError) as problem:
            text = str(problem)
            raise StoreError(text if str(path) in text else f"{path}: {text}") from problem
        self._txn: lmdb.Transaction | None = None
        self._chunks: list[tuple[bytes, bytes]] = []
        self._events: list[tuple[bytes, bytes]] = []
        self._dirty: set[str] = set()
        self.forget_dead_readers()

    def _load(self, txn: lmdb.Transaction) -> None:
        """Read the numbers that live in RAM between transactions; write them where the environment is new."""
        meta = self._table["meta"]

        def numbered(name: bytes, first: int) -> int:
            value = txn.get(name, db=meta)
            if value is None:
                if not txn.put(name, number_key(first), db=meta):
                    raise StoreError("a new meta row was not written")
                return first
            return number(cast(bytes, value))

        if numbered(b"schema", SCHEMA) != SCHEMA:
            raise StoreError("the queue was written by another version of this program")
        self.node = numbered(b"node", int.from_bytes(os.urandom(2), "big"))
        self._incarnation = numbered(b"incarnation", 0)
        self.live_octets = numbered(b"live_octets", 0)
        """Octets of content that messages hold."""
        self.n_messages = int(txn.stat(self._table["message"])["entries"])
        self._next_extent = numbered(b"next_extent", 1)
        self._next_queue = numbered(b"next_queue", 1)
        # Deleting the outbox must not start its numbers again.
        self._next_event = numbered(b"next_event", 1)
        self._counters = {
            row.tenant: row for row in map(decode_counter, (v for _, v in txn.cursor(self._table["counter"])))
        }

    # Transactions

    def begin(self) -> None:
        """Open the transaction that everything below works in."""
        self._before = (
            self._incarnation,
            self.live_octets,
            self._next_extent,
            self._next_queue,
            self._next_event,
        )
        self._n_messages_before = self.n_messages
        self._txn = self._env.begin(write=True)

    def commit(self) -> None:
        """Put what was gathered and commit; on return everything is on the disk.

        Raises StorageFull, or StoreError when a flush failed: nothing of the transaction may be answered, and the
        process must start again from what LMDB holds, because a failed flush cannot be repeated.
        """
        txn = self._open()
        try:
            self._put_run("body", self._chunks)
            self._put_run("event", self._events)
            self._put_numbers(txn)
            txn.commit()
        except lmdb.MapFullError as problem:
            raise StorageFull(str(problem)) from problem
        except lmdb.Error as problem:
            raise StoreError(f"commit: {problem}") from problem
        self._txn = None
        self._chunks, self._events = [], []
        self._dirty.clear()

    def abort(self) -> None:
        """Forget the transaction and take the numbers back to where they were before it."""
        if self._txn is not None:
            self._txn.abort()
        self._txn = None
        self._chunks, self._events = [], []
        self.n_messages = self._n_messages_before
        (self._incarnation, self.live_octets, self._next_extent, self._next_queue, self._next_event) = self._before
        for tenant in self._dirty:
            with self._env.begin(db=self._table["counter"]) as txn:
                value = txn.get(tenant_key(tenant))
            self._counters[tenant] = decode_counter(value) if value is not None else CounterRow(tenant)
        self._dirty.clear()

    def look(self, table: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` committed rows with key >= `start`, in order; no transaction is needed."""
        with self._env.begin() as txn:
            return _rows(txn.cursor(self._table[table]), start, limit)

    def look_up(self, table: str, key: bytes) -> bytes | None:
        """Return the committed value under `key`, or None; no transaction is needed."""
        with self._env.begin() as txn:
            return txn.get(key, db=self._table[table])

    def forget_dead_readers(self) -> None:
        """Free the reader slots of processes that are gone, and with them the pages they held."""
        self._env.reader_check()

    def close(self) -> None:
        """Close the environment; no transaction may be open."""
        self._env.close()

    def _open(self) -> lmdb.Transaction:
        if self._txn is None:
            raise StoreError("no transaction is open")
        return self._txn

    def _put_run(self, table: str, rows: list[tuple[bytes, bytes]]) -> None:
        if rows:
            consumed, added = self._open().cursor(self._table[table]).putmulti(rows, append=True, overwrite=False)
            if consumed != len(rows) or added != len(rows):
                raise StoreError(f"{table}: only {added} of {len(rows)} rows were appended")

    def _put_numbers(self, txn: lmdb.Transaction) -> None:
        meta = self._table["meta"]
        after = (self._incarnation, self.live_octets, self._next_extent, self._next_queue, self._next_event)
        names = (b"incarnation", b"live_octets", b"next_extent", b"next_queue", b"next_event")
        for name, old, new in zip(names, self._before, after, strict=True):
            if old != new and not txn.put(name, number_key(new), db=meta):
                raise StoreError(f"meta: {name.decode()} was not written")
        for tenant in self._dirty:
            row = self._counters[tenant]
            if not txn.put(tenant_key(tenant), encode(row), db=self._table["counter"]):
                raise StoreError(f"counter: {tenant} was not written")

    # Rows

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return the value under `key`, or None."""
        # Without buffers=True py-lmdb gives bytes; its stubs cannot know.
        return cast("bytes | None", self._open().get(key, db=self._table[table]))

    def add(self, table: str, key: bytes, value: bytes) -> bool:
        """Put a row that must be new; False if the key is taken. Raises ValueError (too large) or StorageFull."""
        checked(key, value)
        try:
            return self._open().put(key, value, overwrite=False, db=self._table[table])
        except lmdb.Error as problem:
            raise _meaning(problem) from problem

    def replace(self, table: str, key: bytes, value: bytes) -> None:
        """Put a row over the one that is there, or where none is. Raises ValueError (too large) or StorageFull."""
        checked(key, value)
        try:
            if not self._open().put(key, value, db=self._table[table]):
                raise StoreError(f"{table}: {key.hex()} was not written")
        except lmdb.Error as problem:
            raise _meaning(problem) from problem

    def remove(self, table: str, key: bytes) -> None:
        """Delete a row that must be there. Raises StoreError if it is not, or StorageFull."""
        if not self.discard(table, key):
            raise StoreError(f"{table}: {key.hex()} is not there")

    def discard(self, table: str, key: bytes) -> bool:
        """Delete a row if it is there; say whether it was. Raises StorageFull: a page is copied before it changes."""
        try:
            return self._open().delete(key, db=self._table[table])
        except lmdb.Error as problem:
            raise _meaning(problem) from problem

    def scan(self, table: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` rows with key >= `start`, in order."""
        return _rows(self._open().cursor(self._table[table]), start, limit)

    # Content, events, queues, counters

    def add_extent(self, content: bytes) -> int:
        """Take `content` in chunks under a new extent number, and return the number.

        Numbers are given here, inside the transaction, so that every body row is a true append.
        """
        extent = self._next_extent
        self._next_extent += 1
        self.live_octets += len(content)
        self._chunks.extend(
            (body_key(extent, chunk), content[start : start + CHUNK_OCTETS])
            for chunk, start in enumerate(range(0, len(content), CHUNK_OCTETS))
        )
        return extent

    def remove_extent(self, extent: int, octets: int) -> None:
        """Delete the chunks of an extent of `octets`. Raises StoreError if one is missing, or StorageFull."""
        delete = self._open().delete
        table = self._table["body"]
        try:
            for chunk in range(-(-octets // CHUNK_OCTETS)):
                if not delete(body_key(extent, chunk), db=table):
                    raise StoreError(f"body: chunk {chunk} of extent {extent} is not there")
        except lmdb.Error as problem:
            raise _meaning(problem) from problem
        self.live_octets -= octets

    def add_event(self, event: bytes) -> None:
        """Put an encoded event into the outbox under the next sequence number."""
        key = number_key(self._next_event)
        self._events.append((key, checked(key, event)))
        self._next_event += 1

    def remove_events(self, last: int, limit: int) -> bool:
        """Delete up to `limit` events numbered up to `last`; return whether more of them may be left."""
        cursor = self._open().cursor(self._table["event"])
        for _ in range(limit):
            if not cursor.first() or number(cast(bytes, cursor.key())) > last:
                return False
            try:
                is_deleted = cursor.delete()
            except lmdb.Error as problem:
                raise _meaning(problem) from problem
            if not is_deleted:
                raise StoreError("event: the first row could not be deleted")
        return True

    def new_incarnation(self) -> int:
        """Return a process number that was never given before and, once committed, never will be again."""
        self._incarnation += 1
        return self._incarnation

    def count(self, tenant: str, fate: str, recipients: int) -> None:
        """Add to a tenant's counter: received, delivered, bounced, expired or dropped."""
        row = self._counters.get(tenant)
        if row is None:
            row = self._counters[tenant] = CounterRow(tenant)
        setattr(row, fate, getattr(row, fate) + recipients)
        self._dirty.add(tenant)

    def open_queue(self, name: QueueName, now: int) -> int:
        """Return the number of a queue that shall take a part due at `now`, made if there is none."""
        key = queue_name_key(name)
        value = self.get("queue_name", key)
        if value is not None:
            row = self.get("queue", value)
            if row is None:
                raise StoreError(f"queue: {value.hex()} has a name and no row")
            wake = decode_queue(row).wake
            if wake > now:
                # Otherwise the part would wait for the queue's old time if the process died with the queue awake.
                self.move_wake(number(value), name, wake, now)
            return number(value)
        numbered = self._next_queue
        self._next_queue += 1
        if not (
            self.add("queue_name", key, number_key(numbered))
            and self.add("queue", number_key(numbered), encode(QueueRow(name, now)))
            and self.add("wake", wake_key(now, numbered), b"")
        ):
            raise StoreError(f"queue: number {numbered} was given twice")
        return numbered

    def move_wake(self, queue: int, name: QueueName, old: int, new: int) -> None:
        """Say that nothing in a queue is due before `new` any more, rather than `old`."""
        self.remove("wake", wake_key(old, queue))
        if not self.add("wake", wake_key(new, queue), b""):
            raise StoreError(f"wake: queue {queue} is there twice")
        self.replace("queue", number_key(queue), encode(QueueRow(name, new)))

    def remove_queue(self, queue: int, name: QueueName, wake: int) -> None:
        """Delete an empty queue."""
        self.remove("wake", wake_key(wake, queue))
        self.remove("queue", number_key(queue))
        self.remove("queue_name", queue_name_key(name))


def _meaning(problem: lmdb.Error) -> StorageFull | StoreError:
    """Return what an error inside a transaction means to the caller."""
    kind = StorageFull if isinstance(problem, lmdb.MapFullError) else StoreError
    return kind(str(problem))


def _rows(cursor: lmdb.Cursor, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    if not cursor.set_range(start):
        return []
    return cast("list[tuple[bytes, bytes]]", list(islice(cursor.iternext(), limit)))

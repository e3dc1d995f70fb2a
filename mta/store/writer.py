"""The one writer of the queue's LMDB environment: transactions, and the rows that belong to none of them in particular.

Rule: the result of every put and delete is checked. py-lmdb reports an append out of order, or a key that is not there,
by returning False; whoever ignores that loses mail.

Only the queue process makes a Writer, after the fork. Default sync flags: a commit that returned is on the disk (data
flush, then meta page through O_DSYNC). Bodies and events are gathered and put in one append run at commit.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import cast

import lmdb
import msgspec

from mta.store.codec import CHUNK_OCTETS, CounterRow, checked, decode_counter, encode
from mta.store.errors import StorageFull, StoreError, meaning
from mta.store.keys import LOST_EXTENT, TABLES, body_key, chunk_rows, number, number_key, tenant_key
from mta.store.snapshot import Snapshot

__all__ = ["MAX_TABLES", "Writer"]

SCHEMA = 1
MAX_TABLES = 32
MAX_READERS = 1024


class Writer:
    """Holds the environment, one open transaction at a time, and the numbers that every transaction moves."""

    def __init__(self, data_dir: str, map_octets: int, *, for_repair: bool = False) -> None:
        """Open or make `data_dir/queue`; `for_repair` even if counters cannot be decoded, which are left out then.

        Raises StoreError when it cannot, or when its schema is another one's.
        """
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
                self._load(txn, skips_damage=for_repair)
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

    def _load(self, txn: lmdb.Transaction, *, skips_damage: bool) -> None:
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
        """Octets of content in `body`: what messages hold, what is still coming in, and trash not yet deleted."""
        # Where nothing was ever shared, removing need not ask.
        self._has_shared = int(txn.stat(self._table["extent"])["entries"]) > 0
        self.n_messages = int(txn.stat(self._table["message"])["entries"])
        self._next_extent = numbered(b"next_extent", 1)
        self._next_queue = numbered(b"next_queue", 1)
        # Deleting the outbox must not start its numbers again.
        self._next_event = numbered(b"next_event", 1)
        self._counters: dict[str, CounterRow] = {}
        for key, value in txn.cursor(self._table["counter"]):
            try:
                row = decode_counter(value)
            except (msgspec.MsgspecError, ValueError) as problem:
                if not skips_damage:
                    text = f"counter {bytes(key).hex()} cannot be decoded; mta queue verify --repair mends it"
                    raise StoreError(text) from problem
                continue
            self._counters[row.tenant] = row

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

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Give every table as it was committed last; it stays so whatever is written within the `with`."""
        with self._env.begin() as txn:
            yield Snapshot(txn, self._table)

    def used_octets(self) -> tuple[int, int]:
        """Return the octets of all pages that tables use, and of those that hold events; as of the last commit."""
        sizes: dict[str, int] = {}
        with self._env.begin() as txn:
            for name, table in self._table.items():
                stat = txn.stat(table)
                sizes[name] = stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])
        return sum(sizes.values()), sizes["event"]

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

    def _put_run(self, table: str, rows: Sequence[tuple[bytes, bytes]]) -> None:
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

    # Rows. By their places, because by their names each call would make a dict of LMDB's arguments.

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return the value under `key`, or None."""
        # Without buffers=True py-lmdb gives bytes; its stubs cannot know.
        return cast("bytes | None", self._open().get(key, None, self._table[table]))

    def add(self, table: str, key: bytes, value: bytes) -> bool:
        """Put a row that must be new; False if the key is taken. Raises ValueError (too large) or StorageFull."""
        checked(key, value)
        try:
            return self._open().put(key, value, True, False, False, self._table[table])
        except lmdb.Error as problem:
            raise meaning(problem) from problem

    def replace(self, table: str, key: bytes, value: bytes) -> None:
        """Put a row over the one that is there, or where none is. Raises ValueError (too large) or StorageFull."""
        checked(key, value)
        try:
            if not self._open().put(key, value, True, True, False, self._table[table]):
                raise StoreError(f"{table}: {key.hex()} was not written")
        except lmdb.Error as problem:
            raise meaning(problem) from problem

    def remove(self, table: str, key: bytes) -> None:
        """Delete a row that must be there. Raises StoreError if it is not, or StorageFull."""
        if not self.discard(table, key):
            raise StoreError(f"{table}: {key.hex()} is not there")

    def discard(self, table: str, key: bytes) -> bool:
        """Delete a row if it is there; say whether it was. Raises StorageFull: a page is copied before it changes."""
        try:
            return self._open().delete(key, b"", self._table[table])
        except lmdb.Error as problem:
            raise meaning(problem) from problem

    def scan(self, table: str, start: bytes, limit: int, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return up to `limit` rows with key >= `start`, in order; only those whose keys begin with `prefix`."""
        return _rows(self._open().cursor(self._table[table]), start, limit, prefix)

    # Content, events, queues, counters

    def add_extent(self, content: bytes | memoryview) -> int:
        """Take `content` in chunks under a new extent number, and return the number.

        Numbers are given here, inside the transaction, so that every body row is a true append.
        """
        extent = self._next_extent
        self._next_extent += 1
        self.live_octets += len(content)
        self._chunks += chunk_rows(extent, content, CHUNK_OCTETS)
        return extent

    def share_extent(self, extent: int) -> None:
        """Say that one message more holds an extent. Raises ValueError unless it is there."""
        self._has_shared = True
        txn, key = self._open(), number_key(extent)
        sharers = txn.get(key, db=self._table["extent"])
        if sharers is None and not self._has_extent(extent):
            raise ValueError(f"extent {extent} is not there to be shared")
        self.replace("extent", key, number_key(2 if sharers is None else number(cast(bytes, sharers)) + 1))

    def _has_extent(self, extent: int) -> bool:
        # The chunks of one that came in this transaction are put when it is committed.
        first_new = self._before[2]
        return first_new <= extent < self._next_extent or self.get("body", body_key(extent, 0)) is not None

    def remove_extent(self, extent: int, octets: int) -> None:
        """Say that one message less holds an extent of `octets`; the last one's word deletes its chunks.

        Raises StoreError if a chunk is missing, or StorageFull.
        """
        if not self.unshare_extent(extent):
            self.remove_chunks(extent, octets, -(-octets // CHUNK_OCTETS))

    def unshare_extent(self, extent: int) -> bool:
        """Count one message off; False if nobody shared the extent with it, and its chunks are to be deleted."""
        if not self._has_shared:
            return False
        key = number_key(extent)
        sharers = self.get("extent", key)
        if sharers is None:
            return False
        if number(sharers) > 2:
            self.replace("extent", key, number_key(number(sharers) - 1))
        else:
            self.remove("extent", key)
        return True

    def remove_chunks(self, extent: int, octets: int, most: int) -> tuple[int, int]:
        """Delete up to `most` chunks of an extent of `octets`, from its end; return (octets left, chunks deleted).

        Raises StoreError if a chunk is missing, or StorageFull.
        """
        if extent == LOST_EXTENT:
            return 0, 0
        delete = self._open().delete
        table = self._table["body"]
        if self._before[2] <= extent < self._next_extent:
            # It came in this transaction, and is not in its table yet.
            self._chunks = [chunk for chunk in self._chunks if number(chunk[0]) != extent]
            self.live_octets -= octets
            return 0, -(-octets // CHUNK_OCTETS)
        n_chunks = -(-octets // CHUNK_OCTETS)
        n_left = max(0, n_chunks - most)
        try:
            for chunk in range(n_left, n_chunks):
                if not delete(body_key(extent, chunk), b"", table):
                    raise StoreError(f"body: chunk {chunk} of extent {extent} is not there")
        except lmdb.Error as problem:
            raise meaning(problem) from problem
        left = min(octets, n_left * CHUNK_OCTETS)
        self.live_octets -= octets - left
        return left, n_chunks - n_left

    def add_event(self, event: bytes) -> None:
        """Put an encoded event into the outbox under the next sequence number."""
        key = number_key(self._next_event)
        self._events.append((key, checked(key, event)))
        self._next_event += 1

    def remove_events(self, last: int, limit: int) -> bool:
        """Delete up to `limit` events numbered up to `last`; return whether more of them may be left."""
        cursor = self._open().cursor(self._table["event"])
        has_more = cursor.first()
        for _ in range(limit):
            # A delete leaves the cursor on the row that follows, on no key behind the last one.
            if not has_more or not (key := cast(bytes, cursor.key())) or number(key) > last:
                return False
            try:
                is_deleted = cursor.delete()
            except lmdb.Error as problem:
                raise meaning(problem) from problem
            if not is_deleted:
                raise StoreError("event: the first row could not be deleted")
        return True

    def new_incarnation(self) -> int:
        """Return a process number that was never given before and, once committed, never will be."""
        self._incarnation += 1
        return self._incarnation

    def count(self, tenant: str, fate: str, recipients: int) -> None:
        """Add to a tenant's counter: received, delivered, bounced, expired or dropped."""
        row = self._counters.get(tenant)
        if row is None:
            row = self._counters[tenant] = CounterRow(tenant)
        setattr(row, fate, getattr(row, fate) + recipients)
        self._dirty.add(tenant)

    def counter(self, tenant: str) -> CounterRow:
        """Return a tenant's counters as they stand in this transaction; not to be changed."""
        return self._counters.get(tenant) or CounterRow(tenant)

    def set_number(self, name: str, value: int) -> None:
        """Put a number of `meta` right: live_octets, or the next extent, queue or event. For repairs."""
        if name == "live_octets":
            self.live_octets = value
        elif name == "next_extent":
            self._next_extent = value
        elif name == "next_queue":
            self._next_queue = value
        elif name == "next_event":
            self._next_event = value
        else:
            raise ValueError(f"meta {name} is not a number that can be found again")
        self.replace("meta", name.encode(), number_key(value))

    def new_queue(self) -> int:
        """Return a number that no queue ever had."""
        self._next_queue += 1
        return self._next_queue - 1


def _rows(cursor: lmdb.Cursor, start: bytes, limit: int, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
    rows = cast("Iterator[tuple[bytes, bytes]]", cursor.iternext() if cursor.set_range(start) else iter(()))
    return list(islice(takewhile(lambda row: row[0].startswith(prefix), rows) if prefix else rows, limit))

"""What waits for the next commit, and the commit: one transaction for everything that every worker handed in.

Rule: nothing is answered, leased or forgotten before `commit` has returned; what it returns says what may be.

One frame that cannot be applied costs nobody else anything: the transaction is aborted and made again without it. A
full map refuses the messages and keeps the settlements. A failed flush is final: StoreError leaves `commit`, and the
process has to start again from what is on the disk.
"""

import struct

import msgspec

from mta.link import Put, Settlement
from mta.queue.apply import Arrived, Off, put_message, settle_part
from mta.queue.awake import Queue
from mta.reply import REPLY_451_QUEUE_SILENT, REPLY_452_STORAGE, Reply
from mta.report import Fault, cut
from mta.report import encode as encode_event
from mta.store import StorageFull, StoreError, Writer, decode_queue, due_key, due_of, number, number_key

__all__ = ["Batch", "Done", "Due"]

MOST_MESSAGES = 128
MOST_OCTETS = 1_048_576
# Deleting what the report process has taken goes in slices, so that no commit waits for a long run of deletes.
TAKEN_EVENTS = 1000
# struct.error: a number in the frame is larger than its place in a key.
BAD_FRAME = (ValueError, LookupError, StoreError, msgspec.MsgspecError, struct.error)
FAULT_OCTETS = 500


class Due(msgspec.Struct, frozen=True):
    """One settlement to apply; it is tried again at `next_at` ms if it was deferred."""

    settlement: Settlement
    next_at: int


class Done(msgspec.Struct):
    """What a commit did: the answer to each PUT (None: stored), parts that arrived, parts that are off their session,
    ids that `gone` remembers now, settlements that could not be applied, new wake times of queues that sleep now."""

    answers: list[tuple[Put, Reply | None]] = []
    arrived: list[Arrived] = []
    off: list[Off] = []
    kept_ids: list[bytes] = []
    failed: list[Settlement] = []
    wakes: list[int] = []


class Batch:
    """Gathers changes and commits them."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._puts: list[Put] = []
        self._octets = 0
        self._refused: dict[int, Reply] = {}
        self._settled: list[Due] = []
        self._notes: list[bytes] = []
        self._asleep: list[Queue] = []
        self._forget: list[bytes] = []
        self._taken = 0
        self._taken_before = 0

    @property
    def has_messages(self) -> bool:
        """Clients wait for this batch."""
        return bool(self._puts)

    @property
    def is_full(self) -> bool:
        """Nothing more should be read before the next commit."""
        return len(self._puts) + len(self._settled) >= MOST_MESSAGES or self._octets >= MOST_OCTETS

    @property
    def has_settlements(self) -> bool:
        """Settlements wait; they can do so for a moment."""
        return bool(self._settled)

    @property
    def has_work(self) -> bool:
        """There is something to commit, if only some day."""
        return bool(
            self._puts
            or self._settled
            or self._notes
            or self._asleep
            or self._forget
            or self._taken > self._taken_before
        )

    def put(self, put: Put) -> None:
        """Take a message."""
        self._puts.append(put)
        self._octets += len(put.content)

    def refuse(self, put: Put, reply: Reply) -> None:
        """Take a message that is refused already, so that its answer keeps its place among the others."""
        self._refused[len(self._puts)] = reply
        self._puts.append(put)

    def settle(self, settled: Due) -> None:
        """Take a settlement."""
        self._settled.append(settled)

    def note(self, event: bytes) -> None:
        """Take an encoded event."""
        self._notes.append(event)

    def sleep(self, queue: Queue) -> None:
        """Take a queue that has nothing to do: its `wake` row moves, or it goes altogether."""
        self._asleep.append(queue)

    def forget(self, id_: bytes) -> None:
        """Take an id that cannot be put again: its `gone` row may go."""
        self._forget.append(id_)

    def taken(self, last: int) -> None:
        """Events up to this sequence number are safe in files."""
        self._taken = max(self._taken, last)

    def commit(self, now: int, repeatable: set[bytes], *, keep_all_ids: bool) -> Done:
        """Apply and commit everything; return what may be said now. Raises StoreError when a flush failed.

        `repeatable` are the ids that a worker may still put again, `keep_all_ids` says that every worker may.
        """
        refused = dict(self._refused)
        failed: set[int] = set()
        writer = self._writer
        taken_before = self._taken_before
        while True:
            writer.begin()
            done = Done()
            try:
                if self._apply(done, refused, failed, now, repeatable, keep_all_ids=keep_all_ids):
                    writer.commit()
                    break
            except StorageFull as problem:
                if len(refused) == len(self._puts):
                    raise StoreError(f"not even settlements fit any more: {problem}") from problem
                refused.update((at, REPLY_452_STORAGE) for at in range(len(self._puts)) if at not in refused)
            self._taken_before = taken_before
            writer.abort()
        self._puts, self._settled, self._notes, self._asleep, self._forget = [], [], [], [], []
        self._octets = 0
        self._refused = {}
        return done

    def refuse_all(self) -> list[Put]:
        """Return the messages that no commit took: a flush failed, and their clients should be told to come again."""
        return self._puts

    def _apply(
        self,
        done: Done,
        refused: dict[int, Reply],
        failed: set[int],
        now: int,
        repeatable: set[bytes],
        *,
        keep_all_ids: bool,
    ) -> bool:
        """Apply every change that is not refused or failed; False when one more turned out to be."""
        writer = self._writer
        for at, put in enumerate(self._puts):
            reply = refused.get(at)
            if reply is None:
                try:
                    arrived = put_message(writer, put.head, put.content, now, repeat=put.repeat)
                except BAD_FRAME as problem:
                    refused[at] = REPLY_451_QUEUE_SILENT
                    self._fault(now, put.head.id, put.head.tenant, problem)
                    return False
                done.arrived.extend(arrived or ())
            done.answers.append((put, reply))
        for at, settled in enumerate(self._settled):
            if at in failed:
                done.failed.append(settled.settlement)
                continue
            id_ = settled.settlement.part[:16]
            keep_id = keep_all_ids or id_ in repeatable
            try:
                off = settle_part(writer, settled.settlement, now, settled.next_at, keep_id=keep_id)
            except BAD_FRAME as problem:
                failed.add(at)
                self._fault(now, id_, settled.settlement.tenant, problem)
                return False
            done.off.append(off)
            if keep_id and off.removed:
                done.kept_ids.append(off.removed)
        self._tidy(done, now)
        return True

    def _tidy(self, done: Done, now: int) -> None:
        """What no frame asked for."""
        writer = self._writer
        for event in self._notes:
            try:
                writer.add_event(event)
            except ValueError as problem:
                # Clients have a say in how long these are.
                writer.add_event(encode_event(Fault(now, b"", "", "note", str(problem))))
        for id_ in self._forget:
            writer.discard("gone", id_)
        for queue in self._asleep:
            value = writer.get("queue", number_key(queue.number))
            if value is None:
                # It woke, and went to sleep again, before its row was gone.
                continue
            # The row knows best: a message in this very transaction may have moved it.
            wake = decode_queue(value).wake
            start = queue.read_from + b"\0" if queue.read_from else due_key(queue.number, 0, b"")
            first = writer.scan("due", start, 1)
            if first and number(first[0][0]) == queue.number:
                due = due_of(first[0][0])[0]
                if due != wake:
                    writer.move_wake(queue.number, queue.name, wake, due)
                done.wakes.append(due)
                continue
            # A part whose settlement failed lies before `read_from`, and keeps its queue until the next start.
            first = writer.scan("due", due_key(queue.number, 0, b""), 1)
            if not first or number(first[0][0]) != queue.number:
                writer.remove_queue(queue.number, queue.name, wake)
        if self._taken > self._taken_before and not writer.remove_events(self._taken, TAKEN_EVENTS):
            self._taken_before = self._taken

    def _fault(self, now: int, id_: bytes, tenant: str, problem: Exception) -> None:
        detail = cut(f"{type(problem).__name__}: {problem}", FAULT_OCTETS)
        self._notes.append(encode_event(Fault(now, id_[:16], cut(tenant, FAULT_OCTETS), "queue", detail)))

"""What waits for the next commit, and the commit: one transaction for everything that every worker handed in.

Rule: nothing is answered, leased or forgotten before `commit` has returned; the changes it returns say what may be.

One change that cannot be applied costs nobody else anything: the transaction is aborted and made again without it. A
full map refuses the messages and keeps the settlements. A failed flush is final: StoreError leaves `commit`, and the
process has to start again from what is on the disk.
"""

from mta.queue.awake import Queue
from mta.queue.changes import BAD_FRAME, Change, Circumstances, PartChange, PutChange
from mta.queue.trash import Trash
from mta.reply import REPLY_452_STORAGE
from mta.report import Fault, cut
from mta.report import encode as encode_event
from mta.store import (
    StorageFull,
    StoreError,
    Writer,
    decode_queue,
    due_key,
    due_of,
    move_wake,
    number,
    number_key,
    remove_queue,
)

__all__ = ["MOST_CHANGES", "Batch", "Done"]

MOST_CHANGES = 128
"""About how many changes a commit takes."""
MOST_OCTETS = 1_048_576
# Deleting what the report process has taken goes in slices, so that no commit waits for a long run of deletes.
TAKEN_EVENTS = 1000
FAULT_OCTETS = 500


class Done:
    """What a commit did: its changes, each with what came of it, and the new wake times of queues that sleep now."""

    __slots__ = ("changes", "wakes")

    def __init__(self, changes: list[Change], wakes: list[int]) -> None:
        self.changes = changes
        self.wakes = wakes


class Batch:
    """Gathers changes and commits them."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._trash = Trash(writer)
        self._changes: list[Change] = []
        self._octets = 0
        self._is_awaited = False
        self._notes: list[bytes] = []
        self._asleep: list[Queue] = []
        self._forget: list[bytes] = []
        self._taken = 0
        self._taken_before = 0
        self.n_commits = 0
        """How many there were."""

    @property
    def is_awaited(self) -> bool:
        """Somebody waits for this commit."""
        return self._is_awaited

    @property
    def is_full(self) -> bool:
        """Nothing more should be read before the next commit."""
        return self.is_full_of(MOST_CHANGES)

    def is_full_of(self, n_changes: int) -> bool:
        """There are so many changes, or more octets than one commit should have."""
        return len(self._changes) >= n_changes or self._octets >= MOST_OCTETS

    @property
    def n_changes(self) -> int:
        """How many changes wait."""
        return len(self._changes)

    @property
    def has_changes(self) -> bool:
        """Changes wait; those that are not awaited can do so for a moment."""
        return bool(self._changes)

    @property
    def has_trash(self) -> bool:
        """A slice of it goes with every commit."""
        return not self._trash.is_empty

    @property
    def has_news(self) -> bool:
        """There is something to commit that would be lost."""
        return bool(self._changes or self._notes or self._asleep or self._forget or self._taken > self._taken_before)

    @property
    def has_work(self) -> bool:
        """There is something to commit, if only some day."""
        return self.has_trash or self.has_news

    def add(self, change: Change) -> None:
        """Take a change."""
        self._changes.append(change)
        self._octets += change.n_octets
        self._is_awaited |= change.is_awaited

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

    def commit(self, now: Circumstances) -> Done:
        """Apply and commit everything; return what may be said now. Raises StoreError when a flush failed."""
        writer = self._writer
        taken_before = self._taken_before
        deletes = True
        while True:
            writer.begin()
            try:
                wakes: list[int] = []
                is_clean = not deletes or self._delete_trash(now.now)
                if is_clean and self._apply(now) and self._put_all_to_sleep(now.now, wakes):
                    self._tidy(now.now)
                    self._trash.look()
                    writer.commit()
                    break
            except StorageFull as problem:
                # A delete copies its page first: without the trash a settlement may fit.
                if not self._refuse_messages() and not deletes:
                    raise StoreError(f"not even settlements fit any more: {problem}") from problem
                deletes = False
            self._taken_before = taken_before
            writer.abort()
        done = Done(self._changes, wakes)
        self._changes, self._notes, self._asleep, self._forget = [], [], [], []
        self._octets, self._is_awaited = 0, False
        self.n_commits += 1
        return done

    @property
    def changes(self) -> list[Change]:
        """What no commit took yet: if a flush fails, their clients should be told to come again."""
        return self._changes

    def _refuse_messages(self) -> bool:
        """Refuse every message and part; return whether there were any that were not refused yet."""
        refused = False
        for change in self._changes:
            if isinstance(change, PutChange | PartChange) and change.reply is None:
                change.reply = REPLY_452_STORAGE
                refused = True
        return refused

    def _delete_trash(self, now: int) -> bool:
        """Delete a slice of what was thrown away; False when some of it turned out to be bad, and is passed over."""
        try:
            self._trash.delete_slice()
        except BAD_FRAME as problem:
            self._fault(now, self._trash.pass_over(), "", problem)
            return False
        return True

    def _apply(self, now: Circumstances) -> bool:
        """Apply every change; False when one turned out to be bad, and knows it now."""
        now.settled.clear()
        for change in self._changes:
            try:
                change.apply(self._writer, now)
            except BAD_FRAME as problem:
                self._fault(now.now, *change.fail(), problem)
                return False
        return True

    def _fault(self, now: int, id_: bytes, tenant: str, problem: Exception) -> None:
        detail = cut(f"{type(problem).__name__}: {problem}", FAULT_OCTETS)
        self._notes.append(encode_event(Fault(now, id_[:16], cut(tenant, FAULT_OCTETS), "queue", detail)))

    def _put_all_to_sleep(self, now: int, wakes: list[int]) -> bool:
        """Write down when queues wake, and add that to `wakes`; False when one cannot be, which is left as it was."""
        for queue in self._asleep:
            try:
                wake = self._put_to_sleep(queue)
            except BAD_FRAME as problem:
                self._asleep.remove(queue)
                self._fault(now, b"", queue.name.tenant, problem)
                return False
            if wake is not None:
                wakes.append(wake)
        return True

    def _tidy(self, now: int) -> None:
        """Do what no frame asked for."""
        writer = self._writer
        for event in self._notes:
            try:
                writer.add_event(event)
            except ValueError as problem:
                # Clients have a say in how long these are.
                writer.add_event(encode_event(Fault(now, b"", "", "note", str(problem))))
        for id_ in self._forget:
            writer.discard("gone", id_)
        if self._taken > self._taken_before and not writer.remove_events(self._taken, TAKEN_EVENTS):
            self._taken_before = self._taken

    def _put_to_sleep(self, queue: Queue) -> int | None:
        """Write down when a queue wakes, and return it; None for one that is empty, and gone."""
        writer = self._writer
        value = writer.get("queue", number_key(queue.number))
        if value is None:
            # It woke, and went to sleep again, before its row was gone.
            return None
        # The row knows best: a message in this very transaction may have moved it.
        row = decode_queue(value)
        wake = row.wake
        start = queue.read_from + b"\0" if queue.read_from else due_key(queue.number, 0, b"")
        first = writer.scan("due", start, 1)
        if first and number(first[0][0]) == queue.number:
            due = max(due_of(first[0][0])[0], queue.sleeps_until)
            if due != wake or row.site != queue.sleeps_for:
                move_wake(writer, queue.number, row, due, queue.sleeps_for)
            return due
        # A part whose settlement failed lies before `read_from`, and keeps its queue until the next start.
        first = writer.scan("due", due_key(queue.number, 0, b""), 1)
        if not first or number(first[0][0]) != queue.number:
            remove_queue(writer, queue.number, queue.name, wake)
        return None

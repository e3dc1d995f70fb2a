"""Queues that are awake: whose rows are wanted, when they are wanted again, and which may go back to sleep.

Rule: a queue is awake while it has parts in RAM or out, or may get some soon; it rests before it sleeps, so that a
trickle of mail does not write its rows each time. RAM never holds more than about READY_PARTS of one queue, nor of all
of them more than the tables can be asked for again: the more there is, the less is read of each, the shorter they rest,
and in the end those sleep on that have their rows in the tables anyway.

Pure: no clock, no LMDB. Called by `schedule` and `granting`.
"""

import heapq

from mta.message import QueueName
from mta.queue import paths
from mta.queue.awake import Known, Queue
from mta.store import NEVER_MS

__all__ = ["FEW_PARTS", "MOST_AWAKE", "MOST_KNOWN", "MOST_RESTING", "NAP_MS", "READY_PARTS", "READ_PARTS", "Waiting"]

READY_PARTS = 1000
"""About how many parts of one queue are held in RAM at most."""
READ_PARTS = 100
"""How many `due` rows are read at a time."""
FEW_PARTS = 5
"""So many are read and held of each queue while MOST_KNOWN parts are in RAM."""
MOST_KNOWN = 30_000
SPARE_DUES = 1000
MOST_SLEEPERS = 200
NAP_MS = 5000
"""How long a queue without work is kept awake."""
MOST_RESTING = 12_000
"""Of more than that those that rest the longest go to sleep at once: each takes 0.7 KB."""
MOST_AWAKE = 10_000
"""While so many do not rest, the others sleep on: RAM is for those that have something to do."""


class Waiting:
    """All of them; `known` are the parts in RAM, by name."""

    def __init__(self) -> None:
        self.known: dict[bytes, Known] = {}
        self._queues: dict[int, Queue] = {}
        self._hungry: dict[int, Queue] = {}
        self._resting: dict[int, Queue] = {}
        self._dues: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._queues)

    def all(self) -> list[Queue]:
        """Return the queues that are awake."""
        return list(self._queues.values())

    def find(self, number: int) -> Queue | None:
        """Return the queue if it is awake."""
        return self._queues.get(number)

    @property
    def n_busy(self) -> int:
        """How many queues are awake and do not rest."""
        return len(self._queues) - len(self._resting)

    def piece(self) -> int:
        """Return how many rows of a queue should be read at a time, now."""
        return READ_PARTS if len(self.known) < MOST_KNOWN else FEW_PARTS

    def wake(self, number: int, name: QueueName) -> Queue:
        """Make a queue awake that is not; its rows are wanted."""
        queue = self._queues[number] = Queue(number, name)
        self._hungry[number] = queue
        return queue

    def arrived(self, queue: Queue, part: bytes, cost: int) -> bool:
        """Take a part that is due now; False when it will be read with the others."""
        if queue.unread or len(queue.ready) >= (READY_PARTS if len(self.known) < MOST_KNOWN else FEW_PARTS):
            queue.unread = True
            self._hungry[queue.number] = queue
            return False
        known = self.known[part] = Known(queue, cost)
        known.is_new = True
        queue.ready.append(part)
        return True

    def spent(self, queue: Queue) -> None:
        """A part went out: more rows may be wanted."""
        self._resting.pop(queue.number, None)
        if queue.unread and len(queue.ready) < READ_PARTS // 2:
            self._hungry[queue.number] = queue

    def taken_out(self, queue: Queue) -> None:
        """A part was taken out of the ready ones: more rows may be wanted."""
        if queue.unread and len(queue.ready) < READ_PARTS // 2:
            self._hungry[queue.number] = queue

    def want(self, queue: Queue) -> None:
        """Its path goes on: have the queue's rows read, if there may be more."""
        if queue.unread or queue.ready:
            self._resting.pop(queue.number, None)
        if queue.unread:
            self._hungry[queue.number] = queue

    def hungry(self) -> list[Queue]:
        """Return the queues whose rows should be read now, each once."""
        few = self.piece() // 2
        wanted = [queue for queue in self._hungry.values() if len(queue.ready) < few]
        # The others are wanted again when what they have is spent.
        self._hungry.clear()
        return wanted

    def expect(self, queue: Queue, due: int) -> None:
        """Have a queue read again once `due` has passed, unless that happens earlier anyway."""
        if due < NEVER_MS and (not queue.next_due or due < queue.next_due):
            queue.next_due = due
            heapq.heappush(self._dues, (due, queue.number))
            if len(self._dues) > 2 * len(self._queues) + SPARE_DUES:
                # Those of queues that sleep are told by the `wake` table.
                self._dues = [(queue.next_due, queue.number) for queue in self._queues.values() if queue.next_due]
                heapq.heapify(self._dues)

    def due_again(self, now: int) -> None:
        """Make hungry the queues of which something became due."""
        while self._dues and self._dues[0][0] < now:
            queue = self._queues.get(heapq.heappop(self._dues)[1])
            if queue is not None:
                queue.unread, queue.next_due = True, 0
                self._resting.pop(queue.number, None)
                self._hungry[queue.number] = queue

    def next_due(self) -> int:
        """Return when `due_again` has work, in ms; 0 for never."""
        return self._dues[0][0] + 1 if self._dues else 0

    def stir(self, queue: Queue) -> None:
        """There is something to do: the queue does not rest."""
        self._resting.pop(queue.number, None)

    def settle_down(self, queue: Queue, now: int) -> None:
        """Let a queue rest that has nothing to do; or want its rows read."""
        if queue.n_out or self._queues.get(queue.number) is not queue:
            self._resting.pop(queue.number, None)
            return
        is_paused = queue.path is not None and paths.is_paused(queue.path, now)
        if is_paused or not (queue.unread or queue.ready):
            self._resting.pop(queue.number, None)
            queue.resting_since = now
            self._resting[queue.number] = queue
        elif queue.unread:
            self._hungry[queue.number] = queue

    def step_back(self, queue: Queue) -> None:
        """Let a queue sleep before it had its turn: there are too many before it."""
        if not queue.n_out and self._queues.get(queue.number) is queue:
            queue.resting_since = 0
            self._resting[queue.number] = queue

    def sleepers(self, now: int) -> list[Queue]:
        """Return some of the queues that had nothing to do for a while, and forget them and their parts."""
        asleep: list[Queue] = []
        n_early = len(self._resting) - MOST_RESTING
        # The one that rests the longest stands first.
        for queue in self._resting.values():
            if len(asleep) == MOST_SLEEPERS or (len(asleep) >= n_early and queue.resting_since + NAP_MS > now):
                break
            asleep.append(queue)
        for queue in asleep:
            del self._resting[queue.number]
            del self._queues[queue.number]
            self._hungry.pop(queue.number, None)
            for part in queue.ready:
                del self.known[part]
            if queue.ready:
                # Its path is paused, or too many were before it: they are read again when it wakes.
                queue.read_from = b""
                queue.ready.clear()
        return asleep

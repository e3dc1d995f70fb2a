"""Who delivers what next: queues that are awake, paths, sessions, leases. All of it lives in RAM.

Rule: no clock, no LMDB, no socket in here. Rows and `now` (ms) come in, orders go out; the queue process carries them
out. What is forgotten here is found again in the `wake` and `due` tables.

A *queue* is where parts wait; while it is awake, some of its due parts are in `ready`, and `unread` says that more may
be due in the table. A *path* leads to one site. Queues with ready parts take turns on their path. A *session* is what a
worker was granted on a path; it counts until the worker says that it is closed. A part is *known* from the moment it
was read or arrived until it is settled: in `ready`, or leased to a session.
"""

import heapq
from collections.abc import Sequence

import msgspec

from mta.message import LOCAL_SITE, Hosts, QueueName
from mta.queue.awake import Known, Path, Queue, Session

__all__ = ["READ_PARTS", "Grant", "Question", "Schedule"]

READY_PARTS = 1000
"""About how many parts of one queue are held in RAM at most."""
READ_PARTS = 500
"""How many `due` rows are read at a time."""
OPEN_AT_PARTS = 2
"""A new session is opened only where each one has this much work: few busy connections cost less than many idle."""
MOST_DEPTH = 50
# A lease is meant to be about a second's work: a part that took longer than this to come back halves the next one.
SLOW_MS = 500
NAP_MS = 5000
"""How long a queue without work is kept awake, so that a trickle of mail does not write its rows each time."""
RESOLVE_AGAIN_MS = 5000
"""How long a worker may take to answer where a domain goes."""


class Grant(msgspec.Struct, frozen=True):
    """An order: lease these parts to a session of a worker, which `opens` with it."""

    worker: int
    session: int
    opens: bool
    site: str
    hosts: Hosts
    parts: tuple[bytes, ...]


class Question(msgspec.Struct, frozen=True):
    """An order: ask some worker where a domain goes."""

    domain: str
    route: str


class Schedule:
    """All of the queue process's plans.

    A path may have `connections` sessions, of which `window_start` may be new ones that have not shown yet that they
    work. LOCAL_SITE has one session a worker instead.
    """

    def __init__(self, connections: int, window_start: int) -> None:
        self._connections = connections
        self._window_start = window_start
        self._queues: dict[int, Queue] = {}
        self._paths: dict[str, Path] = {}
        self._known: dict[bytes, Known] = {}
        self._sessions: dict[int, Session] = {}
        self._workers: dict[int, int] = {}
        self._next_session = 1
        # Where there is something to do, so that nothing has to be searched for.
        self._busy: dict[str, Path] = {}
        self._asking: dict[int, Queue] = {}
        self._hungry: dict[int, Queue] = {}
        self._resting: dict[int, Queue] = {}
        self._dues: list[tuple[int, int]] = []

    # What happened

    def awake(self, number: int, name: QueueName) -> Queue:
        """Return the queue, made awake if it was not: its rows will be wanted."""
        queue = self._queues.get(number)
        if queue is None:
            queue = self._queues[number] = Queue(number, name)
            self._hungry[number] = queue
            self._asking[number] = queue
        return queue

    def find(self, number: int) -> Queue | None:
        """Return the queue if it is awake."""
        return self._queues.get(number)

    def arrived(self, queue: Queue, part: bytes) -> None:
        """A new part is due now in a queue that is awake."""
        if queue.unread or len(queue.ready) >= READY_PARTS:
            queue.unread = True
            self._hungry[queue.number] = queue
        else:
            self._known[part] = Known(queue)
            queue.ready.append(part)
            self._list(queue)

    def read(self, queue: Queue, rows: Sequence[tuple[bytes, int, bytes]], now: int) -> None:
        """Take up to READ_PARTS (key, due, part) that follow `read_from`. Fewer, or one that is not due, ends them.

        Only what was due before `now` is taken: whatever is put later sorts behind it, and is not missed.
        """
        queue.unread = len(rows) >= READ_PARTS
        for key, due, part in rows:
            if due >= now:
                queue.unread = False
                self._expect(queue, due)
                break
            queue.read_from = key
            if part not in self._known:
                self._known[part] = Known(queue)
                queue.ready.append(part)
        if queue.ready:
            self._list(queue)
        self._settle_down(queue, now)

    def resolved(self, domain: str, route: str, site: str, hosts: Hosts, until: int) -> None:
        """It is known where mail for a domain goes."""
        path = self._path(site)
        path.hosts = hosts
        for number, queue in list(self._asking.items()):
            if queue.name.domain == domain and queue.name.route == route:
                del self._asking[number]
                # Counted first: a queue that leaves its path and comes back must not make it forgotten in between.
                path.n_queues += 1
                self._unlist(queue)
                queue.path, queue.until, queue.asked_at = path, until, 0
                if queue.ready:
                    self._list(queue)
        self._forget_if_unused(path)

    def settling(self, part: bytes, now: int) -> None:
        """A worker told what became of a part. Its session has room again; the rest waits for the commit."""
        known = self._known.get(part)
        if known is None:
            return
        if known.session is not None:
            self._off(part, known.session, now)
            known.session = None
        elif part in known.queue.ready:
            # It had been given back, and was delivered all the same.
            self._withdraw(known.queue, part)
            known.queue.n_out += 1

    def settled(self, part: bytes, due: int, now: int) -> None:
        """That was committed: the part's fate is decided (`due` 0), or it is due again."""
        known = self._known.pop(part, None)
        if known is None:
            return
        known.queue.n_out -= 1
        if due:
            self._expect(known.queue, due)
        self._settle_down(known.queue, now)

    def closed(self, number: int) -> None:
        """A session is over; what it had not settled was not tried, and is first in its queue again."""
        session = self._sessions.pop(number, None)
        if session is None:
            return
        for part in session.parts:
            known = self._known[part]
            known.session = None
            known.queue.n_out -= 1
            known.queue.ready.appendleft(part)
            self._list(known.queue)
        session.path.sessions.pop(number)
        if session.worker in self._workers:
            self._workers[session.worker] -= 1
        self._forget_if_unused(session.path)

    def worker_joined(self, worker: int) -> None:
        """A worker may be given sessions."""
        self._workers.setdefault(worker, 0)

    def worker_leaves(self, worker: int) -> None:
        """A worker is about to end: it ends its sessions by itself, and gets nothing new."""
        self._workers.pop(worker, None)

    def worker_gone(self, worker: int) -> None:
        """A worker is dead, or says what it has from the start: its sessions are over."""
        self._workers.pop(worker, None)
        for session in [s for s in self._sessions.values() if s.worker == worker]:
            self.closed(session.number)

    def session_kept(self, worker: int, number: int, site: str) -> None:
        """A worker that checks in again has this session."""
        session = self._sessions[number] = Session(number, self._path(site), worker)
        session.is_open = True
        session.path.sessions[number] = session
        self._workers[worker] = self._workers.get(worker, 0) + 1
        self._next_session = max(self._next_session, number + 1)

    def lease_kept(self, number: int, queue: Queue, part: bytes, now: int) -> None:
        """A worker that checks in again is delivering this part over one of its sessions."""
        session = self._sessions.get(number)
        if session is None:
            return
        known = self._known.get(part)
        if known is not None:
            if known.session is not None or part not in known.queue.ready:
                return
            # It went back to the front of its queue when the worker's connection was lost.
            self._withdraw(queue, part)
        self._resting.pop(queue.number, None)
        self._known[part] = Known(queue, session)
        session.parts[part] = now
        queue.n_out += 1

    # What is wanted

    def hungry(self) -> list[Queue]:
        """Return the queues whose rows should be read now, each once."""
        wanted = [queue for queue in self._hungry.values() if len(queue.ready) < READY_PARTS // 2]
        for queue in wanted:
            del self._hungry[queue.number]
        return wanted

    def questions(self, now: int) -> list[Question]:
        """Return what a worker should be asked: each domain once, and again when no answer came."""
        asked: set[tuple[str, str]] = set()
        for queue in self._asking.values():
            if queue.asked_at + RESOLVE_AGAIN_MS < now:
                queue.asked_at = now
                asked.add((queue.name.domain, queue.name.route))
        return [Question(domain, route) for domain, route in asked]

    def grants(self, now: int) -> list[Grant]:
        """Lease ready parts to sessions with room, opening new sessions where that is worth it."""
        orders: list[Grant] = []
        if self._workers:
            for path in list(self._busy.values()):
                given = self._fill(path, now)
                # What could not be given waits for a settlement or a closed session, which make the path busy again.
                del self._busy[path.site]
                for session, parts in given.items():
                    opens, session.is_open = not session.is_open, True
                    orders.append(Grant(session.worker, session.number, opens, path.site, path.hosts, tuple(parts)))
        return orders

    def sleepers(self, now: int) -> list[Queue]:
        """Return the queues that had nothing to do for a while, and forget them."""
        asleep: list[Queue] = []
        # The one that rests the longest stands first.
        for queue in self._resting.values():
            if queue.resting_since + NAP_MS > now:
                break
            asleep.append(queue)
        for queue in asleep:
            del self._resting[queue.number]
            del self._queues[queue.number]
            self._asking.pop(queue.number, None)
            self._unlist(queue)
        return asleep

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

    def leased(self) -> list[bytes]:
        """Return the names of the parts that are leased."""
        return [part for session in self._sessions.values() for part in session.parts]

    # Inside

    def _path(self, site: str) -> Path:
        path = self._paths.get(site)
        if path is None:
            path = self._paths[site] = Path(site)
        return path

    def _list(self, queue: Queue) -> None:
        """Let a queue with ready parts take turns on its path."""
        self._resting.pop(queue.number, None)
        path = queue.path
        if path is not None:
            if not queue.is_listed:
                queue.is_listed = True
                path.turns.append(queue)
            self._busy[path.site] = path

    def _unlist(self, queue: Queue) -> None:
        """Take a queue off its path."""
        path = queue.path
        if path is not None:
            if queue.is_listed:
                path.turns.remove(queue)
                queue.is_listed = False
            path.n_queues -= 1
            queue.path = None
            self._forget_if_unused(path)

    def _expect(self, queue: Queue, due: int) -> None:
        """Have a queue read again once `due` has passed, unless that happens earlier anyway."""
        if not queue.next_due or due < queue.next_due:
            queue.next_due = due
            heapq.heappush(self._dues, (due, queue.number))

    def _withdraw(self, queue: Queue, part: bytes) -> None:
        """Take one part out of the ready ones."""
        queue.ready.remove(part)
        if not queue.ready and queue.is_listed and queue.path is not None:
            queue.path.turns.remove(queue)
            queue.is_listed = False

    def _forget_if_unused(self, path: Path) -> None:
        if not path.sessions and not path.n_queues:
            self._paths.pop(path.site, None)
            self._busy.pop(path.site, None)

    def _fill(self, path: Path, now: int) -> dict[Session, list[bytes]]:
        """Give each ready part of a path to the session with the least work, until none has room."""
        given: dict[Session, list[bytes]] = {}
        room = [
            (len(s.parts), s.number, s)
            for s in path.sessions.values()
            if len(s.parts) < s.depth and s.worker in self._workers
        ]
        heapq.heapify(room)
        while path.turns:
            if not room or room[0][0] >= OPEN_AT_PARTS:
                opened = self._open(path)
                if opened is not None:
                    heapq.heappush(room, (0, opened.number, opened))
            if not room:
                break
            load, number, session = heapq.heappop(room)
            queue = path.turns.popleft()
            part = queue.ready.popleft()
            session.parts[part] = now
            self._known[part].session = session
            given.setdefault(session, []).append(part)
            if load + 1 < session.depth:
                heapq.heappush(room, (load + 1, number, session))
            queue.n_out += 1
            queue.is_listed = bool(queue.ready)
            if queue.is_listed:
                path.turns.append(queue)
            if queue.unread and len(queue.ready) < READY_PARTS // 2:
                self._hungry[queue.number] = queue
            if queue.until < now:
                # The old way serves until the answer comes.
                self._asking[queue.number] = queue
        return given

    def _open(self, path: Path) -> Session | None:
        """Grant a new session on a path to the worker with the fewest, if the path may have one more."""
        sessions = path.sessions.values()
        candidates = list(self._workers)
        if path.site == LOCAL_SITE:
            taken = {session.worker for session in sessions}
            candidates = [worker for worker in candidates if worker not in taken]
        else:
            n_new = sum(not session.is_proven for session in sessions)
            if len(sessions) >= self._connections or n_new >= self._window_start:
                return None
        worker = min(candidates, key=self._workers.__getitem__, default=None)
        if worker is None:
            return None
        session = Session(self._next_session, path, worker)
        self._next_session += 1
        self._sessions[session.number] = path.sessions[session.number] = session
        self._workers[worker] += 1
        return session

    def _off(self, part: bytes, session: Session, now: int) -> None:
        """Take a part off its session, and learn from how long it took."""
        session.is_proven = True
        if now - session.parts.pop(part, now) < SLOW_MS:
            session.depth = min(session.depth + 1, MOST_DEPTH)
        else:
            session.depth = max(session.depth // 2, 1)
        if session.path.turns:
            self._busy[session.path.site] = session.path

    def _settle_down(self, queue: Queue, now: int) -> None:
        """Let a queue rest that has nothing ready, leased or unread; or want its rows read."""
        if queue.unread:
            self._hungry[queue.number] = queue
        elif not queue.ready and not queue.n_out:
            self._resting.pop(queue.number, None)
            queue.resting_since = now
            self._resting[queue.number] = queue

"""Which part goes over which session: ready parts meet sessions with room, and new sessions where that is worth it.

Rule: only paths where something may be given are looked at. A path is *busy* when it has ready parts and something has
changed; it is *starved* when it could use a session and neither the node nor a worker had one to give.

Pure: no clock. Called by `schedule` alone.
"""

import heapq
from itertools import islice

import msgspec

from mta.config import Path as Settings
from mta.message import LOCAL_SITE, Hosts, maker_of
from mta.queue import paths, turns
from mta.queue.awake import Path, Queue, Session
from mta.queue.leases import Leases
from mta.queue.resolving import Resolving
from mta.queue.suspects import Suspects
from mta.queue.waiting import MOST_AWAKE, Waiting

__all__ = ["Grant", "Granting"]

OPEN_AT_PARTS = 2
"""A new session is opened only where each one has this much work: few busy connections cost less than many idle."""
# When one gets free, so many of those that wait for one try, in turn: most of them may wait for another kind.
FED_AT_ONCE = 8
# While too many queues are awake, so many wait for one path at most: those of a slow one must not fill all of RAM.
LONG_LINE = 1000


class Grant(msgspec.Struct, frozen=True):
    """An order: lease these parts to a session of a worker, which `opens` with it."""

    worker: int
    session: int
    opens: bool
    site: str
    hosts: Hosts
    ranks: tuple[int, ...]
    parts: tuple[bytes, ...]
    new: bytes
    """As in a LEASE."""


class Takers:
    """The sessions of one path that may take more, the one with the least work first; those of each worker apart."""

    def __init__(self, sessions: list[Session]) -> None:
        self._by_worker: dict[int, list[tuple[int, int, Session]]] = {}
        for session in sessions:
            self.put(len(session.parts), session)

    def __bool__(self) -> bool:
        return bool(self._by_worker)

    def put(self, load: int, session: Session) -> None:
        """Let a session with so many parts take one more."""
        heapq.heappush(self._by_worker.setdefault(session.worker, []), (load, session.number, session))

    def least(self) -> list[tuple[int, int, Session]]:
        """Return the heap whose first session has the least work; there must be one."""
        found: list[tuple[int, int, Session]] | None = None
        for heap in self._by_worker.values():
            if found is None or heap[0] < found[0]:
                found = heap
        if found is None:
            raise LookupError("no session may take more")
        return found

    def take(self, maker: int) -> tuple[int, Session]:
        """Return (its parts, session) of the one that gets a part: the least busy session of the worker that put the
        message, which need not read it; but an idle one of another worker where none of its own is idle.

        Among what a worker puts there is some that it has to read all the same; it is not worth telling apart here.
        """
        least = self.least()
        own = self._by_worker.get(maker, least)
        # A part may wait long behind another whose host is slow: not while a session stands idle.
        chosen = own if own[0][0] <= least[0][0] + (least[0][0] > 0) else least
        load, _, session = heapq.heappop(chosen)
        if not chosen:
            del self._by_worker[session.worker]
        return load, session


class Granting:
    """All paths that have something to give."""

    def __init__(self, settings: Settings, waiting: Waiting, leases: Leases, resolving: Resolving) -> None:
        self.settings = settings
        self._waiting = waiting
        self._leases = leases
        self._resolving = resolving
        self.suspects = Suspects(leases, settings)
        self._busy: dict[str, Path] = {}
        self._starved: dict[str, Path] = {}
        self.refused: dict[int, Queue] = {}
        """Queues with ready parts that shall not be sent anywhere."""
        self._to_rest: list[Queue] = []
        self._was_reserved = False

    def make_busy(self, path: Path) -> None:
        """Something has changed on a path: look at it again."""
        if path.turn is not None or path.fresh or path.turns:
            self._busy[path.site] = path

    def enlist(self, queue: Queue) -> None:
        """Let a queue with ready parts take turns on its path."""
        self._waiting.stir(queue)
        path = queue.path
        if path is not None:
            if queue.ready:
                turns.enlist(path, queue)
                if self._waiting.n_busy > MOST_AWAKE and len(path.fresh) + len(path.turns) > LONG_LINE:
                    self._waiting.step_back(queue)
            if path.paused_until:
                self._to_rest.append(queue)
            self.make_busy(path)
        elif queue.refusal is not None:
            self.refused[queue.number] = queue

    def feed(self, n_paths: int = FED_AT_ONCE) -> None:
        """There may be room for a session: let the paths that waited longest try again."""
        for site in list(islice(self._starved, n_paths)):
            self.make_busy(self._starved.pop(site))

    def feed_all(self) -> None:
        """The same for every one of them."""
        self.feed(len(self._starved))

    def forget(self, path: Path) -> None:
        """A path is not used any more."""
        self._busy.pop(path.site, None)
        self._starved.pop(path.site, None)

    def grants(self, now: int) -> list[Grant]:
        """Lease what can be leased."""
        orders: list[Grant] = []
        if not self._leases.workers:
            return orders
        for session, part, known in self.suspects.grants(now):
            self._leases.lease(part, known, session, now)
            orders.append(_order(session, [(part, False)]))
        if self._was_reserved and not self.suspects.has_reserved:
            self.feed_all()
        self._was_reserved = self.suspects.has_reserved
        for queue in self._to_rest:
            self._waiting.settle_down(queue, now)
        self._to_rest.clear()
        for path in list(self._busy.values()):
            # What cannot be given waits for a settlement, a closed session, the end of a pause.
            self._busy.pop(path.site, None)
            if paths.leads(path, now):
                orders += [_order(session, parts) for session, parts in self._fill(path, now).items()]
        return orders

    def _fill(self, path: Path, now: int) -> dict[Session, list[tuple[bytes, bool]]]:
        """Give each ready part of a path to a session with little work (`Takers.take`), until none has room.

        Returns (part, is_new) by session.
        """
        given: dict[Session, list[tuple[bytes, bool]]] = {}
        leases = self._leases
        takers = Takers(leases.with_room(path))
        while (queue := turns.turn(path)) is not None:
            part = queue.ready[0]
            known = self._waiting.known[part]
            maker = maker_of(part) if known.is_new else 0
            if not takers or takers.least()[0][0] >= OPEN_AT_PARTS:
                opened = self._open(path, now, maker)
                if opened is not None:
                    takers.put(0, opened)
            if not takers:
                if any(len(session.parts) < session.depth for session in path.sessions.values()):
                    # Its workers hold as much as they may, of whatever path.
                    self._starved.setdefault(path.site, path)
                break
            load, session = takers.take(maker)
            worker = leases.workers[session.worker]
            if worker.n_parts >= worker.credit:
                continue
            del queue.ready[0]
            given.setdefault(session, []).append((part, known.is_new))
            leases.lease(part, known, session, now)
            if load + 1 < session.depth:
                takers.put(load + 1, session)
            queue.n_out += 1
            turns.spend(queue, known.cost)
            self._waiting.spent(queue)
            if queue.until < now:
                # The old way serves until the answer comes.
                self._resolving.ask(queue)
        return given

    def _open(self, path: Path, now: int, maker: int) -> Session | None:
        """Grant a new session on a path to the worker with the fewest, if the path may have one more; to `maker` where
        that makes no difference."""
        candidates = self._leases.able()
        is_alive = paths.is_alive(path, now)
        if path.site == LOCAL_SITE:
            taken = {session.worker for session in path.sessions.values()}
            if self._leases.workers.keys() <= taken:
                return None
            candidates = [worker for worker in candidates if worker.incarnation not in taken]
        elif len(path.sessions) >= paths.most_sessions(path, self.settings, now):
            return None
        worker = self._leases.least_busy(candidates, maker)
        if worker is None or not self._leases.has_room(path, is_alive=is_alive):
            self._starved.setdefault(path.site, path)
            return None
        return self._leases.open(path, worker, is_alive=is_alive)


def _order(session: Session, parts: list[tuple[bytes, bool]]) -> Grant:
    opens, session.is_open = not session.is_open, True
    path = session.path
    names, new = tuple([part for part, _ in parts]), bytes([is_new for _, is_new in parts])
    return Grant(session.worker, session.number, opens, path.site, path.hosts, path.ranks, names, new)

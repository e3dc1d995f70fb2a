"""What stands around the schedule in its model test: the tables as dicts, and what each worker has."""

from dataclasses import dataclass

from mta.queue.awake import Queue
from mta.queue.granting import Grant
from mta.queue.schedule import Row, Schedule
from mta.store import NEVER_MS, PathRow, due_key, due_of

from .samples import name

__all__ = ["CONNECTIONS", "DOMAINS", "NODE", "PAUSE_MS", "SITES", "Part", "Tables", "World"]

SITES = {"a.test": "one", "b.test": "one", "c.test": "two"}
DOMAINS = tuple(SITES)
CONNECTIONS = 2
NODE = 3
PAUSE_MS = 2_000


@dataclass
class Part:
    """A row of `part`, and with it those of `due` and `timer`."""

    NEVER = NEVER_MS

    queue: int
    due: int
    expires: int
    deaths: int = 0
    state: str = ""
    order: str = ""


class Tables:
    """`part`, `due` and `timer` in one; `wake`; `path`."""

    def __init__(self) -> None:
        self.parts: dict[bytes, Part] = {}
        self.wake: dict[int, int] = {}
        self.paths: dict[str, PathRow] = {}
        self._queues: dict[bytes, int] = {}
        self._n_parts = 0

    def put(self, queue: int, now: int, expires: int) -> bytes:
        """Store a new part."""
        self._n_parts += 1
        part = self._n_parts.to_bytes(18, "big")
        self.parts[part] = Part(queue, now, expires)
        self._queues[part] = queue
        self.wake_by(queue, now)
        return part

    def wake_by(self, queue: int, due: int) -> None:
        self.wake[queue] = min(self.wake.get(queue, due), due)

    def queue_of(self, part: bytes) -> int:
        return self._queues[part]

    def awake(self, schedule: Schedule, number: int) -> Queue:
        return schedule.awake(number, name(DOMAINS[number - 1]))

    def due_wakes(self, now: int) -> list[int]:
        return [queue for queue, wake in self.wake.items() if wake < now]

    def ringing(self, now: int) -> list[bytes]:
        return [part for part, stood in self.parts.items() if stood.expires < now]

    def keys(self, queue: int) -> list[bytes]:
        return sorted(due_key(queue, stood.due, part) for part, stood in self.parts.items() if stood.queue == queue)

    def rows(self, queue: Queue, limit: int, now: int) -> list[Row]:
        """Return what the plans would read for a queue."""
        rows: list[Row] = []
        for key in [key for key in self.keys(queue.number) if key > queue.read_from][:limit]:
            due, part = due_of(key)
            rows.append((key, due, part, 1, self.parts[part].deaths >= 2))
            if due >= now:
                break
        return rows

    def sleep(self, queue: Queue, schedule: Schedule) -> None:
        """Write down when a queue wakes, as the batch would. Only what is reported on may lie behind what was read."""
        left = [key for key in self.keys(queue.number) if key > queue.read_from]
        read = [due_of(key)[1] for key in self.keys(queue.number) if key <= queue.read_from]
        assert all(part in schedule.reports for part in read), "a queue sleeps with parts it has read"
        self.wake.pop(queue.number, None)
        if left:
            self.wake[queue.number] = max(due_of(left[0])[0], queue.sleeps_until)

    def settle(self, part: bytes, due: int, now: int) -> int:
        """Decide a part (0), or put it to another time, as its order has it; return when it is due."""
        stood = self.parts[part]
        if not due or stood.order == "remove":
            del self.parts[part]
            return 0
        stood.due = min(due, max(stood.expires, now))
        if stood.order == "retry":
            stood.due, stood.order = now, ""
        elif stood.order == "hold":
            stood.due, stood.state, stood.order = NEVER_MS, "held", ""
        return stood.due

    def order(self, part: bytes, order: str, *, is_leased: bool, now: int) -> int | None:
        """Do as `orders` does; return when the part is due now, 0 if it is gone, None if the schedule need not know."""
        stood = self.parts[part]
        if stood.order in ("bounce", order):
            return None
        if order == "bounce":
            stood.order, stood.expires = "bounce", now
            return None
        if is_leased:
            stood.order = "" if order == "release" else order
            return None
        if order == "remove":
            del self.parts[part]
            return 0
        if order == "hold":
            if stood.state:
                return None
            stood.state, stood.due = "held", NEVER_MS
            return NEVER_MS
        if bool(stood.state) != (order == "release"):
            return None
        stood.state, stood.due = "", now
        if order == "release":
            stood.deaths = 0
        self.wake_by(stood.queue, now)
        return now

    def count_death(self, part: bytes) -> None:
        stood = self.parts[part]
        if stood.deaths >= 2 and not stood.state:
            stood.state, stood.due = "aside", NEVER_MS
        stood.deaths += 1


@dataclass
class Open:
    """A session that a worker has."""

    worker: int
    site: str
    is_greeted: bool = False


class World:
    """What workers have: sessions by number, leased parts by session, reports by worker; and which sites rest."""

    def __init__(self) -> None:
        self.workers: set[int] = set()
        self.sessions: dict[int, Open] = {}
        self.leases: dict[bytes, int] = {}
        self.reports: dict[bytes, int] = {}
        self.paused: dict[str, int] = {}
        self.alone: bytes = b""

    def granted(self, grant: Grant) -> None:
        assert grant.worker in self.workers
        assert grant.opens == (grant.session not in self.sessions)
        session = self.sessions.setdefault(grant.session, Open(grant.worker, grant.site))
        assert (session.worker, session.site) == (grant.worker, grant.site)

    def lease(self, part: bytes, session: int, *, is_suspect: bool) -> None:
        assert part not in self.leases, "leased twice"
        worker = self.sessions[session].worker
        assert not (self.alone and self.worker_of(self.alone) == worker), "leased beside a suspect"
        if is_suspect:
            assert not self.alone, "two suspects at a time"
            assert not self.held_by(worker), "a suspect beside others"
            self.alone = part
        self.leases[part] = session

    def worker_of(self, part: bytes) -> int:
        return self.sessions[self.leases[part]].worker

    def came_back(self, part: bytes) -> None:
        self.leases.pop(part, None)
        self.reports.pop(part, None)
        if part == self.alone:
            self.alone = b""

    def closed(self, number: int) -> str:
        for part in [part for part, session in self.leases.items() if session == number]:
            self.came_back(part)
        return self.sessions.pop(number).site

    def held_by(self, worker: int) -> list[bytes]:
        return sorted(part for part in self.leases if self.worker_of(part) == worker)

    def n_parts(self, worker: int) -> int:
        return len(self.held_by(worker))

    def died(self, worker: int, kept: set[int] | None = None) -> None:
        """A worker is gone, or has only these sessions any more."""
        for number in [n for n, session in self.sessions.items() if session.worker == worker]:
            if number not in (kept or ()):
                self.closed(number)
        for part in [part for part, of in self.reports.items() if of == worker]:
            self.came_back(part)
        self.workers.discard(worker)

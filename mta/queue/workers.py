"""The workers the queue process knows, their connections, and the ids that they may still put again.

A worker is known by its incarnation, from its first HELLO until the master says that its process is dead. Its
connections may go and come: a lost one says nothing about the worker.

An id can be *repeated* from the moment its PUT was answered until the worker confirms that it has the answer. If the
message goes in between, a `gone` row remembers the id, so that the repeat is answered and not taken as a new message.
"""

from collections import deque

from mta.link import Connection, Hello

__all__ = ["Worker", "Workers"]


class Worker:
    """One worker process."""

    def __init__(self, incarnation: int, hello: Hello) -> None:
        self.incarnation = incarnation
        self.number = hello.worker
        self.pid = hello.pid
        self.credit = 0
        self.ends: dict[str, Connection] = {}
        self.ready_ends: set[str] = set()
        self.unconfirmed: deque[bytes] = deque()
        self.n_confirmed = 0
        self.doubtful: set[bytes] = set()
        self.is_leaving = False
        self.has_died = False

    @property
    def is_ready(self) -> bool:
        """Both connections have said again what was not answered."""
        return len(self.ready_ends) == 2

    @property
    def may_lease(self) -> bool:
        """It may be given work."""
        return self.is_ready and not self.is_leaving


class Workers:
    """All of them. `gone` mirrors the table of that name; `repeatable` are the ids answered and not confirmed."""

    def __init__(self, gone: set[bytes]) -> None:
        self._known: dict[int, Worker] = {}
        self._listed: set[int] = set()
        self._awaited: set[int] | None = None
        self.gone = gone
        self.repeatable: set[bytes] = set()

    def all(self) -> list[Worker]:
        """Return every worker that is known."""
        return list(self._known.values())

    def find(self, incarnation: int) -> Worker | None:
        """Return the worker of that incarnation."""
        return self._known.get(incarnation)

    def connected(self, incarnation: int, hello: Hello, connection: Connection) -> Worker:
        """A worker said HELLO over one of its connections. Raises ValueError if it claims to be another one."""
        worker = self._known.get(incarnation)
        if worker is None:
            worker = self._known[incarnation] = Worker(incarnation, hello)
        if worker.pid != hello.pid:
            raise ValueError(f"pid {hello.pid} says it is incarnation {incarnation}, which is pid {worker.pid}")
        worker.ends[hello.role] = connection
        if hello.role == "out":
            worker.credit = hello.credit
        worker.ready_ends.discard(hello.role)
        if hello.role == "in":
            # Answers are counted from the start; what the old connection left open may be about to be said again.
            worker.n_confirmed = 0
            worker.doubtful.update(worker.unconfirmed)
            worker.unconfirmed.clear()
        return worker

    def ready(self, worker: Worker, role: str) -> None:
        """A worker said READY over one of its connections."""
        worker.ready_ends.add(role)
        if role == "in":
            self.repeatable -= worker.doubtful.difference(worker.unconfirmed)
            worker.doubtful.clear()
        if worker.is_ready and self._awaited is not None:
            self._awaited.discard(worker.pid)

    def died(self, pid: int) -> None:
        """The master says that a worker came to an end that nobody wanted."""
        for worker in self._known.values():
            worker.has_died |= worker.pid == pid

    def listed(self, pids: set[int]) -> None:
        """Take the master's list of living workers.

        The first list says who must check in before anything is leased: they may hold leases of an earlier life of the
        queue process.
        """
        self._listed = pids
        if self._awaited is None:
            self._awaited = pids - {worker.pid for worker in self._known.values() if worker.is_ready}
        self._awaited &= pids

    def dead(self) -> list[Worker]:
        """Return the workers that are dead: not on the list, and with no connection left.

        A worker with connections that is not on the list is newer than the list.
        """
        return [worker for worker in self._known.values() if worker.pid not in self._listed and not worker.ends]

    def bury(self) -> list[Worker]:
        """Forget the workers that are dead, and return them."""
        dead = self.dead()
        for worker in dead:
            del self._known[worker.incarnation]
            self.repeatable.difference_update(worker.unconfirmed, worker.doubtful)
        return dead

    @property
    def silent(self) -> set[int]:
        """Pids that have not checked in."""
        return self._awaited or set()

    @property
    def have_checked_in(self) -> bool:
        """The master's list is here and everyone on the first one is ready, or dead."""
        return self._awaited is not None and not self._awaited

    def answered(self, worker: Worker, id_: bytes) -> None:
        """A PUT was answered; until the worker confirms it, it may come again."""
        worker.unconfirmed.append(id_)
        self.repeatable.add(id_)

    def confirmed(self, worker: Worker, count: int) -> list[bytes]:
        """A worker has had `count` answers over its connection; return the ids whose `gone` rows may go."""
        over: list[bytes] = []
        while worker.n_confirmed < count and worker.unconfirmed:
            worker.n_confirmed += 1
            id_ = worker.unconfirmed.popleft()
            self.repeatable.discard(id_)
            if id_ in self.gone:
                over.append(id_)
        self.gone.difference_update(over)
        return over

    def is_repeatable(self, id_: bytes) -> bool:
        """Say whether an id may be put again; before everyone has checked in, any may."""
        return not self.have_checked_in or id_ in self.repeatable

    def unrepeatable(self) -> list[bytes]:
        """Return the ids whose `gone` rows may go because nobody is left who could put them again."""
        over = list(self.gone - self.repeatable)
        self.gone.difference_update(over)
        return over

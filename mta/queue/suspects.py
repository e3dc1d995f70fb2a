"""Parts that workers died with, again and again: each is leased alone, in a worker that has nothing else.

Rule: one suspect at a time. A worker is reserved for it, which means that it gets nothing new; once it holds nothing
any more it gets the suspect. If it dies then, it is known of what: the part is set aside. So one message that crashes
workers costs the others a pause, and never their own good name.

Pure: no clock. Called by `granting`, and by `schedule` for what becomes of them.
"""

from mta.config import Path as Settings
from mta.message import LOCAL_SITE
from mta.queue import paths
from mta.queue.awake import Known, Path, Queue, Session, Worker
from mta.queue.leases import Leases

__all__ = ["Suspects"]


class Suspects:
    """Those that wait, and the one that is out."""

    def __init__(self, leases: Leases, settings: Settings) -> None:
        self._leases = leases
        self.settings = settings
        self._waiting: dict[bytes, Known] = {}
        self._alone = b""
        self._reserved: Worker | None = None

    @property
    def has_reserved(self) -> bool:
        """A worker is kept free for a suspect."""
        return self._reserved is not None

    def add(self, part: bytes, known: Known) -> None:
        """A suspect waits, or waits again."""
        if part == self._alone:
            self._release()
        self._waiting[part] = known

    def forget(self, part: bytes) -> None:
        """A suspect was settled, or is out of the queue."""
        self._waiting.pop(part, None)
        if part == self._alone:
            self._release()

    def of(self, queue: Queue) -> list[bytes]:
        """Return the suspects of one queue that wait."""
        return [part for part, known in self._waiting.items() if known.queue is queue]

    def grants(self, now: int) -> list[tuple[Session, bytes, Known]]:
        """Return the suspect to lease now, with its session, if its hour has come."""
        if not self._waiting and self._reserved is None:
            return []
        worker = self._reserved
        if worker is not None and self._leases.workers.get(worker.incarnation) is not worker:
            self._reserved = worker = None
        if self._alone:
            return []
        if worker is None:
            worker = min(self._leases.workers.values(), key=lambda one: one.n_parts)
        for part, known in self._waiting.items():
            path = known.queue.path
            if path is None or not paths.leads(path, now) or not self._has_way(worker, path, now):
                continue
            self._reserved, worker.is_reserved = worker, True
            if worker.n_parts:
                return []
            del self._waiting[part]
            self._alone = part
            session = self._idle(worker, path) or self._leases.open(path, worker, is_alive=paths.is_alive(path, now))
            return [(session, part, known)]
        self._release()
        return []

    def _has_way(self, worker: Worker, path: Path, now: int) -> bool:
        """Say whether a worker has a session for a path, or may have one."""
        if self._idle(worker, path) is not None:
            return True
        has_place = path.site == LOCAL_SITE or len(path.sessions) < self.settings.connections
        return has_place and self._leases.has_room(path, is_alive=paths.is_alive(path, now))

    def _idle(self, worker: Worker, path: Path) -> Session | None:
        mine = (session for session in path.sessions.values() if session.worker == worker.incarnation)
        return next((session for session in mine if not session.parts), None)

    def _release(self) -> None:
        self._alone = b""
        if self._reserved is not None:
            self._reserved.is_reserved = False
            self._reserved = None

"""Sessions and what is leased to them, workers and what they bear.

Rule: whatever is counted (a worker's parts and sessions, the node's sessions, unproven ones) is counted here, where a
session begins and ends and where a part goes in and comes out.

Pure: no clock, no socket. Called by `schedule`, `granting` and `suspects`.
"""

from mta.message import LOCAL_SITE
from mta.queue.awake import Known, Path, Session, Worker

__all__ = ["Leases"]

# A lease is meant to be so much work that a session does not run dry, and so little that a newcomer waits for few.
SLOW_MS = 100
MOST_DEPTH = 50
# Paths that nobody knows to be alive get this share of the node's sessions.
UNPROVEN_SHARE = 2


class Leases:
    """All sessions and workers. `most_sessions` is the node's limit for sessions that are connections."""

    def __init__(self, most_sessions: int) -> None:
        self.most_sessions = most_sessions
        self._next_session = 1
        self._n_remote = 0
        self._n_unproven = 0
        self.sessions: dict[int, Session] = {}
        self.workers: dict[int, Worker] = {}

    def join(self, incarnation: int, credit: int) -> None:
        """A worker may be given sessions; it may have some."""
        if incarnation not in self.workers:
            worker = self.workers[incarnation] = Worker(incarnation, credit)
            mine = [session for session in self.sessions.values() if session.worker == incarnation]
            worker.n_sessions, worker.n_parts = len(mine), sum(len(session.parts) for session in mine)

    def leave(self, incarnation: int) -> None:
        """A worker gets nothing new."""
        self.workers.pop(incarnation, None)

    def has_room(self, path: Path, *, is_alive: bool) -> bool:
        """Say whether the node bears one more session on such a path."""
        if path.site == LOCAL_SITE:
            return True
        if self._n_remote >= self.most_sessions:
            return False
        return is_alive or self._n_unproven < max(1, self.most_sessions // UNPROVEN_SHARE)

    def least_busy(self, among: list[Worker], rather: int) -> Worker | None:
        """Return the worker with the fewest sessions, of several the one numbered `rather`; None when there is none."""
        return min(among, key=lambda worker: (worker.n_sessions, worker.incarnation != rather), default=None)

    def open(self, path: Path, worker: Worker, *, is_alive: bool) -> Session:
        """Grant a session on a path to a worker."""
        session = Session(self._next_session, path, worker.incarnation)
        self._next_session += 1
        session.is_unproven = path.site != LOCAL_SITE and not is_alive
        self._begin(session)
        return session

    def keep(self, number: int, path: Path, incarnation: int, *, is_greeted: bool) -> Session:
        """A worker that checks in again has this session; it gets no more until it has joined."""
        session = Session(number, path, incarnation)
        session.is_open, session.is_greeted = True, is_greeted
        session.is_unproven = path.site != LOCAL_SITE and not is_greeted
        self._next_session = max(self._next_session, number + 1)
        self._begin(session)
        return session

    def _begin(self, session: Session) -> None:
        worker = self.workers.get(session.worker)
        if worker is not None:
            worker.n_sessions += 1
        self._n_remote += session.path.site != LOCAL_SITE
        self._n_unproven += session.is_unproven
        self.sessions[session.number] = session.path.sessions[session.number] = session

    def greet(self, session: Session) -> None:
        """The session's host greeted it."""
        session.is_greeted = True
        self._n_unproven -= session.is_unproven
        session.is_unproven = False

    def end(self, session: Session) -> None:
        """A session is over; the parts in it are the caller's."""
        del self.sessions[session.number]
        session.path.sessions.pop(session.number)
        self._n_remote -= session.path.site != LOCAL_SITE
        self._n_unproven -= session.is_unproven
        worker = self.workers.get(session.worker)
        if worker is not None:
            worker.n_sessions -= 1
            worker.n_parts -= len(session.parts)

    def lease(self, part: bytes, known: Known, session: Session, now: int) -> None:
        """Give a part to a session."""
        session.parts[part] = now
        known.session = session
        known.is_new = False
        worker = self.workers.get(session.worker)
        if worker is not None:
            worker.n_parts += 1

    def take_back(self, part: bytes, session: Session, now: int) -> None:
        """A part came back from its session, settled; learn from how long that took."""
        since = session.parts.pop(part, None)
        if since is None:
            return
        if now - since < SLOW_MS:
            session.depth = min(session.depth + 1, MOST_DEPTH)
        else:
            session.depth = max(session.depth // 2, 1)
        worker = self.workers.get(session.worker)
        if worker is not None:
            worker.n_parts -= 1

    def able(self) -> list[Worker]:
        """Return the workers that may be given more."""
        return [w for w in self.workers.values() if not w.is_reserved and w.n_parts < w.credit]

    def with_room(self, path: Path) -> list[Session]:
        """Return the sessions of a path that may hold more parts, whose workers may, too."""
        workers = self.workers
        found: list[Session] = []
        for session in path.sessions.values():
            if len(session.parts) < session.depth:
                worker = workers.get(session.worker)
                if worker is not None and not worker.is_reserved and worker.n_parts < worker.credit:
                    found.append(session)
        return found

    def leased(self) -> list[bytes]:
        """Return the names of the parts that are leased."""
        return [part for session in self.sessions.values() for part in session.parts]

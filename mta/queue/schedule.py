"""Who delivers what next: queues that are awake, paths, sessions, leases. All of it lives in RAM.

Rule: no clock, no LMDB, no socket in here. Rows and `now` (ms) come in, orders go out; the queue process carries them
out. What is forgotten here is found again in the `wake`, `due`, `timer` and `path` tables.

A *queue* is where parts wait; while it is awake, some of its due parts are in `ready`, and `unread` says that more may
be due in the table. A *path* leads to one site; queues with ready parts take `turns` on it, and `paths` says how many
sessions it bears. A *session* is what a worker was granted on a path; it counts until the worker says that it is
closed. A part is *known* from the moment it was read or arrived until it is settled: in `ready`, leased to a session,
or among the suspects. Parts whose time is up are known to `reports` instead.
"""

from collections.abc import Sequence

from mta.config import Path as Settings
from mta.message import LOCAL_SITE, Outcome, QueueName
from mta.queue import paths
from mta.queue.awake import Kept, Known, Path, Queue, Row, Session
from mta.queue.granting import Grant, Granting
from mta.queue.leases import Leases
from mta.queue.pathbook import PathBook
from mta.queue.reports import Reports
from mta.queue.resolving import Question, Resolving
from mta.queue.routing import Routing
from mta.queue.waiting import MOST_AWAKE, Waiting
from mta.store import NEVER_MS, PathRow

__all__ = ["Grant", "Question", "Row", "Schedule"]


class Schedule:
    """All of the queue process's plans. LOCAL_SITE has one session a worker; all other paths share `most_sessions`."""

    def __init__(self, settings: Settings, most_sessions: int) -> None:
        self._settings = settings
        self._waiting = Waiting()
        self._known = self._waiting.known
        self._paths = PathBook(settings)
        self._leases = Leases(most_sessions)
        self.reports = Reports()
        self.resolving = Resolving()
        self._granting = Granting(settings, self._waiting, self._leases, self.resolving)
        self.routing = Routing(settings, self._waiting, self._paths, self._granting, self.reports, self.resolving)
        self._given_back: list[bytes] = []

    def reconfigure(self, settings: Settings, most_sessions: int) -> None:
        """Work by other settings from now on, and ask anew where mail goes: what was heard of that was as of before."""
        self._settings = self._paths.settings = self.routing.settings = settings
        self._granting.settings = self._granting.suspects.settings = settings
        self._leases.most_sessions = most_sessions
        self.resolving.ask_again(self._waiting.all())

    # Queues and their parts

    def awake(self, number: int, name: QueueName) -> Queue:
        """Return the queue, made awake if it was not: its rows will be wanted."""
        queue = self._waiting.find(number)
        if queue is None:
            queue = self._waiting.wake(number, name)
            self.resolving.ask(queue)
        return queue

    def find(self, number: int) -> Queue | None:
        """Return the queue if it is awake."""
        return self._waiting.find(number)

    @property
    def n_awake(self) -> int:
        """How many queues are awake."""
        return len(self._waiting)

    @property
    def n_free(self) -> int:
        """How many queues more may be woken of those whose time has come."""
        return max(0, MOST_AWAKE - self._waiting.n_busy)

    @property
    def is_overfull(self) -> bool:
        """Even new mail has to wait in the tables, if its queue is not awake."""
        return self._waiting.n_busy >= 2 * MOST_AWAKE

    def piece(self) -> int:
        """Return how many rows of a queue should be read at a time, now."""
        return self._waiting.piece()

    def arrived(self, queue: Queue, part: bytes, cost: int) -> None:
        """A new part is due now in a queue that is awake."""
        if self._waiting.arrived(queue, part, cost):
            self._granting.enlist(queue)

    def read(self, queue: Queue, rows: Sequence[Row], most: int, now: int) -> None:
        """Take up to `most` rows that follow `read_from`. Fewer, or one that is not due, ends them.

        Only what was due before `now` is taken: whatever is put later sorts behind it, and is not missed.
        """
        queue.unread = len(rows) >= most
        for key, due, part, cost, is_suspect in rows:
            if due >= now:
                queue.unread = False
                self._waiting.expect(queue, due)
                break
            queue.read_from = key
            if part not in self._known and part not in self.reports:
                known = self._known[part] = Known(queue, cost, is_suspect=is_suspect)
                self._put_ready(part, known)
        if queue.ready:
            self._granting.enlist(queue)
        self._waiting.settle_down(queue, now)

    def settling(self, part: bytes, worker: int, now: int, has_spoken: bool) -> None:
        """A worker told what became of a part; `has_spoken` if it was a host that decided.

        Its session has room again; the rest waits for the commit. What another worker holds by now stays its own.
        """
        known = self._known.get(part)
        if known is None:
            return
        session = known.session
        if session is not None:
            if session.worker != worker:
                return
            known.session, known.is_settling = None, True
            self._leases.take_back(part, session, now)
            path = session.path
            if has_spoken and path.site != LOCAL_SITE:
                paths.succeeded(path, self._settings, now)
            self._granting.make_busy(path)
            self._granting.feed()
        elif not known.is_settling:
            # It had been given back, and was delivered all the same.
            self._take_out(part, known)
            known.queue.n_out += 1
            known.is_settling = True

    def settled(self, part: bytes, due: int, now: int) -> None:
        """That was committed: the part's fate is decided (`due` 0), or it is due again."""
        if due:
            self.reports.came_back(part)
        else:
            self.reports.done(part)
        self._granting.suspects.forget(part)
        known = self._known.pop(part, None)
        if known is None:
            return
        if known.session is not None:
            self._leases.take_back(part, known.session, now)
        queue = known.queue
        queue.n_out -= 1
        if due and due < now and part not in self.reports:
            # It was settled for an attempt that was over before: its row has been read, and will not be again.
            self._known[part] = Known(queue, known.cost, is_suspect=known.is_suspect)
            self._put_ready(part, self._known[part])
            self._granting.enlist(queue)
        elif due:
            self._waiting.expect(queue, due)
        self._waiting.settle_down(queue, now)

    def moved(self, part: bytes, queue: Queue | None, due: int, now: int) -> None:
        """A part that is not leased was removed (`due` 0), or put to another time."""
        known = self._known.get(part)
        if known is not None and not known.is_out:
            del self._known[part]
            self._take_out(part, known)
            self._waiting.settle_down(known.queue, now)
        if not due:
            self.reports.done(part)
            return
        self.reports.drop_refused(part)
        if queue is not None:
            self._waiting.expect(queue, due)
            queue.is_urgent |= due < NEVER_MS
            if queue.path is not None:
                self.routing.hurry(queue, queue.path, now)

    def up(self, part: bytes, kind: int, failure: Outcome | None, now: int) -> None:
        """A part's time is up: it goes out no more, and is reported once it is not leased. `failure` is what the tables
        know to be in its way."""
        known = self._known.get(part)
        is_leased = known is not None and known.is_out
        if known is not None:
            path = known.queue.path
            failure = path.failure if path is not None else failure
            if not is_leased:
                del self._known[part]
                self._take_out(part, known)
                self._waiting.settle_down(known.queue, now)
        self.reports.up(part, kind, failure, is_leased=is_leased)

    def suspect(self, part: bytes) -> None:
        """Workers died with a part: it is leased alone from now on."""
        known = self._known.get(part)
        if known is not None and not known.is_out and not known.is_suspect:
            self._take_out(part, known)
            known.is_suspect = True
            self._put_ready(part, known)

    def is_leased(self, part: bytes) -> bool:
        """Say whether a part is with a worker, or its settlement waits."""
        known = self._known.get(part)
        return known.is_out if known is not None else self.reports.is_out(part)

    # Paths

    def has_path(self, site: str) -> bool:
        """Say whether a path is in RAM."""
        return site in self._paths

    @property
    def has_much_to_remember(self) -> bool:
        """`to_remember` should not be waited with."""
        return self._paths.is_full or self._paths.has_more

    def to_remember(self, now: int) -> list[PathRow]:
        """Return some of what changed about paths; what the last call returned must be committed by now."""
        return self._paths.to_remember(now)

    # Sessions and workers

    def greeted(self, number: int, now: int) -> Path | None:
        """A host greeted a session; return its path if that ends a time of failure."""
        session = self._leases.sessions.get(number)
        if session is None or session.is_greeted:
            return None
        self._leases.greet(session)
        self._granting.feed()
        if paths.greeted(session.path, now):
            self.routing.go_on(session.path)
            return session.path
        self._granting.make_busy(session.path)
        return None

    def closed(self, number: int, failure: Outcome | None, now: int) -> Path | None:
        """A session is over, because of its host if there is a `failure`; return its path if that is paused for it.

        What the session had not settled was not tried, and is ready again.
        """
        session = self._leases.sessions.get(number)
        if session is None:
            return None
        path = session.path
        self._leases.end(session)
        self._give_back(session, now, is_failure=failure is not None)
        self._granting.feed()
        is_paused = failure is not None and path.site != LOCAL_SITE and self._fail(path, failure, now)
        self._granting.make_busy(path)
        self.routing.forget_if_unused(path)
        return path if is_paused else None

    def _fail(self, path: Path, failure: Outcome, now: int) -> bool:
        # Sessions that were begun together fail together: one pause for all of them.
        if paths.is_paused(path, now) or not paths.failed(path, self._settings, failure, now):
            return False
        self._paths.rest(path)
        for queue in path.queues.values():
            self._waiting.settle_down(queue, now)
        return True

    def worker_joined(self, worker: int, credit: int) -> None:
        """A worker may be given sessions, and leases of `credit` parts at once."""
        self._leases.join(worker, credit)
        self._granting.feed_all()

    def worker_leaves(self, worker: int) -> None:
        """A worker is about to end: it ends its sessions by itself, and gets nothing new."""
        self._leases.leave(worker)

    def worker_gone(self, worker: int, now: int) -> list[bytes]:
        """A worker is dead, or says what it has from the start: its sessions are over; return the parts it held."""
        self._leases.leave(worker)
        self.resolving.ask_again()
        held: list[bytes] = []
        for session in [s for s in self._leases.sessions.values() if s.worker == worker]:
            held += session.parts
            self.closed(session.number, None, now)
        return held + self.reports.worker_gone(worker)

    def session_kept(self, worker: int, kept: Kept, row: PathRow | None, now: int) -> None:
        """A worker that checks in again has this session."""
        number, site, is_greeted = kept
        path = self._paths.take(site, row)
        self._leases.keep(number, path, worker, is_greeted=is_greeted)
        if is_greeted:
            paths.kept(path, now)

    def lease_kept(self, number: int, queue: Queue, part: bytes, known: Known, now: int) -> None:
        """A worker that checks in again is delivering this part over one of its sessions."""
        session = self._leases.sessions.get(number)
        if session is None:
            return
        before = self._known.get(part)
        if before is not None:
            if before.is_out:
                return
            # It went back to its queue when the worker's connection was lost.
            self._take_out(part, before)
        self._waiting.stir(queue)
        self.reports.kept(part)
        self._known[part] = known
        self._leases.lease(part, known, session, now)
        queue.n_out += 1

    # What is wanted

    def given_back(self) -> list[bytes]:
        """Return the parts that came back from their sessions untried since the last call: orders may wait for them."""
        given, self._given_back = self._given_back, []
        return given

    def hungry(self) -> list[Queue]:
        """Return the queues whose rows should be read now, each once."""
        return self._waiting.hungry()

    def sleepers(self, now: int) -> list[Queue]:
        """Return the queues that had nothing to do for a while, and forget them."""
        asleep = self._waiting.sleepers(now)
        for queue in asleep:
            self.resolving.forget(queue)
            path = queue.path
            if path is not None and paths.is_paused(path, now):
                queue.sleeps_until, queue.sleeps_for = path.paused_until, path.site
            self.routing.leave(queue)
        return asleep

    def due_again(self, now: int) -> None:
        """Let paths go on whose pause is over, and make hungry the queues of which something became due."""
        for path in self._paths.rested(now):
            self.routing.go_on(path)
        self._waiting.due_again(now)

    def next_due(self) -> int:
        """Return when `due_again` has work, in ms; 0 for never."""
        return min(filter(None, (self._waiting.next_due(), self._paths.next_rested())), default=0)

    def grants(self, now: int) -> list[Grant]:
        """Lease ready parts to sessions with room, opening new sessions where that is worth it."""
        return self._granting.grants(now)

    def leased(self) -> list[bytes]:
        """Return the names of the parts that are leased."""
        return self._leases.leased() + self.reports.out()

    # Inside

    def _put_ready(self, part: bytes, known: Known) -> None:
        if known.is_suspect:
            known.queue.n_out += 1
            self._granting.suspects.add(part, known)
        else:
            known.queue.ready.append(part)

    def _take_out(self, part: bytes, known: Known) -> None:
        """Take a part that is not leased from where it waits."""
        if known.is_suspect:
            self._granting.suspects.forget(part)
            known.queue.n_out -= 1
        elif part in known.queue.ready:
            known.queue.ready.remove(part)
            self._waiting.taken_out(known.queue)

    def _give_back(self, session: Session, now: int, *, is_failure: bool) -> None:
        """Make the parts of a session that is over ready again."""
        self._given_back += session.parts
        for part in session.parts:
            known = self._known[part]
            known.session = None
            queue = known.queue
            queue.n_out -= 1
            if self.reports.is_up(part):
                self._granting.suspects.forget(part)
                del self._known[part]
                self.reports.came_back(part)
                self._waiting.settle_down(queue, now)
                continue
            if known.is_suspect:
                self._put_ready(part, known)
            elif is_failure:
                # To the end: if it is this one that makes hosts fail, the others come first.
                queue.ready.append(part)
            else:
                queue.ready.insert(0, part)
            self._granting.enlist(queue)

"""Which queue leads over which path, as workers said when they were asked where its domain goes.

Rule: an answer is for all queues that asked. It is a path; or a *refusal*, and then what of them is due is reported to
its senders without being tried; or nobody knows, and then they share a path that is *lost*, and rests.

Pure: no clock, no LMDB. Called by `schedule` alone. RFC 5321 s5.1.
"""

from mta.config import Path as Settings
from mta.message import Outcome, lost_site
from mta.queue import paths, turns
from mta.queue.awake import Path, Queue, Site
from mta.queue.granting import Granting
from mta.queue.pathbook import PathBook
from mta.queue.reports import REFUSED, Reports
from mta.queue.resolving import Question, Resolving
from mta.queue.waiting import Waiting
from mta.store import PathRow

__all__ = ["Routing"]


class Routing:
    """The ways of all queues that are awake."""

    def __init__(
        self,
        settings: Settings,
        waiting: Waiting,
        book: PathBook,
        granting: Granting,
        reports: Reports,
        resolving: Resolving,
    ) -> None:
        self.settings = settings
        self._waiting = waiting
        self._book = book
        self._granting = granting
        self._reports = reports
        self._resolving = resolving

    # Answers

    def resolved(self, question: Question, site: Site, until: int, row: PathRow | None, now: int) -> None:
        """It is known where mail goes, until then; `row` is what is remembered of the path there."""
        name, hosts, ranks = site
        path = self._book.take(name, row)
        path.hosts, path.ranks = hosts, ranks
        for queue in self._asked(question):
            self._lead(queue, path)
            queue.refusal, queue.until = None, until
            self.hurry(queue, path, now)
            if queue.ready:
                self._granting.enlist(queue)
        self.forget_if_unused(path)

    def refused(self, question: Question, refusal: Outcome, until: int) -> None:
        """There is no way for this mail, and there will be none; what comes in until then goes the same way."""
        for queue in self._asked(question):
            self.leave(queue)
            queue.refusal, queue.until = refusal, until
            self._granting.refused[queue.number] = queue

    def lost(self, question: Question, failure: Outcome, row: PathRow | None, now: int) -> Path | None:
        """Nobody knows at the moment: the queues sleep. Return their path if it begins to rest with this."""
        path = self._book.take(lost_site(question.domain, question.route), row)
        rests = not paths.is_paused(path, now)
        if rests:
            paths.lost(path, self.settings, failure, now)
            self._book.rest(path)
        for queue in (*self._resolving.answered(question), *path.queues.values()):
            self._lead(queue, path)
            queue.refusal, queue.until, queue.is_urgent = None, 0, False
            self._waiting.settle_down(queue, now)
        self.forget_if_unused(path)
        return path if rests else None

    def found(self, question: Question) -> bool:
        """What was lost is known again: forget that it was; return whether that was in RAM."""
        return self._book.drop(lost_site(question.domain, question.route))

    def _asked(self, question: Question) -> list[Queue]:
        """Return the queues that an answer is for: those that asked, and those that had given up."""
        lost = self._book.find(lost_site(question.domain, question.route))
        return [*self._resolving.answered(question), *(lost.queues.values() if lost is not None else ())]

    # Refusals

    def refuse(self, now: int) -> None:
        """Hand what is ready of refused queues to the reports, as many as they take."""
        for queue in list(self._granting.refused.values()):
            refusal = queue.refusal
            if refusal is not None and queue.until < now:
                # It may have changed.
                self._resolving.ask(queue)
                refusal = queue.refusal = None
            if refusal is not None:
                self._refuse(queue, refusal, now)
                if queue.ready:
                    return
            del self._granting.refused[queue.number]

    def _refuse(self, queue: Queue, refusal: Outcome, now: int) -> None:
        suspects = self._granting.suspects
        for part in suspects.of(queue):
            suspects.forget(part)
            queue.n_out -= 1
            self._report(part, refusal)
        while queue.ready and not self._reports.is_full:
            self._report(queue.ready.pop(0), refusal)
        self._waiting.taken_out(queue)
        self._waiting.settle_down(queue, now)

    def _report(self, part: bytes, refusal: Outcome) -> None:
        del self._waiting.known[part]
        self._reports.up(part, REFUSED, refusal, is_leased=False)

    # Queues on their paths

    def hurry(self, queue: Queue, path: Path, now: int) -> None:
        """Use a path at once, though it rests, if an operator wants that of a queue."""
        if queue.is_urgent and paths.is_paused(path, now):
            paths.resume(path)
            self.go_on(path)
        queue.is_urgent = False

    def go_on(self, path: Path) -> None:
        """A path may be used again; or it may be asked again where it leads."""
        for queue in path.queues.values():
            self._waiting.want(queue)
            if path.is_lost:
                self._resolving.ask(queue)
        self._granting.make_busy(path)

    def leave(self, queue: Queue) -> None:
        """Take a queue off its path."""
        path = queue.path
        if path is not None:
            turns.strike(path, queue)
            path.queues.pop(queue.number, None)
            queue.path = None
            self.forget_if_unused(path)

    def forget_if_unused(self, path: Path) -> None:
        """Forget a path without queues and sessions."""
        if self._book.maybe_leave(path):
            self._granting.forget(path)

    def _lead(self, queue: Queue, path: Path) -> None:
        # Into the new one first: a queue that leaves its path and comes back must not make it forgotten in between.
        path.queues[queue.number] = queue
        if queue.path is not path:
            self.leave(queue)
        queue.path = path

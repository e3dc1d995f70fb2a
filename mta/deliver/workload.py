"""The jobs of one session over its connections: which letters the connection at hand gets, what is told of each job,
and whether the next host is to be tried. RFC 5321 s5.1.

Rule: each job is told once. Until a host has done something about a letter, all of them go on to the next host; then
only those that this host cannot take (`detour`), when its connection ends.

Used by the remote courier, which has the socket and the clock; nothing here knows about either.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from mta.config import Path
from mta.deliver.contract import Job, Report
from mta.deliver.detour import Detour, ruling
from mta.deliver.shares import Shares
from mta.message import Outcome
from mta.smtp import Over, TryNext

__all__ = ["Workload"]

NO_ROUTE = Outcome("deferred", 451, "4.4.4", "no route to this domain", "", "")
# With a letter that has to go to another host, a connection takes so many more of the others and ends.
ROOM_BEFORE_DETOUR = 50


class Workload:
    """What one session has to do, and has done."""

    def __init__(self, session: int, report: Report, path: Path) -> None:
        self._session = session
        self._report = report
        self._jobs: deque[Job] = deque()
        self._n_room = path.messages_per_connection
        self._shares = Shares(path.recipients)
        self._detour = Detour()
        self._is_on_detour = False
        self._was_greeted = False
        # Of all hosts: one has had a say about a letter. Of this one: it has settled none.
        self._has_ruled = False
        self._is_fruitless = True
        # What the last host did that is no message's fault.
        self._failure: Outcome | None = None
        # A host that never told what it takes might take more than those that did.
        self._has_unheard = False
        self._end = NO_ROUTE

    def add(self, jobs: Iterable[Job]) -> None:
        """Take more jobs, to be worked after those it has."""
        self._jobs.extend(jobs)

    def put_back(self, letters: Sequence[Job]) -> None:
        """Take letters back that were given out and not begun."""
        self._jobs.extendleft(reversed(letters))

    # One connection.

    def greeted(self) -> list[Job]:
        """A host takes mail: return the letters that were on their way to it."""
        self._has_unheard |= self._failure is not None
        self._failure = None
        if not self._was_greeted:
            self._was_greeted = True
            self._report.greeted(self._session)
        return self._detour.take()

    def letters(self) -> list[Job]:
        """Return what this connection gets to do beside that, until there is no more or it is full."""
        letters: list[Job] = []
        while self._jobs and self._n_room and not self._is_on_detour:
            self._n_room -= 1
            letters += self._shares.cut(self._jobs.popleft())
        return letters

    @property
    def is_spent(self) -> bool:
        """This connection gets nothing more to do."""
        return not self._n_room or self._is_on_detour or self._detour.is_needed

    def done(self, letter: Job, outcomes: Sequence[tuple[int, Outcome]]) -> Job | None:
        """Take what a host said of a letter; return one to be sent at once, for the recipients that were too many."""
        self._is_fruitless = False
        return self._tell(letter, outcomes)

    def try_next(self, event: TryNext[Job], *, has_more: bool) -> None:
        """Take a letter that this host did nothing about; `has_more` when there is another host."""
        if has_more:
            self._has_ruled = True
            self._n_room = min(self._n_room, ROOM_BEFORE_DETOUR)
            self._detour.add(event)
        else:
            self._tell(event.letter, ruling(event, was_asked_everywhere=not self._has_unheard))

    def _tell(self, letter: Job, outcomes: Sequence[tuple[int, Outcome]]) -> Job | None:
        self._has_ruled = True
        self._detour.done(letter)
        job, outcomes, rest = self._shares.done(letter, outcomes)
        if job is not None:
            self._report.done(job, outcomes)
        return rest

    # Its end, and the session's.

    def failed(self, outcome: Outcome) -> None:
        """A host could not be reached."""
        self._failure = self._end = outcome

    def over(self, over: Over[Job]) -> bool:
        """A connection is gone; return whether something is left for the next host, if there is one."""
        self._end = over.outcome
        if over.is_hosts_fault:
            self._failure = over.outcome
        is_fruitless, self._is_fruitless = self._is_fruitless, True
        if is_fruitless and (over.is_hosts_fault or self._detour.is_needed):
            self._detour.bring(over.left)
            return self._detour.is_needed or bool(self._jobs)
        self.put_back(self._detour.reclaim(over.left))
        self._is_on_detour = self._detour.is_needed
        return self._is_on_detour

    def finish(self, *, was_ended: bool) -> None:
        """The session is over: tell of every job that was not told of; `was_ended` when that is our wish."""
        if was_ended:
            waiting = self._detour.take()
        else:
            # What is counted as an attempt is not tried again at once, and for ever.
            waiting, rulings = self._detour.settle()
            for letter, outcomes in rulings:
                self._tell(letter, outcomes)
        left, reports = self._shares.left((*waiting, *self._jobs), self._end)
        self._jobs.clear()
        if self._failure is None and not self._was_greeted and not was_ended:
            reports += [(job, [(number, NO_ROUTE) for number, _ in job.recipients]) for job in left]
            left = []
        for job, outcomes in reports:
            self._report.done(job, outcomes)
        is_told = not was_ended and not self._has_ruled
        self._report.closed(self._session, left, self._failure if is_told else None)

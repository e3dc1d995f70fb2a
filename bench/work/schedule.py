"""The schedule: a message's way from its arrival to its settlement, in the order in which `plans` and `desk` ask.

Two workers take from one queue that leads to one site, over sessions that were greeted.
"""

from bench.work.mail import GROUP, HOSTS, QUEUE_NAME, SITE, T0, id_of
from mta.config import Deliver, Path
from mta.queue.awake import Queue
from mta.queue.schedule import Question, Schedule
from mta.store import part_name

__all__ = ["ScheduleWork"]

WORKERS = (1, 2)
CREDIT = 2000
TURN_MS = 2
QUEUE = 1
DAY_MS = 86_400_000


class ScheduleWork:
    """A schedule with two workers that have checked in."""

    def __init__(self) -> None:
        self._schedule = schedule = Schedule(Path(), Deliver().sessions)
        self._now = T0
        self._n_put = 0
        for worker in WORKERS:
            schedule.worker_joined(worker, CREDIT)
        schedule.read(schedule.awake(QUEUE, QUEUE_NAME), [], schedule.piece(), T0)
        if schedule.resolving.questions(T0) != [Question(QUEUE_NAME.domain, "")]:
            raise RuntimeError("the schedule asks for something else")
        # A year: the answer never grows old here.
        schedule.routing.resolved(Question(QUEUE_NAME.domain, ""), (SITE, HOSTS, (0,)), T0 + 365 * DAY_MS, None, T0)

    def run(self, n_messages: int) -> None:
        """Let so many messages arrive, be leased and be settled."""
        n_out = 0
        for start in range(0, n_messages, GROUP):
            n_out += self._group(min(GROUP, n_messages - start))
        if n_out != n_messages:
            raise RuntimeError(f"{n_out} of {n_messages} messages were leased")

    def _group(self, n_messages: int) -> int:
        """Return how many were leased and settled."""
        schedule = self._schedule
        for _ in range(n_messages):
            self._n_put += 1
            schedule.arrived(schedule.awake(QUEUE, QUEUE_NAME), part_name(id_of(self._n_put), 0), 1)
        n_out = 0
        # What a session has given back makes room for more in the next turn.
        while leased := self._turn():
            for worker, part in leased:
                schedule.settling(part, worker, self._now, has_spoken=True)
            for _, part in leased:
                schedule.settled(part, 0, self._now)
            n_out += len(leased)
        return n_out

    def _turn(self) -> list[tuple[int, bytes]]:
        """Do what `Plans.tick` does; return what was leased, and to whom."""
        schedule = self._schedule
        self._now = now = self._now + TURN_MS
        schedule.given_back()
        schedule.due_again(now)
        hungry: list[Queue] = schedule.hungry()
        for queue in hungry:
            schedule.read(queue, [], schedule.piece(), now)
        schedule.routing.refuse(now)
        if schedule.sleepers(now) or schedule.resolving.questions(now):
            raise RuntimeError("the queue went to sleep, or asks again")
        leased: list[tuple[int, bytes]] = []
        for grant in schedule.grants(now):
            if grant.opens:
                schedule.greeted(grant.session, now)
            leased += [(grant.worker, part) for part in grant.parts]
        return leased

    def close(self) -> None:
        """There is nothing to take down."""

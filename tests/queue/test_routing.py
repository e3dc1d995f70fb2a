"""Which queue leads where: ways, refusals, and what waits until the name service knows."""

import pytest

from mta.config import Path
from mta.message import Hosts, Outcome, lost_site
from mta.queue.awake import Queue
from mta.queue.paths import MOST_DOUBLINGS, row_of
from mta.queue.reports import MOST_OUT, MOST_WAITING, REFUSED
from mta.queue.schedule import Question, Row, Schedule
from mta.queue.waiting import NAP_MS, READ_PARTS
from mta.store import NEVER_MS, due_key

from .samples import T0, name

PAUSE_MS = 60_000
HOUR_MS = 3_600_000
HOSTS: Hosts = (("mx1.test", 25), ("mx2.test", 25))
RANKS = (10, 10)
ASKED = Question("a.test", "")
LOST = lost_site("a.test", "")
UNKNOWN = Outcome("deferred", 451, "4.4.3", "the name service does not know a.test", "", "")
NO_DOMAIN = Outcome("bounced", 550, "5.1.2", "there is no domain a.test", "", "")


def made() -> Schedule:
    schedule = Schedule(Path(pause_s=PAUSE_MS / 1000), 100)
    schedule.worker_joined(1, 1000)
    return schedule


def waking(schedule: Schedule, number: int, n_parts: int, tenant: str = "default", suspects: bool = False) -> Queue:
    """Wake a queue of a.test with parts that are due."""
    queue = schedule.awake(number, name("a.test", tenant))
    rows: list[Row] = []
    for at in range(n_parts):
        part = number.to_bytes(8, "big") + at.to_bytes(8, "big") + b"\0\0"
        rows.append((due_key(number, T0 - 1, part), T0 - 1, part, 1, suspects))
    assert schedule.hungry()
    schedule.read(queue, rows, READ_PARTS, T0)
    return queue


def found(schedule: Schedule, now: int = T0) -> None:
    schedule.routing.resolved(ASKED, ("site", HOSTS, RANKS), now + HOUR_MS, None, now)


def test_routing_way_goes_with_the_lease() -> None:
    schedule = made()
    waking(schedule, 1, 1)
    assert schedule.resolving.questions(T0) == [ASKED]
    assert schedule.grants(T0) == []
    found(schedule)
    [grant] = schedule.grants(T0)
    assert (grant.site, grant.hosts, grant.ranks) == ("site", HOSTS, RANKS)


def test_routing_refusal_makes_reports_of_all_queues_that_asked() -> None:
    schedule = made()
    first, second = waking(schedule, 1, 2), waking(schedule, 2, 1, "other")
    schedule.routing.refused(ASKED, NO_DOMAIN, T0 + HOUR_MS)
    schedule.routing.refuse(T0)
    [task] = schedule.reports.tasks([1])
    assert (task.kind, task.failure, len(task.parts)) == (REFUSED, NO_DOMAIN, 3)
    assert schedule.grants(T0) == []
    for part in task.parts:
        schedule.settled(part, 0, T0)
    # Nothing is left: they go to sleep, and nobody was asked to connect.
    assert {queue.number for queue in schedule.sleepers(T0 + NAP_MS)} == {first.number, second.number}


def test_routing_refusal_holds_for_what_comes_in_until_it_is_old_and_is_then_asked_again() -> None:
    schedule = made()
    queue = waking(schedule, 1, 0)
    schedule.routing.refused(ASKED, NO_DOMAIN, T0 + 1000)
    schedule.routing.refuse(T0)
    schedule.arrived(queue, b"x" * 18, 1)
    schedule.routing.refuse(T0 + 1)
    assert [task.parts for task in schedule.reports.tasks([1])] == [(b"x" * 18,)]
    schedule.arrived(queue, b"y" * 18, 1)
    schedule.routing.refuse(T0 + 1001)
    assert schedule.reports.tasks([1]) == []
    assert schedule.resolving.questions(T0 + 1001) == [ASKED]
    found(schedule, T0 + 1002)
    assert [grant.parts for grant in schedule.grants(T0 + 1002)] == [(b"y" * 18,)]


def test_routing_refusal_of_many_parts_goes_in_slices() -> None:
    schedule = made()
    queue = waking(schedule, 1, 0)
    schedule.routing.refused(ASKED, NO_DOMAIN, T0 + HOUR_MS)
    n_parts = MOST_WAITING + 30
    for at in range(n_parts):
        schedule.arrived(queue, at.to_bytes(18, "big"), 1)
        schedule.routing.refuse(T0)
    n_reported = 0
    while tasks := schedule.reports.tasks([1]):
        for part in (part for task in tasks for part in task.parts):
            schedule.settled(part, 0, T0)
            n_reported += 1
        # The table has those that were too many for RAM.
        assert n_reported <= MOST_WAITING + MOST_OUT
        schedule.routing.refuse(T0)
    assert n_reported >= MOST_WAITING


def test_routing_refusal_reports_suspects_too() -> None:
    schedule = made()
    queue = waking(schedule, 1, 2, suspects=True)
    schedule.routing.refused(ASKED, NO_DOMAIN, T0 + HOUR_MS)
    schedule.routing.refuse(T0)
    assert len(schedule.reports.tasks([1])[0].parts) == 2
    assert queue.n_out == 0


def test_routing_refused_part_that_an_operator_holds_is_not_reported() -> None:
    schedule = made()
    queue = waking(schedule, 1, 1)
    part = queue.ready[0]
    schedule.routing.refused(ASKED, NO_DOMAIN, T0 + HOUR_MS)
    schedule.routing.refuse(T0)
    schedule.moved(part, queue, NEVER_MS, T0)
    assert schedule.reports.tasks([1]) == []


def test_routing_lost_queues_rest_each_time_twice_as_long() -> None:
    schedule = made()
    waking(schedule, 1, 1)
    now, pauses = T0, []
    for _ in range(MOST_DOUBLINGS + 3):
        path = schedule.routing.lost(ASKED, UNKNOWN, None, now)
        assert path is not None
        assert (path.site, path.failure) == (LOST, UNKNOWN)
        # A second answer, to a question of somebody else, changes nothing.
        assert schedule.routing.lost(ASKED, UNKNOWN, None, now + 1) is None
        assert schedule.grants(now + 1) == []
        assert schedule.next_due() == path.paused_until
        pauses.append(path.paused_until - now)
        now = path.paused_until
        assert schedule.resolving.questions(now) == []
        schedule.due_again(now)
        # Rested: the name service is asked, and nothing is sent meanwhile.
        assert schedule.resolving.questions(now) == [ASKED]
        assert schedule.grants(now) == []
    assert pauses == [PAUSE_MS * 2 ** min(n, MOST_DOUBLINGS) for n in range(MOST_DOUBLINGS + 3)]


def test_routing_lost_queue_sleeps_and_what_is_remembered_goes_on() -> None:
    schedule = made()
    waking(schedule, 1, 1)
    path = schedule.routing.lost(ASKED, UNKNOWN, None, T0)
    assert path is not None
    row = row_of(path, T0)
    [asleep] = schedule.sleepers(T0 + NAP_MS)
    assert (asleep.sleeps_until, asleep.sleeps_for) == (T0 + PAUSE_MS, LOST)
    # Another process, an hour later.
    later = made()
    waking(later, 1, 1)
    again = later.routing.lost(ASKED, UNKNOWN, row, T0 + HOUR_MS)
    assert again is not None
    assert again.paused_until == T0 + HOUR_MS + 2 * PAUSE_MS
    # New mail wakes it meanwhile: it is asked, and if nobody knows still, the pause stays what it is.
    waking(later, 2, 1, "other")
    assert later.routing.lost(ASKED, UNKNOWN, None, T0 + HOUR_MS + 1000) is None
    assert again.paused_until == T0 + HOUR_MS + 2 * PAUSE_MS


@pytest.mark.parametrize("is_refused", [False, True])
def test_routing_answer_is_for_those_too_that_had_given_up(is_refused: bool) -> None:
    schedule = made()
    waking(schedule, 1, 1)
    schedule.routing.lost(ASKED, UNKNOWN, None, T0)
    waking(schedule, 2, 1, "other")
    if is_refused:
        schedule.routing.refused(ASKED, NO_DOMAIN, T0 + HOUR_MS)
        schedule.routing.refuse(T0)
        assert sum(len(task.parts) for task in schedule.reports.tasks([1])) == 2
    else:
        found(schedule)
        [grant] = schedule.grants(T0)
        schedule.greeted(grant.session, T0)
        granted = [grant, *schedule.grants(T0)]
        assert sum(len(grant.parts) for grant in granted) == 2
    # It is not written down again that it was lost.
    assert schedule.routing.found(ASKED)
    assert not schedule.routing.found(ASKED)
    assert LOST not in [row.site for row in schedule.to_remember(T0)]


def test_routing_operators_retry_asks_again_at_once() -> None:
    schedule = made()
    queue = waking(schedule, 1, 1)
    part = queue.ready[0]
    schedule.routing.lost(ASKED, UNKNOWN, None, T0)
    assert schedule.resolving.questions(T0 + 1) == []
    schedule.moved(part, queue, T0 + 1, T0 + 1)
    assert schedule.resolving.questions(T0 + 1) == [ASKED]


def test_routing_stale_way_serves_until_the_answer_comes() -> None:
    schedule = made()
    waking(schedule, 1, 10)
    found(schedule, T0 - HOUR_MS - 1)
    assert schedule.resolving.questions(T0) == []
    [grant] = schedule.grants(T0)
    assert grant.hosts == HOSTS
    assert schedule.resolving.questions(T0) == [ASKED]
    schedule.routing.resolved(ASKED, ("other", HOSTS[:1], (0,)), T0 + HOUR_MS, None, T0)
    assert schedule.grants(T0)[0].site == "other"


def test_routing_questions_of_a_worker_that_is_gone_are_asked_again() -> None:
    schedule = made()
    waking(schedule, 1, 1)
    assert schedule.resolving.questions(T0) == [ASKED]
    assert schedule.resolving.questions(T0 + 1) == []
    schedule.worker_gone(1, T0 + 1)
    assert schedule.resolving.questions(T0 + 1) == [ASKED]

"""What operators, timers and workers that come back do to a schedule that is under way."""

from mta.queue.awake import Known
from mta.queue.reports import Task
from mta.queue.schedule import Question
from mta.queue.waiting import READ_PARTS
from mta.store import EXPIRE, NEVER_MS

from .samples import T0, name, settling
from .test_schedule import CREDIT, FAILURE, HOSTS, awake, greet, made, parts, rows, settle

PAUSE_MS = 60_000


def test_closed_by_its_host_rests_the_path_and_touches_no_part() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    for part in parts(3):
        schedule.arrived(queue, part, 1)
    [grant] = schedule.grants(T0)
    path = schedule.closed(grant.session, FAILURE, T0)
    assert path is not None
    assert (path.site, path.paused_until, path.failure) == ("site", T0 + PAUSE_MS, FAILURE)
    assert schedule.grants(T0 + 1) == []
    assert schedule.leased() == []
    assert schedule.next_due() == T0 + PAUSE_MS
    schedule.due_again(T0 + PAUSE_MS)
    [again] = schedule.grants(T0 + PAUSE_MS)
    # The one that was first is last now: if it makes hosts fail, the others come before it.
    assert again.parts == (parts(3)[1],)
    # The second failure in a row is a pause, too; a greeting ends all that.
    assert schedule.closed(again.session, FAILURE, T0 + PAUSE_MS) is path
    schedule.due_again(T0 + 2 * PAUSE_MS)
    [third] = schedule.grants(T0 + 2 * PAUSE_MS)
    assert schedule.greeted(third.session, T0 + 2 * PAUSE_MS) is path
    assert schedule.greeted(third.session, T0 + 2 * PAUSE_MS) is None
    assert path.failure is None


def test_closed_sessions_that_were_begun_together_pause_once() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    for part in parts(10):
        schedule.arrived(queue, part, 1)
    grants = schedule.grants(T0)
    greet(schedule, grants, T0)
    grants += schedule.grants(T0)
    assert len(grants) == 5
    told = [schedule.closed(grant.session, FAILURE, T0 + 1) is not None for grant in grants]
    assert sum(told) == 1
    assert schedule.grants(T0 + 2) == []


def test_moved_to_now_resumes_a_paused_path() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    first, second = parts(2)
    schedule.arrived(queue, first, 1)
    [grant] = schedule.grants(T0)
    schedule.closed(grant.session, FAILURE, T0)
    schedule.moved(second, queue, T0 + 1, T0 + 1)
    assert [granted.parts for granted in schedule.grants(T0 + 1)] == [(first,)]


def test_moved_to_never_takes_the_part_out_and_leaves_a_paused_path_alone() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    first, second = parts(2)
    for part in (first, second):
        schedule.arrived(queue, part, 1)
    [grant] = schedule.grants(T0)
    schedule.closed(grant.session, FAILURE, T0)
    schedule.moved(first, queue, NEVER_MS, T0 + 1)
    assert schedule.grants(T0 + 1) == []
    schedule.due_again(T0 + PAUSE_MS)
    assert [granted.parts for granted in schedule.grants(T0 + PAUSE_MS)] == [(second,)]


def test_moved_away_all_that_is_ready_has_the_rest_read() -> None:
    schedule = made(workers=0)
    queue = schedule.awake(1, name("a.test"))
    schedule.hungry()
    schedule.read(queue, rows(1, parts(READ_PARTS)), READ_PARTS, T0)
    assert schedule.hungry() == []
    for part in parts(READ_PARTS):
        schedule.moved(part, queue, 0, T0)
    assert schedule.hungry() == [queue]


def test_up_all_that_is_ready_has_the_rest_read() -> None:
    schedule = made(workers=0)
    queue = awake(schedule, 1, "a.test", "site")
    queue.unread = True
    schedule.read(queue, rows(1, parts(READ_PARTS)), READ_PARTS, T0)
    assert queue.unread
    assert schedule.hungry() == []
    for part in parts(READ_PARTS):
        schedule.up(part, EXPIRE, None, T0)
    # There may be more in the table, and nothing else would ask for it.
    assert schedule.hungry() == [queue]


def test_up_while_it_waits_is_reported_with_why_its_path_was_no_way() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    [part] = parts(1)
    schedule.arrived(queue, part, 1)
    [grant] = schedule.grants(T0)
    schedule.closed(grant.session, FAILURE, T0)
    schedule.up(part, EXPIRE, None, T0)
    assert schedule.reports.tasks([1]) == [Task(1, EXPIRE, FAILURE, (part,))]
    assert schedule.is_leased(part)
    assert schedule.leased() == [part]
    # It is read once more before its report is settled, and is not taken.
    schedule.read(queue, rows(1, [part]), READ_PARTS, T0 + 1)
    schedule.due_again(T0 + PAUSE_MS)
    assert schedule.grants(T0 + PAUSE_MS) == []
    schedule.settled(part, 0, T0 + 2)
    assert not schedule.is_leased(part)


def test_up_while_it_is_delivered_waits_for_the_outcome() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    first, second = parts(2)
    for part in (first, second):
        schedule.arrived(queue, part, 1)
    grants = schedule.grants(T0)
    greet(schedule, grants, T0)
    grants += schedule.grants(T0)
    assert sorted(schedule.leased()) == [first, second]
    for part in (first, second):
        schedule.up(part, EXPIRE, None, T0)
    assert schedule.reports.tasks([1]) == []
    # Delivered after all; deferred, and not tried again.
    for part, due in ((first, 0), (second, T0 + 1)):
        settling(schedule, part, T0 + 1)
        schedule.settled(part, due, T0 + 1)
    assert [task.parts for task in schedule.reports.tasks([1])] == [(second,)]


def test_up_while_its_session_ends_untried_is_reported_and_not_leased_again() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    [part] = parts(1)
    schedule.arrived(queue, part, 1)
    [grant] = schedule.grants(T0)
    schedule.up(part, EXPIRE, None, T0)
    schedule.closed(grant.session, None, T0)
    assert schedule.grants(T0) == []
    assert [task.parts for task in schedule.reports.tasks([1])] == [(part,)]


def test_lease_kept_of_a_part_whose_time_is_up_is_not_reported_meanwhile() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    [part] = parts(1)
    schedule.arrived(queue, part, 1)
    [grant] = schedule.grants(T0)
    schedule.up(part, EXPIRE, None, T0)
    # The worker's connection is lost, and it comes back with what it had.
    assert schedule.worker_gone(1, T0) == [part]
    schedule.session_kept(1, (grant.session, "site", True), None, T0)
    schedule.lease_kept(grant.session, queue, part, Known(queue, 1), T0)
    schedule.worker_joined(1, CREDIT)
    assert schedule.reports.tasks([1]) == []
    settling(schedule, part, T0)
    schedule.settled(part, T0 + 1, T0)
    assert [task.parts for task in schedule.reports.tasks([1])] == [(part,)]


def test_session_kept_that_was_greeted_lets_its_path_have_more() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    schedule.session_kept(1, (5, "site", True), None, T0)
    schedule.lease_kept(5, queue, parts(1)[0], Known(queue, 1), T0)
    for part in parts(4, 10):
        schedule.arrived(queue, part, 1)
    assert len(schedule.grants(T0)) > 0


# Limits of the node and of workers


def test_grants_sessions_of_all_paths_stay_within_the_nodes_limit() -> None:
    schedule = made(sessions=3)
    for number in range(1, 7):
        queue = awake(schedule, number, f"d{number}.test", f"site{number}")
        schedule.arrived(queue, number.to_bytes(18, "big"), 1)
    first = schedule.grants(T0)
    # Nobody knows any of these paths to be alive: together they get half of it.
    assert len(first) == 1
    greet(schedule, first, T0)
    seen = list(first)
    for _ in range(20):
        settle(schedule, seen[-1:], T0)
        schedule.closed(seen[-1].session, None, T0)
        grants = schedule.grants(T0)
        assert len(grants) <= 1
        seen += grants
        if not grants:
            break
        greet(schedule, grants, T0)
    assert sorted(grant.site for grant in seen) == [f"site{number}" for number in range(1, 7)]


def test_grants_paths_that_are_alive_are_not_clogged_by_those_that_are_not() -> None:
    schedule = made(sessions=10)
    for number in range(1, 21):
        schedule.arrived(awake(schedule, number, f"d{number}.test", f"dead{number}"), number.to_bytes(18, "big"), 1)
    assert len(schedule.grants(T0)) == 5
    good = awake(schedule, 99, "good.test", "good")
    schedule.session_kept(1, (1000, "good", False), None, T0)
    schedule.greeted(1000, T0)
    for part in parts(30, 1000):
        schedule.arrived(good, part, 1)
    assert len({grant.session for grant in schedule.grants(T0) if grant.site == "good"}) == 5


def test_grants_worker_gets_no_more_than_its_credit_and_more_with_each_settlement() -> None:
    schedule = made(workers=0)
    schedule.worker_joined(1, 2)
    queue = awake(schedule, 1, "a.test", "local")
    for part in parts(9):
        schedule.arrived(queue, part, 1)
    leased: list[bytes] = []
    n_rounds = 0
    while len(leased) < 9 and n_rounds < 20:
        n_rounds += 1
        grants = schedule.grants(T0 + n_rounds)
        assert sum(len(grant.parts) for grant in grants) <= 2
        leased += [part for grant in grants for part in grant.parts]
        assert len(schedule.leased()) <= 2
        settle(schedule, grants, T0 + n_rounds)
    assert leased == parts(9)


# What is remembered of paths


def test_path_that_is_forgotten_while_it_rests_is_remembered_with_its_pause() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    schedule.arrived(queue, parts(1)[0], 1)
    [grant] = schedule.grants(T0)
    schedule.closed(grant.session, FAILURE, T0)
    [asleep] = schedule.sleepers(T0 + PAUSE_MS // 2)
    assert asleep.sleeps_until == T0 + PAUSE_MS
    assert not schedule.has_path("site")
    [row] = schedule.to_remember(T0 + PAUSE_MS // 2)
    assert (row.site, row.paused_until, row.failure) == ("site", T0 + PAUSE_MS, FAILURE)
    assert schedule.to_remember(T0 + PAUSE_MS // 2) == []
    # New mail wakes the queue; its path is as it was.
    again = schedule.awake(1, queue.name)
    schedule.hungry()
    schedule.read(again, rows(1, parts(1)), READ_PARTS, T0 + 40_000)
    schedule.resolving.questions(T0 + 40_000)
    schedule.routing.resolved(Question("a.test", ""), ("site", HOSTS, ()), T0 + 10**9, row, T0)
    assert schedule.grants(T0 + 40_000) == []
    schedule.due_again(T0 + PAUSE_MS)
    assert [granted.parts for granted in schedule.grants(T0 + PAUSE_MS)] == [(parts(1)[0],)]


def test_path_that_is_wanted_again_before_it_was_written_down_is_the_same() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    schedule.arrived(queue, parts(1)[0], 1)
    [grant] = schedule.grants(T0)
    schedule.closed(grant.session, FAILURE, T0)
    schedule.sleepers(T0 + PAUSE_MS // 2)
    schedule.awake(1, queue.name)
    schedule.routing.resolved(Question("a.test", ""), ("site", HOSTS, ()), T0 + 10**9, None, T0)
    schedule.arrived(awake(schedule, 2, "b.test", "site"), parts(1, 7)[0], 1)
    assert schedule.grants(T0 + PAUSE_MS // 2) == []

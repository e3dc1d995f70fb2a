"""The schedule's single decisions, as pure functions of rows and `now`."""

import struct
from collections import Counter
from collections.abc import Iterable

import pytest

from mta.config import Path
from mta.message import Outcome
from mta.queue.awake import Known, Queue
from mta.queue.resolving import RESOLVE_AGAIN_MS, Question
from mta.queue.schedule import Grant, Row, Schedule
from mta.queue.waiting import NAP_MS, READ_PARTS
from mta.store import due_key

from .samples import T0, name, settling

HOSTS = (("127.0.0.1", 25),)
CREDIT = 2000
FAILURE = Outcome("deferred", 451, "4.4.1", "cannot connect", "mx", "")


def parts(n: int, first: int = 0) -> list[bytes]:
    return [(first + at).to_bytes(18, "big") for at in range(n)]


def rows(queue: int, names: Iterable[bytes], due: int = T0 - 1) -> list[Row]:
    return [(due_key(queue, due, part), due, part, 1, False) for part in names]


def made(connections: int = 20, window_start: int = 5, workers: int = 1, sessions: int = 2000) -> Schedule:
    settings = Path(connections=connections, window_start=window_start, window_max=connections)
    schedule = Schedule(settings, sessions)
    for worker in range(1, workers + 1):
        schedule.worker_joined(worker, CREDIT)
    return schedule


def awake(schedule: Schedule, number: int, domain: str, site: str, until: int = T0 + 10_000_000) -> Queue:
    """Return a queue whose rows were read (there were none) and whose way is known."""
    queue = schedule.awake(number, name(domain))
    schedule.hungry()
    schedule.read(queue, [], READ_PARTS, T0)
    schedule.resolving.questions(T0)
    schedule.routing.resolved(Question(domain, ""), (site, HOSTS, ()), until, None, T0)
    return queue


def greet(schedule: Schedule, grants: list[Grant], now: int) -> None:
    for grant in grants:
        if grant.opens:
            schedule.greeted(grant.session, now)


def settle(schedule: Schedule, grants: list[Grant], now: int) -> None:
    for grant in grants:
        for part in grant.parts:
            settling(schedule, part, now)
            schedule.settled(part, 0, now)


def test_arrived_in_an_awake_queue_is_leased_at_once() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    [part] = parts(1)
    schedule.arrived(queue, part, 1)
    assert schedule.grants(T0) == [Grant(1, 1, True, "site", HOSTS, (), (part,), b"\1")]
    assert schedule.leased() == [part]
    # And only once.
    schedule.read(queue, rows(1, [part]), READ_PARTS, T0)
    assert schedule.grants(T0) == []
    settle(schedule, [Grant(1, 1, True, "site", HOSTS, (), (part,), b"\1")], T0 + 1)
    assert schedule.leased() == []


def made_by(worker: int, number: int) -> bytes:
    """Return the name of a part of a message that this worker put."""
    return struct.pack(">QIIH", 1, worker, number, 0)


def test_grants_a_part_is_new_until_it_was_leased() -> None:
    schedule = made(connections=1)
    queue = awake(schedule, 1, "a.test", "site")
    [first, second] = parts(2)
    schedule.arrived(queue, first, 1)
    [grant] = schedule.grants(T0)
    assert grant.new == b"\1"
    schedule.closed(grant.session, None, T0)
    [again] = schedule.grants(T0)
    assert (again.parts, again.new) == ((first,), b"\0")
    settle(schedule, [again], T0)
    # What was read may have been tried before.
    queue.unread = True
    schedule.read(queue, rows(1, [second]), READ_PARTS, T0)
    assert [grant.new for grant in schedule.grants(T0 + 1)] == [b"\0"]


def test_grants_new_parts_go_to_the_worker_that_put_them_unless_it_is_the_busier() -> None:
    schedule = made(workers=2)
    queue = awake(schedule, 1, "a.test", "site")
    given: list[Grant] = []
    # One has a session already, and more are opened where there is more to do: then each has some.
    for number in range(10):
        schedule.arrived(queue, made_by(2, 50 + number), 1)
        greet(schedule, grants := schedule.grants(T0), T0)
        given += grants
    assert {grant.worker for grant in given} == {1, 2}
    while given:
        settle(schedule, given, T0)
        given = schedule.grants(T0)
        greet(schedule, given, T0)
    for number, maker in enumerate((2, 1, 2, 1)):
        schedule.arrived(queue, made_by(maker, number), 1)
        grants = schedule.grants(T0)
        greet(schedule, grants, T0)
        assert [grant.worker for grant in grants] == [maker]
        settle(schedule, grants, T0)
    for number in range(40):
        schedule.arrived(queue, made_by(2, 100 + number), 1)
    shares = Counter(grant.worker for grant in schedule.grants(T0) for _ in grant.parts)
    assert 0 < shares[1] <= shares[2]


def test_grants_new_parts_do_not_queue_up_while_a_session_stands_idle() -> None:
    schedule = made(workers=2)
    queue = awake(schedule, 1, "a.test", "site")
    given: list[Grant] = []
    for number in range(12):
        schedule.arrived(queue, made_by(2, number), 1)
        greet(schedule, grants := schedule.grants(T0), T0)
        given += grants
    n_sessions = len({grant.session for grant in given})
    assert n_sessions > 2
    while given:
        settle(schedule, given, T0)
        given = schedule.grants(T0)
        greet(schedule, given, T0)
    for number in range(n_sessions):
        schedule.arrived(queue, made_by(2, 100 + number), 1)
    leased = [grant.session for grant in schedule.grants(T0) for _ in grant.parts]
    assert len(leased) == len(set(leased)) == n_sessions


def test_grants_without_workers_wait_for_one() -> None:
    schedule = made(workers=0)
    schedule.arrived(awake(schedule, 1, "a.test", "site"), parts(1)[0], 1)
    assert schedule.grants(T0) == []
    schedule.worker_joined(7, CREDIT)
    assert [grant.worker for grant in schedule.grants(T0)] == [7]


def test_grants_queues_on_one_path_take_turns() -> None:
    schedule = made(connections=1)
    bulk, small = awake(schedule, 1, "a.test", "site"), awake(schedule, 2, "b.test", "site")
    for part in parts(100):
        schedule.arrived(bulk, part, 1)
    for part in parts(3, 1000):
        schedule.arrived(small, part, 1)
    order: list[bytes] = []
    for n in range(30):
        grants = schedule.grants(T0 + n)
        order += [part for grant in grants for part in grant.parts]
        settle(schedule, grants, T0 + n)
    assert set(parts(3, 1000)) <= set(order[:23])
    # The bulk queue had its first turn and, as nobody older was there, a second one; not more.
    assert set(order[:20]) == set(parts(20))


@pytest.mark.parametrize(("connections", "window_start", "first"), [(20, 5, 5), (3, 5, 3), (20, 1, 1)])
def test_grants_new_sessions_stay_within_the_path(connections: int, window_start: int, first: int) -> None:
    schedule = made(connections, window_start, workers=3)
    queue = awake(schedule, 1, "a.test", "site")
    for part in parts(900):
        schedule.arrived(queue, part, 1)
    # One, until somebody greeted it; then as many as the window allows.
    [one] = schedule.grants(T0)
    greet(schedule, [one], T0)
    grants = [one, *schedule.grants(T0)]
    assert len({grant.session for grant in grants}) == first
    assert all(grant.opens for grant in grants)
    # The work is spread over the workers.
    assert len({grant.worker for grant in grants}) == min(3, first)
    seen = {grant.session for grant in grants}
    for n in range(1, 10):
        settle(schedule, grants, T0 + n)
        grants = schedule.grants(T0 + n)
        assert len({g.session for g in grants if g.opens}) <= window_start
        seen |= {grant.session for grant in grants}
    assert len(seen) <= connections


def test_grants_site_whose_way_was_asked_again_keeps_its_limit() -> None:
    schedule = made(connections=1)
    first = awake(schedule, 1, "a.test", "site", until=T0)
    schedule.arrived(first, parts(1)[0], 1)
    grants = schedule.grants(T0 + 1)
    settle(schedule, grants, T0 + 1)
    schedule.closed(grants[0].session, None, T0)
    # The answer comes while the path has no session and no other queue.
    schedule.routing.resolved(Question("a.test", ""), ("site", HOSTS, ()), T0 + 10_000_000, None, T0)
    second = awake(schedule, 2, "b.test", "site")
    schedule.arrived(first, parts(1, 10)[0], 1)
    schedule.arrived(second, parts(1, 20)[0], 1)
    opened: set[int] = set()
    leased: list[bytes] = []
    for n in range(2, 6):
        grants = schedule.grants(T0 + n)
        opened |= {grant.session for grant in grants}
        leased += [part for grant in grants for part in grant.parts]
        settle(schedule, grants, T0 + n)
    assert len(opened) == 1
    assert leased == parts(1, 10) + parts(1, 20)


def test_grants_local_site_has_one_session_a_worker() -> None:
    schedule = made(connections=1, window_start=1, workers=3)
    queue = awake(schedule, 1, "a.test", "local")
    for part in parts(50):
        schedule.arrived(queue, part, 1)
    grants = schedule.grants(T0)
    assert sorted(grant.worker for grant in grants) == [1, 2, 3]


def test_closed_session_gives_its_parts_back_first_in_line() -> None:
    schedule = made(connections=1)
    queue = awake(schedule, 1, "a.test", "site")
    for part in parts(2):
        schedule.arrived(queue, part, 1)
    [grant] = schedule.grants(T0)
    assert grant.parts == (parts(2)[0],)
    schedule.closed(grant.session, None, T0)
    [again] = schedule.grants(T0)
    assert again.parts == grant.parts
    assert again.session != grant.session


# Reading rows


def test_read_more_rows_with_one_due_time_than_a_read_holds_gets_all() -> None:
    schedule = made(connections=1)
    queue = schedule.awake(1, name("a.test"))
    schedule.routing.resolved(Question("a.test", ""), ("site", HOSTS, ()), T0 + 10_000_000, None, T0)
    table = rows(1, parts(3 * READ_PARTS + 7))
    leased: set[bytes] = set()
    for n in range(1, 3000):
        for hungry in schedule.hungry():
            schedule.read(hungry, [row for row in table if row[0] > hungry.read_from][:READ_PARTS], READ_PARTS, T0 + n)
        grants = schedule.grants(T0 + n)
        if not grants:
            break
        settle(schedule, grants, T0 + n)
        leased.update(part for grant in grants for part in grant.parts)
    assert leased == {part for _, _, part, _, _ in table}
    assert not queue.unread


def test_due_again_comes_just_after_the_due_time() -> None:
    schedule = made()
    queue = schedule.awake(1, name("a.test"))
    schedule.hungry()
    schedule.read(queue, rows(1, parts(1), T0 + 100), READ_PARTS, T0)
    assert schedule.next_due() == T0 + 101
    schedule.due_again(T0 + 100)
    assert schedule.hungry() == []
    schedule.due_again(T0 + 101)
    assert schedule.hungry() == [queue]


def test_settled_deferred_part_is_wanted_again_when_due() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    [part] = parts(1)
    schedule.arrived(queue, part, 1)
    schedule.grants(T0)
    settling(schedule, part, T0)
    schedule.settled(part, T0 + 300, T0)
    schedule.due_again(T0 + 301)
    assert schedule.hungry() == [queue]
    schedule.read(queue, rows(1, [part], T0 + 300), READ_PARTS, T0 + 301)
    assert [grant.parts for grant in schedule.grants(T0 + 301)] == [(part,)]


def test_sleepers_come_after_the_nap_and_are_forgotten() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    assert schedule.sleepers(T0 + NAP_MS - 1) == []
    assert schedule.sleepers(T0 + NAP_MS) == [queue]
    assert schedule.find(1) is None
    assert schedule.sleepers(T0 + 2 * NAP_MS) == []


def test_sleepers_queue_with_a_leased_part_stays_awake() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    schedule.arrived(queue, parts(1)[0], 1)
    schedule.grants(T0)
    assert schedule.sleepers(T0 + 100 * NAP_MS) == []


def test_sleepers_queue_with_a_lease_that_was_kept_stays_awake() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site")
    schedule.session_kept(1, (5, "site", True), None, T0)
    schedule.lease_kept(5, queue, parts(1)[0], Known(queue, 1), T0)
    assert schedule.sleepers(T0 + 100 * NAP_MS) == []


# The way to a domain


def test_questions_are_asked_once_and_again_when_nobody_answers() -> None:
    schedule = made()
    schedule.awake(1, name("a.test"))
    schedule.awake(2, name("a.test", "other"))
    schedule.awake(3, name("b.test"))
    assert sorted(q.domain for q in schedule.resolving.questions(T0)) == ["a.test", "b.test"]
    assert schedule.resolving.questions(T0 + RESOLVE_AGAIN_MS) == []
    schedule.routing.resolved(Question("a.test", ""), ("site", HOSTS, ()), T0 + 10_000_000, None, T0)
    assert schedule.resolving.questions(T0 + RESOLVE_AGAIN_MS + 1) == [Question("b.test", "")]


def test_grants_old_way_serves_while_it_is_asked_again() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "site", until=T0 + 10)
    schedule.arrived(queue, parts(1)[0], 1)
    grants = schedule.grants(T0 + 50)
    assert [grant.site for grant in grants] == ["site"]
    settle(schedule, grants, T0 + 50)
    assert schedule.resolving.questions(T0 + 50) == [Question("a.test", "")]
    schedule.routing.resolved(Question("a.test", ""), ("other", HOSTS, ()), T0 + 10_000_000, None, T0)
    schedule.arrived(queue, parts(1, 5)[0], 1)
    assert [grant.site for grant in schedule.grants(T0 + 51)] == ["other"]


def test_reconfigure_asks_anew_where_mail_goes_and_the_old_way_serves_meanwhile() -> None:
    schedule = made()
    queue = awake(schedule, 1, "a.test", "old")
    schedule.awake(2, name("b.test"))
    assert schedule.resolving.questions(T0) == [Question("b.test", "")]
    schedule.reconfigure(Path(), 2000)
    # The one that was open as well: who was asked may answer by what is no more.
    assert set(schedule.resolving.questions(T0)) == {Question("a.test", ""), Question("b.test", "")}
    [part] = parts(1)
    schedule.arrived(queue, part, 1)
    assert [grant.site for grant in schedule.grants(T0)] == ["old"]
    schedule.routing.resolved(Question("a.test", ""), ("new", HOSTS, ()), T0 + 10_000, None, T0)
    schedule.arrived(queue, parts(1, 5)[0], 1)
    assert [grant.site for grant in schedule.grants(T0)] == ["new"]


def test_reconfigure_limits_hold_for_the_next_session() -> None:
    schedule = made(connections=20, window_start=5)
    queue = awake(schedule, 1, "a.test", "site")
    for part in parts(30):
        schedule.arrived(queue, part, 1)
    greet(schedule, schedule.grants(T0), T0)
    assert len([grant for grant in schedule.grants(T0) if grant.opens]) == 4
    for numbers, settings, sessions in (
        ((1, 2, 3), Path(connections=20, window_start=5, window_max=3), 2000),
        ((4, 5), Path(connections=2), 2000),
        ((6,), Path(), 2),
    ):
        schedule.reconfigure(settings, sessions)
        for number in numbers:
            schedule.closed(number, None, T0)
        assert len([grant for grant in schedule.grants(T0) if grant.opens]) == 1

"""What workers died with is leased alone, one at a time, and costs the others a pause and nothing else."""

from mta.config import Path as Settings
from mta.message import Outcome
from mta.queue.schedule import Grant, Question, Schedule
from mta.queue.waiting import READ_PARTS
from mta.store import NEVER_MS, due_key

from .samples import T0, name, settling

HOSTS = (("127.0.0.1", 25),)
FAILURE = Outcome("deferred", 451, "4.4.1", "cannot connect", "mx", "")


def part(number: int) -> bytes:
    return number.to_bytes(18, "big")


def made(n_workers: int, *, suspects: int, others: int, connections: int = 20) -> Schedule:
    """Return a schedule with suspects (numbered from 1) and other parts (from 100) on one path that is alive."""
    schedule = Schedule(Settings(connections=connections, idle_s=1), 2000)
    for worker in range(1, n_workers + 1):
        schedule.worker_joined(worker, 2000)
    queue = schedule.awake(1, name("a.test"))
    schedule.hungry()
    wanted = [(part(n), True) for n in range(1, suspects + 1)] + [(part(100 + n), False) for n in range(others)]
    schedule.read(
        queue, [(due_key(1, T0 - 1, p), T0 - 1, p, 1, suspect) for p, suspect in sorted(wanted)], READ_PARTS, T0
    )
    schedule.resolving.questions(T0)
    schedule.routing.resolved(Question("a.test", ""), ("site", HOSTS, ()), T0 + 10**9, None, T0)
    return schedule


def leased(grants: list[Grant]) -> list[bytes]:
    return [each for grant in grants for each in grant.parts]


def settle(schedule: Schedule, parts: list[bytes], due: int = 0) -> None:
    for each in parts:
        settling(schedule, each, T0)
        schedule.settled(each, due, T0)


def test_suspect_is_leased_alone_and_others_after_it() -> None:
    schedule = made(1, suspects=1, others=5)
    [grant] = schedule.grants(T0)
    assert grant.parts == (part(1),)
    # Nothing goes to that worker meanwhile.
    assert schedule.grants(T0) == []
    settle(schedule, [part(1)])
    schedule.greeted(grant.session, T0)
    others: list[bytes] = []
    for _ in range(10):
        got = leased(schedule.grants(T0))
        settle(schedule, got)
        others += got
    assert sorted(others) == [part(100 + n) for n in range(5)]


def test_suspect_waits_until_its_worker_has_nothing_while_others_work_on() -> None:
    schedule = made(2, suspects=0, others=0)
    queue = schedule.find(1)
    assert queue is not None
    for n in range(4):
        schedule.arrived(queue, part(100 + n), 1)
    first = schedule.grants(T0)
    schedule.greeted(first[0].session, T0)
    first += schedule.grants(T0)
    assert {grant.worker for grant in first} == {1, 2}
    # Both workers hold something: one gets nothing new from now on, until it is done.
    schedule.arrived(queue, part(1), 1)
    schedule.suspect(part(1))
    settled: list[bytes] = []
    workers: dict[bytes, int] = {each: grant.worker for grant in first for each in grant.parts}
    for n in range(30):
        if n < 20:
            schedule.arrived(queue, part(200 + n), 1)
        grants = schedule.grants(T0)
        for grant in grants:
            for each in grant.parts:
                if each == part(1):
                    assert grant.worker not in {workers[p] for p in workers if p not in settled}
                elif part(1) in workers and part(1) not in settled:
                    assert grant.worker != workers[part(1)]
                workers[each] = grant.worker
        out = [each for each in workers if each not in settled]
        settle(schedule, out[:1])
        settled += out[:1]
    assert part(1) in settled
    assert len(settled) == 25


def test_suspects_are_leased_one_at_a_time() -> None:
    schedule = made(3, suspects=3, others=0)
    seen: list[bytes] = []
    for _ in range(3):
        [each] = leased(schedule.grants(T0))
        assert schedule.grants(T0) == []
        seen.append(each)
        settle(schedule, [each])
    assert sorted(seen) == [part(1), part(2), part(3)]


def test_suspect_whose_worker_dies_is_set_aside_by_the_caller_and_does_not_block_the_next() -> None:
    schedule = made(2, suspects=2, others=0)
    [grant] = schedule.grants(T0)
    assert schedule.worker_gone(grant.worker, T0) == list(grant.parts)
    schedule.moved(grant.parts[0], None, NEVER_MS, T0)
    [other] = schedule.grants(T0)
    assert other.worker != grant.worker
    assert other.parts != grant.parts


def test_suspect_on_a_paused_path_reserves_nobody() -> None:
    schedule = made(1, suspects=1, others=0)
    [grant] = schedule.grants(T0)
    assert schedule.closed(grant.session, FAILURE, T0) is not None
    assert schedule.grants(T0) == []
    other = schedule.awake(2, name("b.test"))
    schedule.hungry()
    schedule.read(other, [(due_key(2, T0 - 1, part(300)), T0 - 1, part(300), 1, False)], READ_PARTS, T0)
    schedule.resolving.questions(T0)
    schedule.routing.resolved(Question("b.test", ""), ("elsewhere", HOSTS, ()), T0 + 10**9, None, T0)
    assert leased(schedule.grants(T0)) == [part(300)]
    schedule.due_again(T0 + 60_000)
    settle(schedule, [part(300)])
    assert leased(schedule.grants(T0 + 60_000)) == [part(1)]


def test_suspect_that_is_removed_while_it_waits_frees_the_worker() -> None:
    schedule = made(1, suspects=0, others=2)
    busy = leased(schedule.grants(T0))
    queue = schedule.find(1)
    assert queue is not None
    schedule.arrived(queue, part(1), 1)
    schedule.suspect(part(1))
    assert schedule.grants(T0) == []
    schedule.moved(part(1), None, 0, T0)
    settle(schedule, busy)
    assert leased(schedule.grants(T0)) == [part(101)]


def two_sites(connections: int, sessions: int) -> Schedule:
    schedule = Schedule(Settings(connections=connections), sessions)
    for worker in (1, 2):
        schedule.worker_joined(worker, 2000)
    for number, domain in ((1, "a.test"), (2, "b.test")):
        queue = schedule.awake(number, name(domain))
        schedule.hungry()
        schedule.read(queue, [], READ_PARTS, T0)
        schedule.resolving.questions(T0)
        schedule.routing.resolved(Question(domain, ""), (domain, HOSTS, ()), T0 + 10**9, None, T0)
        assert queue.path is not None
    return schedule


def arrive(schedule: Schedule, number: int, each: bytes, *, is_suspect: bool = False) -> None:
    queue = schedule.find(number)
    assert queue is not None
    schedule.arrived(queue, each, 1)
    if is_suspect:
        schedule.suspect(each)


def test_suspect_gets_no_session_beyond_the_node_limit() -> None:
    schedule = two_sites(connections=20, sessions=1)
    arrive(schedule, 1, part(1))
    [first] = schedule.grants(T0)
    arrive(schedule, 2, part(2), is_suspect=True)
    assert schedule.grants(T0) == []
    settling(schedule, part(1), T0)
    schedule.settled(part(1), 0, T0)
    schedule.closed(first.session, None, T0)
    assert leased(schedule.grants(T0)) == [part(2)]


def test_suspect_gets_no_session_beyond_its_paths_connections() -> None:
    schedule = two_sites(connections=1, sessions=100)
    arrive(schedule, 1, part(1))
    [first] = schedule.grants(T0)
    # The other worker has work elsewhere, and this one's session is idle.
    settling(schedule, part(1), T0)
    schedule.settled(part(1), 0, T0)
    arrive(schedule, 2, part(2))
    [elsewhere] = schedule.grants(T0)
    assert elsewhere.worker != first.worker
    settling(schedule, part(2), T0)
    schedule.settled(part(2), 0, T0)
    schedule.worker_leaves(first.worker)
    arrive(schedule, 1, part(3), is_suspect=True)
    # Its session still counts: it is open until its worker says that it is not.
    assert schedule.grants(T0) == []
    schedule.closed(first.session, None, T0)
    assert leased(schedule.grants(T0)) == [part(3)]

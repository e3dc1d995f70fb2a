"""The jobs of one session over several hosts, without any: each is told once, and none is tried for ever."""

import random
from collections.abc import Sequence

import pytest

from mta.config import Path
from mta.deliver import Job
from mta.deliver.workload import NO_ROUTE, ROOM_BEFORE_DETOUR, Workload
from mta.message import Outcome
from mta.smtp import Over, TryNext
from tests.deliver.test_remote import job

OK = Outcome("delivered", 250, "2.0.0", "accepted", "mx", "")
AWAY = Outcome("deferred", 451, "4.4.1", "cannot connect", "mx", "")
BUSY = Outcome("deferred", 421, "4.3.2", "the peer ended the session", "mx", "")
ENDED = Outcome("deferred", 451, "4.4.2", "the session was ended", "mx", "")
LACK = Outcome("bounced", 554, "5.6.3", "mx does not take 8-bit mail", "mx", "")
LOST = Outcome("deferred", 451, "4.4.2", "lost connection", "mx", "")


class Told:
    """A report that remembers."""

    def __init__(self) -> None:
        self.fates: dict[bytes, list[str]] = {}
        self.left: list[bytes] | None = None
        self.failure: Outcome | None = None
        self.n_greeted = 0

    def done(self, job: Job, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        assert job.part not in self.fates
        assert sorted(number for number, _ in outcomes) == [number for number, _ in job.recipients]
        self.fates[job.part] = [outcome.status for _, outcome in outcomes]

    def greeted(self, session: int) -> None:
        self.n_greeted += 1

    def closed(self, session: int, left: Sequence[Job], failure: Outcome | None) -> None:
        assert self.left is None
        self.left, self.failure = [job.part for job in left], failure


def made(*jobs: Job, room: int = 1000) -> tuple[Workload, Told]:
    told = Told()
    load = Workload(7, told, Path(messages_per_connection=room, recipients=2))
    load.add(jobs)
    return load, told


def all_(letter: Job, outcome: Outcome) -> list[tuple[int, Outcome]]:
    return [(number, outcome) for number, _ in letter.recipients]


def misfit(letter: Job) -> TryNext[Job]:
    return TryNext(letter, all_(letter, LACK), is_misfit=True)


def test_workload_without_any_host_defers_every_job() -> None:
    load, told = made(job(0), job(1))
    load.finish(was_ended=False)
    assert (told.fates, told.left, told.failure) == (
        {job(0).part: ["deferred"], job(1).part: ["deferred"]},
        [],
        None,
    )
    assert NO_ROUTE.enhanced == "4.4.4"


def test_workload_with_a_misfit_takes_some_more_letters_and_ends_the_connection() -> None:
    load, _ = made(job(0))
    (letter,) = load.letters()
    load.greeted()
    assert not load.is_spent
    load.try_next(misfit(letter), has_more=True)
    assert load.is_spent
    load.add(job(n) for n in range(1, 200))
    assert len(load.letters()) == ROOM_BEFORE_DETOUR


def test_workload_share_that_needs_another_host_is_told_with_the_others_of_its_job() -> None:
    whole = job(0, n_recipients=4)
    load, told = made(whole)
    load.greeted()
    first, second = load.letters()
    load.try_next(misfit(second), has_more=True)
    assert load.done(first, all_(first, OK)) is None
    assert load.over(Over(ENDED, [], is_hosts_fault=False))
    assert load.greeted() == [second]
    load.done(second, all_(second, OK))
    assert told.fates == {whole.part: ["delivered"] * 4}
    assert not load.over(Over(ENDED, [], is_hosts_fault=False))
    load.finish(was_ended=False)
    assert (told.left, told.failure, told.n_greeted) == ([], None, 1)


@pytest.mark.parametrize("was_ended", [False, True])
def test_workload_shares_that_come_back_are_one_job(was_ended: bool) -> None:
    whole = job(0, n_recipients=5)
    load, told = made(whole)
    load.greeted()
    letters = list(load.letters())
    load.put_back(letters[1:])
    load.over(Over(ENDED, letters[:1], is_hosts_fault=False))
    load.finish(was_ended=was_ended)
    assert (told.fates, told.left) == ({}, [whole.part])


def test_workload_failure_is_told_only_while_no_host_had_a_say() -> None:
    for has_say in (False, True):
        load, told = made(job(0), job(1))
        load.greeted()
        letters = list(load.letters())
        if has_say:
            load.done(letters.pop(0), all_(job(0), OK))
        load.over(Over(BUSY, letters, is_hosts_fault=not has_say))
        load.failed(AWAY)
        load.finish(was_ended=False)
        assert told.failure == (None if has_say else AWAY)


@pytest.mark.parametrize("seed", range(10))
def test_workload_whatever_hosts_do_each_job_is_told_once(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        play_at_random(chance)


def play_at_random(chance: random.Random) -> None:
    jobs = [job(n, n_recipients=chance.randint(1, 5)) for n in range(chance.randint(0, 6))]
    load, told = made(*jobs, room=chance.choice([1, 3, 1000]))
    n_hosts = chance.randint(0, 4)
    was_ended = chance.random() < 0.2
    has_said = goes_on = False
    for host in range(n_hosts):
        has_more = host + 1 < n_hosts
        if chance.random() < 0.3:
            load.failed(AWAY)
            continue
        out = [*load.greeted(), *load.letters()]
        n_done = 0
        while out and chance.random() < 0.8:
            letter = out.pop(0)
            fate = chance.choice([OK, OK, LACK])
            has_said = True
            if fate is LACK:
                load.try_next(misfit(letter), has_more=has_more)
            else:
                n_done += 1
                rest = load.done(letter, all_(letter, fate))
                assert rest is None
        is_fresh = n_done == 0 and chance.random() < 0.5
        if out and is_fresh and chance.random() < 0.5:
            has_said = True
            broken = out.pop(0)
            load.try_next(TryNext(broken, all_(broken, LOST), is_misfit=False), has_more=has_more)
            is_fresh = False
        goes_on = load.over(Over(BUSY if is_fresh else ENDED, out, is_hosts_fault=is_fresh))
        if not goes_on or was_ended:
            break
    load.finish(was_ended=was_ended)
    assert told.left is not None
    assert sorted([*told.fates, *told.left]) == [job.part for job in jobs]
    if has_said:
        assert told.failure is None

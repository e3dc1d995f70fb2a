"""The schedule against a model of the `due` and `wake` tables, through any order of events, with time moving on.

Whatever happens, no part is leased twice at once, none before it is due, a site never has more sessions than it may,
and in the end every part that was put is delivered: none is lost between the tables and RAM.
"""

from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mta.queue import schedule as schedule_module
from mta.queue.awake import Queue
from mta.queue.schedule import Question, Schedule
from mta.store import due_key, due_of

from .samples import T0, name

SITES = {"a.test": "one", "b.test": "one", "c.test": "two"}
DOMAINS = tuple(SITES)
CONNECTIONS = 2
# Small, so that a few parts reach the limits of what is read and held.
READ, READY = 3, 4
TTLS_MS = (3_000, 10_000_000)


class Machine(RuleBasedStateMachine):
    """Plays the queue process, the tables and the workers around a Schedule."""

    def __init__(self) -> None:
        super().__init__()
        self.small = patch.multiple(schedule_module, READ_PARTS=READ, READY_PARTS=READY)
        self.small.start()
        self.schedule = Schedule(CONNECTIONS, 1)
        self.now = T0
        self.n_parts = 0
        self.due: dict[bytes, bytes] = {}
        self.wake: dict[int, int] = {}
        self.leases: dict[bytes, int] = {}
        self.sessions: dict[int, tuple[int, str]] = {}
        self.settling: dict[bytes, int] = {}
        self.asked: list[Question] = []
        self.workers: set[int] = set()

    def teardown(self) -> None:
        """Drain: whatever was put has to come out."""
        self.join(1)
        for _ in range(400):
            if not self.due:
                break
            self.step(50)
            self.tick()
            self.answer(TTLS_MS[1])
            for part in list(self.leases):
                self.settle(part, 0)
            self.commit()
        self.small.stop()
        assert not self.due, f"{len(self.due)} parts were never leased again"

    # What the tables hold

    def rows(self, queue: int) -> list[bytes]:
        return sorted(key for key in self.due.values() if key[:8] == queue.to_bytes(8, "big"))

    def queue(self, number: int) -> Queue:
        return self.schedule.awake(number, name(DOMAINS[number - 1]))

    def read(self, queue: Queue) -> None:
        rows = []
        for key in [key for key in self.rows(queue.number) if key > queue.read_from][:READ]:
            due, part = due_of(key)
            rows.append((key, due, part))
            if due >= self.now:
                break
        self.schedule.read(queue, rows, self.now)

    # What happens

    @rule(ms=st.sampled_from([0, 1, 20, 600, 6_000]))
    def step(self, ms: int) -> None:
        self.now += ms

    @rule(queue=st.integers(1, 3), n=st.integers(1, 6))
    def arrive(self, queue: int, n: int) -> None:
        for _ in range(n):
            self.n_parts += 1
            part = self.n_parts.to_bytes(18, "big")
            self.due[part] = due_key(queue, self.now, part)
            self.wake[queue] = min(self.wake.get(queue, self.now), self.now)
            self.schedule.arrived(self.queue(queue), part)

    @rule()
    def tick(self) -> None:
        for queue, wake in self.wake.items():
            if wake < self.now and self.schedule.find(queue) is None:
                self.queue(queue)
        self.schedule.due_again(self.now)
        for hungry in self.schedule.hungry():
            self.read(hungry)
        for asleep in self.schedule.sleepers(self.now):
            left = [key for key in self.rows(asleep.number) if key > asleep.read_from]
            assert len(left) == len(self.rows(asleep.number)), "a queue sleeps with parts it has read"
            self.wake.pop(asleep.number, None)
            if left:
                self.wake[asleep.number] = due_of(left[0])[0]
        self.asked += self.schedule.questions(self.now)
        for grant in self.schedule.grants(self.now):
            assert grant.worker in self.workers
            assert grant.opens == (grant.session not in self.sessions)
            assert self.sessions.setdefault(grant.session, (grant.worker, grant.site)) == (grant.worker, grant.site)
            for part in grant.parts:
                assert part not in self.leases, "leased twice"
                assert part not in self.settling, "leased while its settlement waits"
                due, _ = due_of(self.due[part])
                assert due <= self.now, "leased too early"
                assert SITES[DOMAINS[int.from_bytes(self.due[part][:8], "big") - 1]] == grant.site
                self.leases[part] = grant.session

    @rule(ttl_ms=st.sampled_from(TTLS_MS))
    def answer(self, ttl_ms: int) -> None:
        for question in self.asked:
            site = SITES[question.domain]
            self.schedule.resolved(question.domain, question.route, site, ((site, 25),), self.now + ttl_ms)
        self.asked.clear()

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), wait_ms=st.sampled_from([0, 0, 10, 400, 7_000]))
    def settle_one(self, data: st.DataObject, wait_ms: int) -> None:
        self.settle(data.draw(st.sampled_from(sorted(self.leases))), self.now + wait_ms if wait_ms else 0)

    def settle(self, part: bytes, due: int) -> None:
        del self.leases[part]
        self.settling[part] = due
        self.schedule.settling(part, self.now)

    @rule()
    def commit(self) -> None:
        for part, due in self.settling.items():
            if due:
                self.due[part] = due_key(int.from_bytes(self.due[part][:8], "big"), max(due, self.now), part)
            else:
                del self.due[part]
            self.schedule.settled(part, max(due, self.now) if due else 0, self.now)
        self.settling.clear()

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.sessions)))
        del self.sessions[number]
        self.leases = {part: session for part, session in self.leases.items() if session != number}
        self.schedule.closed(number)

    @rule(worker=st.integers(1, 2))
    def join(self, worker: int) -> None:
        self.workers.add(worker)
        self.schedule.worker_joined(worker)

    @rule(worker=st.integers(1, 2))
    def die(self, worker: int) -> None:
        self.workers.discard(worker)
        self.schedule.worker_gone(worker)
        self.forget({number for number, (of, _) in self.sessions.items() if of == worker})

    def forget(self, gone: set[int]) -> None:
        self.leases = {part: session for part, session in self.leases.items() if session not in gone}
        self.sessions = {number: session for number, session in self.sessions.items() if number not in gone}

    @rule(worker=st.integers(1, 2), data=st.data())
    def check_in_again(self, worker: int, data: st.DataObject) -> None:
        """A worker lost its link, and says what it still holds."""
        mine = sorted(number for number, (of, _) in self.sessions.items() if of == worker)
        kept = data.draw(st.sets(st.sampled_from(mine))) if mine else set()
        self.schedule.worker_gone(worker)
        self.workers.discard(worker)
        self.forget(set(mine) - kept)
        for number in kept:
            self.schedule.session_kept(worker, number, self.sessions[number][1])
        for part, number in self.leases.items():
            if number in kept:
                queue = self.queue(int.from_bytes(self.due[part][:8], "big"))
                self.schedule.lease_kept(number, queue, part, self.now)
        self.join(worker)

    # What always holds

    @invariant()
    def leases_are_what_the_workers_have(self) -> None:
        assert sorted(self.schedule.leased()) == sorted(self.leases)

    @invariant()
    def sites_have_no_more_sessions_than_they_may(self) -> None:
        sites = [site for _, site in self.sessions.values()]
        assert all(sites.count(site) <= CONNECTIONS for site in set(sites))


TestSchedule = Machine.TestCase
TestSchedule.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)

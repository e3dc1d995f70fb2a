"""The schedule against a model of the tables, through any order of events, with time moving on.

Whatever happens, no part is leased twice at once, none before it is due, none over a paused path, none whose time is
up; a site never has more sessions than it may, nor the node, nor a worker more parts than it has credit for; and in the
end every part that was put is delivered, reported on, or removed: none is lost between the tables and RAM.
"""

from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mta.config import Path
from mta.message import Outcome
from mta.queue import granting as granting_module
from mta.queue import reports as reports_module
from mta.queue import waiting as waiting_module
from mta.queue.awake import Known
from mta.queue.resolving import Question
from mta.queue.schedule import Schedule
from mta.store import EXPIRE

from .model import CONNECTIONS, DOMAINS, NODE, PAUSE_MS, SITES, Part, Tables, World
from .samples import T0, settling

# Small, so that a few parts reach the limits of what is read and held.
READ, READY, FEW, KNOWN = 3, 4, 2, 8
CREDIT = 4
TTLS_MS = (3_000, 10_000_000)
FAILURE = Outcome("deferred", 451, "4.4.1", "cannot connect", "mx", "")


class Machine(RuleBasedStateMachine):
    """Plays the queue process, the tables and the workers around a Schedule."""

    def __init__(self) -> None:
        super().__init__()
        self.small = [
            patch.multiple(
                waiting_module, READ_PARTS=READ, READY_PARTS=READY, FEW_PARTS=FEW, MOST_KNOWN=KNOWN, MOST_RESTING=1
            ),
            patch.multiple(granting_module, MOST_AWAKE=1, LONG_LINE=1),
            patch.object(reports_module, "MOST_OUT", 2),
        ]
        for patched in self.small:
            patched.start()
        path = Path(connections=CONNECTIONS, window_start=2, window_max=CONNECTIONS, pause_s=PAUSE_MS / 1000)
        self.schedule = Schedule(path, NODE)
        self.tables = Tables()
        self.world = World()
        self.now = T0
        self.settling: dict[bytes, int] = {}
        self.asked: list[Question] = []
        # Queues that an operator wants tried at once, when it was not known yet where they lead.
        self.urgent: set[int] = set()

    def teardown(self) -> None:
        """Drain: whatever was put has to come out."""
        try:
            self.drain()
        finally:
            for patched in self.small:
                patched.stop()

    def drain(self) -> None:
        self.join(1)
        # An order that waits for a settlement is carried out with it: only then it can be taken back.
        self.commit()
        self.operate("release", list(self.tables.parts))
        for round_ in range(600):
            if not self.tables.parts:
                break
            self.step(50 if round_ % 3 else 1_000)
            self.tick()
            self.answer(TTLS_MS[1])
            self.greet_all()
            for part in list(self.world.leases):
                self.settle(part, 0)
            for part in list(self.world.reports):
                self.settle(part, 0)
            self.commit()
        assert not self.tables.parts, f"{len(self.tables.parts)} parts were never leased again"

    # What happens

    @rule(ms=st.sampled_from([0, 1, 20, 600, 6_000]))
    def step(self, ms: int) -> None:
        self.now += ms

    @rule(queue=st.integers(1, 3), n=st.integers(1, 6), life_ms=st.sampled_from([900, 9_000, 10_000_000]))
    def arrive(self, queue: int, n: int, life_ms: int) -> None:
        for _ in range(n):
            part = self.tables.put(queue, self.now, self.now + life_ms)
            self.schedule.arrived(self.tables.awake(self.schedule, queue), part, 1)

    @rule()
    def tick(self) -> None:
        schedule, tables, world = self.schedule, self.tables, self.world
        for queue in tables.due_wakes(self.now):
            tables.awake(schedule, queue)
        for part in tables.ringing(self.now):
            if part not in schedule.reports:
                schedule.up(part, EXPIRE, None, self.now)
        schedule.due_again(self.now)
        for hungry in schedule.hungry():
            most = schedule.piece()
            schedule.read(hungry, tables.rows(hungry, most, self.now), most, self.now)
        for asleep in schedule.sleepers(self.now):
            tables.sleep(asleep, schedule)
            self.urgent.discard(asleep.number)
        self.asked += schedule.resolving.questions(self.now)
        for task in schedule.reports.tasks(sorted(world.workers)):
            assert task.worker in world.workers
            for part in task.parts:
                stood = tables.parts[part]
                assert part not in world.leases, "reported on while it is delivered"
                assert part not in world.reports, "reported on twice"
                assert stood.expires <= self.now, "reported on too early"
                world.reports[part] = task.worker
        for grant in schedule.grants(self.now):
            assert world.paused.get(grant.site, 0) <= self.now, "leased over a path that is paused"
            world.granted(grant)
            for part in grant.parts:
                stood = tables.parts[part]
                assert part not in self.settling, "leased while its settlement waits"
                assert part not in world.reports, "leased while it is reported on"
                assert stood.due <= self.now, "leased too early"
                assert SITES[DOMAINS[stood.queue - 1]] == grant.site
                world.lease(part, grant.session, is_suspect=stood.deaths >= 2)
        self.look_at_limits()

    def look_at_limits(self) -> None:
        for worker in self.world.workers:
            assert self.world.n_parts(worker) <= CREDIT, "more parts than there is credit for"
        assert len(self.world.sessions) <= NODE

    @rule(ttl_ms=st.sampled_from(TTLS_MS))
    def answer(self, ttl_ms: int) -> None:
        for question in self.asked:
            site = SITES[question.domain]
            row = None if self.schedule.has_path(site) else self.tables.paths.get(site)
            mine = {queue for queue in self.urgent if DOMAINS[queue - 1] == question.domain}
            if mine:
                self.urgent -= mine
                self.world.paused.pop(site, None)
            self.schedule.routing.resolved(question, (site, ((site, 25),), ()), self.now + ttl_ms, row, self.now)
        self.asked.clear()

    @rule()
    def greet_all(self) -> None:
        for number, session in self.world.sessions.items():
            if not session.is_greeted:
                session.is_greeted = True
                self.world.paused.pop(session.site, None)
                self.schedule.greeted(number, self.now)

    @precondition(lambda self: self.world.leases)
    @rule(data=st.data(), wait_ms=st.sampled_from([0, 0, 10, 400, 7_000]))
    def settle_one(self, data: st.DataObject, wait_ms: int) -> None:
        self.settle(data.draw(st.sampled_from(sorted(self.world.leases))), self.now + wait_ms if wait_ms else 0)

    @precondition(lambda self: self.world.reports)
    @rule(data=st.data())
    def report_one(self, data: st.DataObject) -> None:
        self.settle(data.draw(st.sampled_from(sorted(self.world.reports))), 0)

    def settle(self, part: bytes, due: int) -> None:
        if part in self.world.leases:
            self.world.came_back(part)
        self.settling[part] = due
        settling(self.schedule, part, self.now)

    @rule()
    def commit(self) -> None:
        for part, told in self.settling.items():
            due = self.tables.settle(part, max(told, self.now) if told else 0, self.now)
            self.world.reports.pop(part, None)
            self.schedule.settled(part, due, self.now)
        self.settling.clear()

    @precondition(lambda self: self.world.sessions)
    @rule(data=st.data(), is_failure=st.booleans())
    def close(self, data: st.DataObject, is_failure: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.world.sessions)))
        site = self.world.closed(number)
        path = self.schedule.closed(number, FAILURE if is_failure else None, self.now)
        if path is not None:
            assert is_failure
            assert path.paused_until == self.now + PAUSE_MS
            self.world.paused[site] = path.paused_until

    @rule()
    def remember(self) -> None:
        for row in self.schedule.to_remember(self.now):
            self.tables.paths[row.site] = row

    # Operators

    @precondition(lambda self: self.tables.parts)
    @rule(data=st.data(), order=st.sampled_from(["hold", "release", "remove", "retry", "bounce"]))
    def order(self, data: st.DataObject, order: str) -> None:
        self.operate(order, [data.draw(st.sampled_from(sorted(self.tables.parts)))])

    def operate(self, order: str, parts: list[bytes]) -> None:
        for part in parts:
            is_leased = self.schedule.is_leased(part)
            if part in self.settling:
                # The order comes behind the settlement in the same commit: see test_orders.
                continue
            assert is_leased == (part in self.world.leases or part in self.world.reports)
            due = self.tables.order(part, order, is_leased=is_leased, now=self.now)
            if due is None:
                continue
            queue = self.schedule.find(self.tables.queue_of(part))
            if queue is None and due and due < Part.NEVER:
                queue = self.tables.awake(self.schedule, self.tables.queue_of(part))
            if queue is not None and due and due < Part.NEVER:
                if queue.path is not None:
                    self.world.paused.pop(queue.path.site, None)
                else:
                    self.urgent.add(queue.number)
            self.schedule.moved(part, queue, due, self.now)

    # Workers

    @rule(worker=st.integers(1, 2))
    def join(self, worker: int) -> None:
        self.world.workers.add(worker)
        self.schedule.worker_joined(worker, CREDIT)

    @rule(worker=st.integers(1, 2))
    def die(self, worker: int) -> None:
        held = self.schedule.worker_gone(worker, self.now)
        # For delivery, though its time may be up meanwhile, or for a report.
        reported = [part for part, of in self.world.reports.items() if of == worker]
        assert sorted(held) == sorted([*self.world.held_by(worker), *reported])
        self.world.died(worker)
        for part in held:
            deaths = self.tables.parts[part].deaths
            if deaths >= 2:
                self.schedule.moved(part, None, Part.NEVER, self.now)
            elif deaths + 1 >= 2:
                self.schedule.suspect(part)
            self.tables.count_death(part)

    @rule(worker=st.integers(1, 2), data=st.data())
    def check_in_again(self, worker: int, data: st.DataObject) -> None:
        """A worker lost its link, and says what it still holds."""
        mine = sorted(number for number, session in self.world.sessions.items() if session.worker == worker)
        kept = data.draw(st.sets(st.sampled_from(mine))) if mine else set()
        self.schedule.worker_gone(worker, self.now)
        self.world.died(worker, kept)
        for number in sorted(kept):
            session = self.world.sessions[number]
            row = None if self.schedule.has_path(session.site) else self.tables.paths.get(session.site)
            self.schedule.session_kept(worker, (number, session.site, session.is_greeted), row, self.now)
        for part, number in self.world.leases.items():
            if number in kept:
                queue = self.tables.awake(self.schedule, self.tables.queue_of(part))
                self.schedule.lease_kept(number, queue, part, Known(queue, 1), self.now)
        self.join(worker)

    # What always holds

    @invariant()
    def leases_are_what_the_workers_have(self) -> None:
        assert sorted(self.schedule.leased()) == sorted([*self.world.leases, *self.world.reports])

    @invariant()
    def sites_have_no_more_sessions_than_they_may(self) -> None:
        sites = [session.site for session in self.world.sessions.values()]
        assert all(sites.count(site) <= CONNECTIONS for site in set(sites))


TestSchedule = Machine.TestCase
TestSchedule.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)


def leased(*lives_ms: int) -> Machine:
    """Return a machine whose only worker has been leased parts of one queue."""
    machine = Machine()
    machine.join(1)
    for life_ms in lives_ms:
        machine.arrive(1, 1, life_ms)
    machine.step(1)
    machine.tick()
    machine.answer(10_000_000)
    machine.tick()
    return machine


def test_schedule_worker_dies_with_a_report_and_with_a_delivery_whose_time_was_up() -> None:
    machine = leased(900)
    machine.step(6_000)
    machine.arrive(1, 1, 900)
    machine.settle(next(iter(machine.world.leases)), machine.now + 400)
    machine.commit()
    machine.tick()
    machine.step(6_000)
    machine.tick()
    assert machine.world.reports
    (part,) = machine.world.leases
    assert part in machine.schedule.reports
    machine.die(1)
    machine.teardown()


def test_schedule_held_while_it_was_delivered_is_released_in_the_end() -> None:
    machine = leased(10_000_000)
    (part,) = machine.world.leases
    machine.operate("hold", [part])
    machine.settle(part, machine.now + 10)
    machine.teardown()


def test_schedule_operator_wants_a_queue_tried_before_it_is_known_where_it_leads() -> None:
    machine = leased(10_000_000)
    (session,) = machine.world.sessions
    site = machine.world.closed(session)
    path = machine.schedule.closed(session, FAILURE, machine.now)
    assert path is not None
    machine.world.paused[site] = path.paused_until
    # Another queue that leads to the site that rests now: once that is known, the pause is over for its sake.
    machine.arrive(2, 2, 10_000_000)
    first, second = (part for part, stood in machine.tables.parts.items() if stood.queue == 2)
    machine.operate("retry", [first])
    # What is held of it changes nothing about that.
    machine.operate("hold", [second])
    machine.step(1)
    machine.tick()
    assert not machine.world.leases
    machine.answer(10_000_000)
    assert not machine.world.paused
    machine.tick()
    assert machine.world.leases
    machine.teardown()

"""The schedule carried out on real tables: what a worker is told, and that no sleeping queue is forgotten."""

import socket
from collections.abc import Iterator

import pytest

from mta._fast import FrameReader
from mta.config import Path
from mta.link import Connection, Hello, Kind, Lease, Order, Put, Report, Resolve, Resolved, decoder
from mta.message import Outcome, Status
from mta.queue.changes import Circumstances, OrderChange, WithdrawChange
from mta.queue.plans import REMEMBER_MS, Plans
from mta.queue.schedule import Schedule
from mta.queue.waiting import NAP_MS
from mta.queue.workers import Worker, Workers
from mta.store import Writer

from .samples import T0, Teller, Told, part_of, put, settlement, settling

HOSTS = (("127.0.0.1", 25),)


class Desk:
    """A queue process without its loop, and one worker that knows every way."""

    def __init__(self, writer: Writer) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.writer = writer
        self.frames = FrameReader(1 << 20)
        self.now = T0
        self.opened: list[int] = []
        self.reports: list[Report] = []
        self.failure: Outcome | None = None
        self.start()

    def start(self) -> None:
        """Begin with nothing in RAM, as after a kill."""
        self.teller = Teller(self.writer)
        self.batch = self.teller.batch
        self.workers = Workers(set())
        self.schedule = Schedule(Path(), 2000)
        self.plans = Plans(self.schedule, self.writer, self.workers, self.batch)
        self.connection = Connection(self.ours, memoryview(bytearray(65_536)))
        hello = Hello(1, "out", 1, 99, 7, 2000, (), ())
        self.worker: Worker = self.workers.connected(7, hello, self.connection)
        self.worker.ready_ends.update(("in", "out"))
        self.schedule.worker_joined(7, 2000)

    def commit(self) -> None:
        done = self.batch.commit(Circumstances(self.now, self.schedule.is_leased, self.workers.is_repeatable))
        told = Told(done)
        self.plans.arrived(told.arrived)
        for off in told.off:
            self.plans.off(off, self.now)
        for change in done.changes:
            if isinstance(change, OrderChange | WithdrawChange):
                for moved in change.moved:
                    self.plans.moved(moved, self.now)
        self.plans.slept(done.wakes)

    def tick(self) -> list[bytes]:
        """Let the schedule act (ask; lease and be greeted; lease more); return the parts that were leased."""
        leased: list[bytes] = []
        for _ in range(3):
            self.plans.tick(self.now)
            self.connection.flush()
            try:
                wire = self.theirs.recv(1 << 20)
            except BlockingIOError:
                continue
            for kind, payload in self.frames.feed(wire):
                if kind == Kind.RESOLVE:
                    asked = decoder(Resolve).decode(payload)
                    way = Resolved(asked.domain, asked.route, "site", HOSTS, 10_000.0, (), self.failure)
                    self.plans.resolved(way, self.now)
                elif kind == Kind.LEASE:
                    lease = decoder(Lease).decode(payload)
                    leased += lease.parts
                    if lease.opens:
                        self.opened.append(lease.session)
                        self.plans.greeted(lease.session, self.now)
                elif kind == Kind.REPORT:
                    self.reports.append(decoder(Report).decode(payload))
        return leased

    def put(self, message: Put) -> None:
        self.teller.put(message)
        self.commit()

    def settle(self, message: Put, attempt: int, fate: Status, next_at: int = 0) -> None:
        settling(self.schedule, part_of(message), self.now)
        self.teller.settle(settlement(message, attempt, fate), next_at)
        self.commit()

    def until_asleep(self) -> None:
        """Go on, a second at a time and tick by tick, until no queue is awake and that is committed."""
        for _ in range(2 * NAP_MS // 1000):
            self.now += 1000
            assert self.tick() == []
        self.commit()


@pytest.fixture
def desk(writer: Writer) -> Iterator[Desk]:
    """Give a desk."""
    made = Desk(writer)
    yield made
    made.ours.close()
    made.theirs.close()


def test_plans_new_message_is_leased(desk: Desk) -> None:
    message = put(1, ("x@b.test",))
    desk.put(message)
    desk.now += 1
    assert desk.tick() == [part_of(message)]
    assert desk.tick() == []


def test_plans_after_a_restart_lease_what_waits(desk: Desk) -> None:
    messages = [put(n, (f"x@d{n}.test",)) for n in range(450)]
    for message in messages:
        desk.teller.put(message)
    desk.commit()
    desk.start()
    leased: list[bytes] = []
    for _ in range(60):
        desk.now += 5
        got = desk.tick()
        leased += got
        for part in got:
            settling(desk.schedule, part, desk.now)
            desk.teller.settle(settlement(messages[int.from_bytes(part[:16], "big")], 0, "delivered"), 0)
        desk.commit()
    assert sorted(leased) == [part_of(message) for message in messages]


def test_plans_sleeping_queue_wakes_when_its_part_is_due(desk: Desk) -> None:
    message = put(1, ("x@b.test",))
    desk.put(message)
    desk.now += 1
    desk.tick()
    due = desk.now + 60_000
    desk.settle(message, 0, "deferred", due)
    desk.until_asleep()
    assert desk.schedule.find(1) is None
    desk.now = due
    assert desk.tick() == []
    assert desk.plans.wait_ms(desk.now) <= 1
    desk.now = due + 1
    assert desk.tick() == [part_of(message)]


def test_plans_queue_whose_part_is_due_before_its_sleep_is_committed_wakes(desk: Desk) -> None:
    slow, quick = put(1, ("x@b.test",)), put(2, ("x@c.test",))
    desk.put(slow)
    desk.put(quick)
    desk.now += 1
    assert sorted(desk.tick()) == [part_of(slow), part_of(quick)]
    nap_over = desk.now + NAP_MS
    # One queue falls asleep at nap_over, and its part is due a moment later; the other's wake row is due after that.
    desk.settle(slow, 0, "deferred", nap_over + 10)
    desk.settle(quick, 0, "deferred", nap_over + 20)
    desk.now = nap_over
    assert desk.tick() == []
    desk.now += 50
    leased = desk.tick()
    desk.commit()
    for _ in range(4):
        desk.now += 50
        leased += desk.tick()
        desk.commit()
    assert sorted(leased) == [part_of(slow), part_of(quick)]


def test_plans_queue_with_nothing_but_held_mail_sleeps_and_others_go_on(desk: Desk) -> None:
    held = put(1, ("x@b.test",))
    desk.put(held)
    desk.teller.order(Order("hold", (held.head.id,)))
    desk.commit()
    # Due never, which is the largest number that a key holds: nothing may reckon with what comes behind it.
    for _ in range(2):
        desk.until_asleep()
        assert desk.schedule.n_awake == 0
        desk.start()
    new = put(2, ("x@c.test",))
    desk.put(new)
    desk.now += 1
    assert desk.tick() == [part_of(new)]


def test_plans_mail_into_a_sleeping_queue_is_leased_even_after_a_kill(desk: Desk) -> None:
    old, new = put(1, ("x@b.test",)), put(2, ("y@b.test",))
    desk.put(old)
    desk.now += 1
    desk.tick()
    desk.settle(old, 0, "deferred", desk.now + 500_000)
    desk.until_asleep()
    desk.put(new)
    desk.start()
    desk.now += 1
    assert desk.tick() == [part_of(new)]


def test_plans_worker_that_holds_a_part_keeps_it(desk: Desk) -> None:
    message, other = put(1, ("x@b.test",)), put(2, ("y@b.test",))
    desk.put(message)
    desk.put(other)
    desk.now += 1
    assert sorted(desk.tick()) == [part_of(message), part_of(other)]
    # That the path was greeted is written down after a while.
    desk.now += REMEMBER_MS
    desk.tick()
    desk.commit()
    desk.start()
    desk.now += 1
    desk.plans.checked_in(desk.worker, ((4, "site", True),), ((4, part_of(message)), (4, bytes(18))), desk.now)
    desk.schedule.worker_joined(7, 100)
    assert desk.tick() == [part_of(other)]
    assert sorted(desk.schedule.leased()) == [part_of(message), part_of(other)]
    desk.settle(message, 0, "delivered")
    assert desk.schedule.leased() == [part_of(other)]

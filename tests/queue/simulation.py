"""A queue process and its workers over simulated days: real tables, real plans, played workers, a clock that jumps.

Time moves in steps of STEP_MS from one event to the next. A worker does what the queue process orders as its sites
behave, and hands in settlements, greetings and closed sessions. The workers' wall clock is another one, and is set.
"""

import heapq
import random
from collections.abc import Callable
from typing import cast

import msgspec

from mta.config import Path as PathSettings
from mta.config import Retry
from mta.link import Connection, Hello, Kind, Lease, Notice, Put, Report, Resolve, Resolved, Settlement, decoder
from mta.message import Outcome, Status
from mta.queue.batch import Batch
from mta.queue.changes import Circumstances, PutChange, SettleChange
from mta.queue.plans import Plans
from mta.queue.retry import next_attempt
from mta.queue.schedule import Schedule
from mta.queue.workers import Workers
from mta.store import Writer, part_name

from .samples import NOBODY, T0, put, settling

__all__ = ["DAY_MS", "HOUR_MS", "STEP_MS", "Simulation", "Site"]

STEP_MS = 1000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
IDLE_MS = 2000
CONNECT_MS = 30_000
NOTICES = 1 << 40
UNREACHABLE = Outcome("deferred", 451, "4.4.1", "cannot connect", "mx", "")
UNKNOWN = Outcome("deferred", 451, "4.4.3", "the name service does not know", "", "")
NO_DOMAIN = Outcome("bounced", 550, "5.1.2", "there is no such domain", "", "")
BUSY = Outcome("deferred", 421, "4.3.2", "the peer ended the session", "mx", "")


class Site(msgspec.Struct):
    """How the hosts of a site behave at a time after T0: dead, busy (421), refusing (4xx), or up; or what the name
    service says of its domains then: unknown, or gone."""

    name: str
    state: Callable[[int], str] = lambda _: "up"
    part_ms: int = 50


class Session:
    """A connection of a worker."""

    def __init__(self, worker: int, site: Site) -> None:
        self.worker = worker
        self.site = site
        self.parts: list[bytes] = []
        self.free_at = 0


class Ends:
    """A connection to a worker: what is sent is done."""

    def __init__(self, simulation: "Simulation", worker: int) -> None:
        self._simulation = simulation
        self._worker = worker

    def send(self, wire: bytes) -> None:
        self._simulation.ordered(self._worker, Kind(wire[4]), wire[5:])


class Letter:
    """What the simulation knows of one part."""

    __slots__ = ("attempts", "expires", "head", "is_notice", "open", "out", "retry_at", "tried_at")

    def __init__(self, message: Put, now: int, part: int) -> None:
        self.head = message.head
        self.expires = now + message.head.lifetime_ms
        self.is_notice = not message.head.sender
        first = message.head.parts[part].first
        self.open = list(enumerate(message.head.parts[part].recipients, first))
        self.attempts = 0
        self.tried_at = 0
        self.retry_at = now
        self.out = ""


class Simulation:
    """Everything; `step` moves on to the next event."""

    def __init__(self, writer: Writer, sites: dict[str, Site], retry: Retry, settings: PathSettings) -> None:
        self.writer = writer
        self.sites = sites
        self.retry = retry
        self.settings = settings
        self.now = T0
        self.wall_ms = 0
        self.chance = random.Random(5)
        self.letters: dict[bytes, Letter] = {}
        self.n_put = self.n_notices = self.n_failed_questions = 0
        self.fates: dict[bytes, dict[int, str]] = {}
        self.dials: list[tuple[str, int]] = []
        self.late_reports: list[int] = []
        self.late_retries: dict[str, int] = {}
        self.leases: list[tuple[bytes, int]] = []
        self._later: list[tuple[int, int, Callable[[], None]]] = []
        self._n_later = 0
        self._lease = decoder(Lease).decode
        self._report = decoder(Report).decode
        self._resolve = decoder(Resolve).decode
        self._life = 0
        self.start()

    def start(self) -> None:
        """Begin with nothing in RAM and new workers, as after a kill of everything."""
        self._life += 1
        for letter in self.letters.values():
            letter.out = ""
        self.sessions: dict[int, Session] = {}
        self.batch = Batch(self.writer)
        self.workers = Workers(set())
        self.workers.listed({1, 2})
        self.schedule = Schedule(self.settings, 100)
        self.plans = Plans(self.schedule, self.writer, self.workers, self.batch)
        for worker in (1, 2):
            ends = cast(Connection, Ends(self, worker))
            known = self.workers.connected(worker, Hello(1, "out", worker, worker, worker, 500, (), ()), ends)
            for role in ("out", "in"):
                self.workers.ready(known, role)
            self.schedule.worker_joined(worker, 500)

    # Time

    def later(self, ms: int, what: Callable[[], None]) -> None:
        life = self._life

        def unless_restarted() -> None:
            if self._life == life:
                what()

        self.at(self.now + ms, unless_restarted)

    def at(self, time: int, what: Callable[[], None]) -> None:
        self._n_later += 1
        heapq.heappush(self._later, (time, self._n_later, what))

    def run(self, until: int) -> None:
        """Go on until a time."""
        while self.now < until:
            wait = self.plans.wait_ms(self.now)
            if self.batch.has_work:
                wait = 0
            if self._later:
                wait = min(wait, self._later[0][0] - self.now)
            self.now += max(STEP_MS, -(-wait // STEP_MS) * STEP_MS)
            while self._later and self._later[0][0] <= self.now:
                heapq.heappop(self._later)[2]()
            if self.batch.has_work:
                self.commit()
            self.plans.tick(self.now)

    def commit(self) -> None:
        circumstances = Circumstances(self.now, self.schedule.is_leased, self.workers.is_repeatable)
        done = self.batch.commit(circumstances)
        for change in done.changes:
            if isinstance(change, PutChange):
                assert change.reply is None
                self.plans.arrived(change.arrived or ())
            elif isinstance(change, SettleChange):
                assert change.off is not None
                letter = self.letters[change.settlement.part]
                if change.off.due:
                    letter.retry_at = change.off.due
                self.plans.off(change.off, self.now)
        self.plans.slept(done.wakes)

    # Mail

    def put(self, message: Put) -> None:
        self.n_put += 1
        self.batch.add(PutChange(NOBODY, message))
        self._expect(message)

    def _expect(self, message: Put) -> None:
        for number in range(len(message.head.parts)):
            part = part_name(message.head.id, number)
            self.letters[part] = Letter(message, self.now, number)
            self.fates[part] = {}

    # Workers

    def ordered(self, worker: int, kind: Kind, payload: bytes) -> None:
        if kind is Kind.LEASE:
            self._on_lease(worker, self._lease(payload))
        elif kind is Kind.REPORT:
            report = self._report(payload)
            for part in report.parts:
                letter = self.letters[part]
                assert not letter.out, "reported on while a worker has it"
                assert letter.expires <= self.now or report.status == "bounced"
                letter.out = "report"
                if report.status == "expired":
                    self.late_reports.append(self.now - letter.expires)
                self.later(10, lambda part=part, report=report: self._write_report(part, report))  # type: ignore[misc]
        elif kind is Kind.RESOLVE:
            asked = self._resolve(payload)
            site = self.sites[asked.domain]
            answer = Resolved(asked.domain, asked.route, site.name, ((site.name, 25),), 3600.0)
            failure = {"unknown": UNKNOWN, "gone": NO_DOMAIN}.get(site.state(self.now - T0))
            if failure is not None:
                answer = Resolved(asked.domain, asked.route, "", (), 60.0, (), failure)
                self.n_failed_questions += 1
            self.later(20, lambda: self.plans.resolved(answer, self.now))

    def _on_lease(self, worker: int, lease: Lease) -> None:
        session = self.sessions.get(lease.session)
        if session is None:
            if not lease.opens:
                return
            site = next(site for site in self.sites.values() if site.name == lease.site)
            session = self.sessions[lease.session] = Session(worker, site)
            self.dials.append((site.name, self.now))
            self._dial(lease.session, session)
        for part in lease.parts:
            letter = self.letters[part]
            assert not letter.out, "leased while a worker has it"
            assert letter.retry_at <= self.now, "leased before it is due"
            letter.out = "lease"
            session.parts.append(part)
            self.leases.append((part, self.now))
            late = self.now - letter.retry_at
            self.late_retries[session.site.name] = max(self.late_retries.get(session.site.name, 0), late)
        if session.free_at:
            self._work(lease.session, session, lease.parts)

    def _dial(self, number: int, session: Session) -> None:
        state = session.site.state(self.now - T0)
        if state == "dead":
            self.later(CONNECT_MS, lambda: self._close(number, UNREACHABLE))
        elif state == "busy":
            self.later(500, lambda: self._close(number, BUSY))
        else:
            self.later(100, lambda: self._greeted(number, session))

    def _greeted(self, number: int, session: Session) -> None:
        self.plans.greeted(number, self.now)
        session.free_at = self.now
        self._work(number, session, tuple(session.parts))

    def _work(self, number: int, session: Session, parts: tuple[bytes, ...]) -> None:
        for part in parts:
            session.free_at = max(session.free_at, self.now) + session.site.part_ms
            self.later(session.free_at - self.now, lambda part=part: self._tried(number, session, part))  # type: ignore[misc]

    def _tried(self, number: int, session: Session, part: bytes) -> None:
        if number not in self.sessions:
            return
        state = session.site.state(self.now - T0)
        if state == "dead":
            # It dies in the middle of a conversation: that message's bad luck.
            self._settle(part, "deferred")
            self._close(number, None)
            return
        if state == "busy":
            self._close(number, BUSY)
            return
        is_bad = self.letters[part].open[0][1].startswith("nobody")
        self._settle(part, "deferred" if state == "refusing" else "bounced" if is_bad else "delivered")
        session.parts.remove(part)
        if not session.parts:
            self.later(IDLE_MS, lambda: self._idle(number, session))

    def _idle(self, number: int, session: Session) -> None:
        if not session.parts and self.now >= session.free_at + IDLE_MS and number in self.sessions:
            self._close(number, None)

    def _close(self, number: int, failure: Outcome | None) -> None:
        session = self.sessions.pop(number)
        for part in session.parts:
            # The one that was settled last is the queue process's already.
            if self.letters[part].out == "lease":
                self.letters[part].out = ""
        self.plans.closed(number, failure, self.now)

    def _settle(self, part: bytes, status: Status, *, is_report: bool = False) -> None:
        letter = self.letters[part]
        head = letter.head
        outcome = Outcome(status, 250 if status == "delivered" else 450, "", "said so", "mx", "")
        results = tuple((number, address, outcome) for number, address in letter.open)
        notice = None
        if status in ("bounced", "expired") and head.sender:
            notice = self._notice(head.sender, head.tenant)
        told = Settlement(part, letter.attempts, head.received_at, head.tenant, results, notice, is_report)
        if not is_report:
            letter.attempts += 1
        next_at = next_attempt(self.retry, letter.attempts or 1, self.now, self.chance.random())
        self.batch.add(SettleChange(told, next_at))
        settling(self.schedule, part, self.now)
        letter.out, letter.tried_at = "", self.now
        if status != "deferred":
            self.fates[part].update((number, status) for number, _, _ in results)

    def _write_report(self, part: bytes, report: Report) -> None:
        self._settle(part, report.status, is_report=True)

    def _notice(self, sender: str, tenant: str) -> Notice:
        self.n_notices += 1
        message = put(NOTICES + self.n_notices, (sender,), content=b"notice", tenant=tenant, lifetime_ms=DAY_MS)
        wall = self.now + self.wall_ms
        message = msgspec.structs.replace(
            message, head=msgspec.structs.replace(message.head, sender="", received_at=wall)
        )
        self._expect(message)
        return Notice(message.head, bytes(message.content))

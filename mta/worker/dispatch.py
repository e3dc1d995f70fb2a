"""What a worker does with the queue process's orders: leases become jobs for couriers, their outcomes settlements.

Rule: whatever was leased is settled once, or comes back when its session is said to be closed. The queue process knows
sessions by number; a courier exists here from the first lease of its session to its `closed`.
"""

import asyncio
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from mta.deliver import Courier, Job, Ways
from mta.link import Lease, PutHead, QueueLink, Report, Resolve, Resolved, Settlement
from mta.message import Outcome, now_ms
from mta.report import Fault, cut
from mta.report import encode as encode_event
from mta.store import DAMAGE, EIGHT_BIT, READ_ERRORS, UTF8, Reader, message_of
from mta.worker.notices import Notices

__all__ = ["CourierMaker", "Dispatch"]

CourierMaker = Callable[[Lease, "Dispatch"], Courier]
"""(the first lease of the session, who to report to)."""

EXPIRED = Outcome("expired", 451, "4.4.7", "it could not be tried before it expired", "", "")
BY_OPERATOR = Outcome("bounced", 554, "5.7.1", "sent back by the operator", "", "")


class Held(msgspec.Struct, frozen=True):
    """A part that is leased to this worker, and the session it is leased for."""

    session: int
    received_at: int
    tenant: str


class Dispatch:
    """Implements the link's Tasks and the couriers' Report."""

    def __init__(
        self, link: QueueLink, reader: Reader, make_courier: CourierMaker, ways: Ways, notices: Notices
    ) -> None:
        self._link = link
        self._reader = reader
        self._make_courier = make_courier
        self._ways = ways
        self._notices = notices
        self._couriers: dict[int, Courier] = {}
        self._sites: dict[int, str] = {}
        self._greeted: set[int] = set()
        self._held: dict[bytes, Held] = {}
        self._resolving: set[asyncio.Task[None]] = set()
        self._is_draining = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    # What the queue process orders

    def lease(self, lease: Lease) -> None:
        """Hand leased parts to the session's courier."""
        courier = self._couriers.get(lease.session)
        if courier is None and not lease.opens:
            return
        jobs: list[Job] = []
        for number, part in enumerate(lease.parts):
            own = self._link.recent.find(message_of(part)) if lease.new[number : number + 1] == b"\1" else None
            job = self._job(lease.session, part) if own is None else self._own_job(lease.session, part, *own)
            if job is not None:
                jobs.append(job)
        if courier is None:
            if self._is_draining:
                self.closed(lease.session, jobs, None)
                return
            self._sites[lease.session] = lease.site
            courier = self._make_courier(lease, self)
            self._couriers[lease.session] = courier
        courier.deliver(jobs)

    def report(self, report: Report) -> None:
        """Tell the senders of some parts that time is up, or that there is no way."""
        for part in report.parts:
            job = self._job(0, part)
            if job is not None:
                try:
                    lasts = self._reader.last_outcomes(part)
                except READ_ERRORS as problem:
                    self._unreadable(part, problem)
                    continue
                verdicts = [(number, _verdict(report, lasts.get(number))) for number, _ in job.recipients]
                self._settle(job, verdicts, True)

    def resolve(self, question: Resolve) -> None:
        """Find out where a domain goes, and say it."""
        task = asyncio.get_running_loop().create_task(self._resolve(question))
        self._resolving.add(task)
        task.add_done_callback(self._resolving.discard)

    async def _resolve(self, question: Resolve) -> None:
        domain, route = question.domain, question.route
        try:
            way = await self._ways.find(domain, route)
        except Exception:  # the fence: the queue process asks somebody again
            self._link.fault(encode_event(Fault(now_ms(), b"", "", "worker", cut(traceback.format_exc()))))
            return
        self._link.resolved(Resolved(domain, route, way.site, way.hosts, way.ttl_s, way.ranks, way.failure))

    def held(self) -> tuple[tuple[tuple[int, str, bool], ...], tuple[tuple[int, bytes], ...]]:
        """Say what the queue process would otherwise forget when it starts again."""
        sessions = tuple((number, self._sites[number], number in self._greeted) for number in self._couriers)
        return sessions, tuple((held.session, part) for part, held in self._held.items())

    # What couriers report

    def done(self, job: Job, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        """Settle a part."""
        self._settle(job, outcomes, False)

    def _settle(self, job: Job, outcomes: Sequence[tuple[int, Outcome]], is_report: bool) -> None:
        held = self._held.pop(job.part, None)
        if held is None:
            return
        addresses = dict(job.recipients)
        results = tuple([(number, addresses[number], outcome) for number, outcome in outcomes])
        notice = self._notices.maybe_write(job, held.received_at, held.tenant, results)
        self._link.recent.drop(message_of(job.part))
        self._link.settle(Settlement(job.part, job.attempt, held.received_at, held.tenant, results, notice, is_report))

    def greeted(self, session: int) -> None:
        """A host has greeted us."""
        self._greeted.add(session)
        self._link.greeted(session)

    def closed(self, session: int, left: Sequence[Job], failure: Outcome | None) -> None:
        """Release what was not started, and say that the session is over."""
        self._couriers.pop(session, None)
        self._sites.pop(session, None)
        self._greeted.discard(session)
        for job in left:
            self._held.pop(job.part, None)
        # The queue process takes back whatever the session has not settled.
        self._link.closed(session, failure)

    # The end

    @property
    def n_busy(self) -> int:
        """How many sessions are open."""
        return len(self._couriers)

    def drain(self) -> None:
        """Finish what is under way and give back the rest."""
        self._is_draining = True
        self._link.leave()
        for courier in list(self._couriers.values()):
            courier.close()

    def abort(self) -> None:
        """End at once."""
        self._is_draining = True
        for courier in list(self._couriers.values()):
            courier.abort()

    # Inside

    def _job(self, session: int, part: bytes) -> Job | None:
        """Read a part; None when it cannot be delivered: the queue process hears of that."""
        try:
            leased = self._reader.leased(part)
        except DAMAGE as problem:
            self._unreadable(part, problem)
            return None
        if leased is None:
            self._link.settle(Settlement(part, 0, 0, "", ()))
            return None
        message = leased.message
        self._held[part] = Held(session, message.received_at, message.tenant)
        return Job(
            part,
            leased.attempt,
            message.sender,
            leased.recipients,
            message.octets,
            bool(message.flags & EIGHT_BIT),
            bool(message.flags & UTF8),
            len(message.extents),
            partial(self._piece, part, message.extents),
        )

    def _own_job(self, session: int, part: bytes, head: PutHead, octets: int) -> Job:
        """Make the job of a message of one part that this worker put, and nobody has tried: it stands as it was put."""
        self._held[part] = Held(session, head.received_at, head.tenant)
        (only,) = head.parts
        return Job(
            part,
            0,
            head.sender,
            tuple(enumerate(only.recipients, only.first)),
            octets,
            bool(head.flags & EIGHT_BIT),
            bool(head.flags & UTF8),
            1,
            partial(self._own_piece, part),
        )

    def _own_piece(self, part: bytes, piece: int) -> bytes:
        """Give the content of such a message, which is one piece; read it where it had to make room for others."""
        content = self._link.recent.content(message_of(part))
        if content is not None:
            return content
        try:
            leased = self._reader.leased(part)
        except DAMAGE as problem:
            self._set_aside(part, problem)
            raise
        if leased is None:
            raise LookupError(f"part {part.hex()} is not in the queue any more")
        return self._piece(part, leased.message.extents, piece)

    def _piece(self, part: bytes, extents: tuple[tuple[int, int], ...], piece: int) -> bytes:
        """Read a piece of a message; one of which content is lost is set aside, whatever its courier makes of it."""
        try:
            return self._reader.piece(extents, piece)
        except LookupError as problem:
            self._set_aside(part, problem)
            raise

    def _set_aside(self, part: bytes, problem: Exception) -> None:
        """Have a part set aside that is still held; from whichever thread: Maildirs are written in one of their own."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self._set_aside, part, problem)
        elif part in self._held:
            self._unreadable(part, problem)

    def _unreadable(self, part: bytes, problem: Exception) -> None:
        """Have a part set aside."""
        self._held.pop(part, None)
        detail = f"{type(problem).__name__}: {problem}"
        self._link.fault(encode_event(Fault(now_ms(), part[:16], "", "queue", cut(detail))))
        self._link.settle(Settlement(part, 0, 0, "", ()))


def _verdict(report: Report, last: Outcome | None) -> Outcome:
    """Return what a recipient is told: why there is no way, an operator's word, or the last thing that kept the mail
    from going."""
    failure = report.failure
    if report.status == "bounced":
        return failure if failure is not None and failure.status == "bounced" else BY_OPERATOR
    return msgspec.structs.replace(last or failure or EXPIRED, status="expired")

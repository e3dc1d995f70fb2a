"""What a worker does with the queue process's orders: leases become jobs for couriers, their outcomes settlements.

Rule: whatever was leased is settled once, or comes back when its session is said to be closed. The queue process knows
sessions by number; a courier exists here from the first lease of its session to its `closed`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from mta.deliver import Courier, Job, Router
from mta.link import Lease, QueueLink, Resolve, Resolved, Settlement
from mta.message import Hosts, Outcome, now_ms
from mta.report import Fault, cut
from mta.report import encode as encode_event
from mta.store import EIGHT_BIT, UTF8, Reader

__all__ = ["CourierMaker", "Dispatch"]

# A static route changes by reload only, and a reload makes new workers; this only bounds how long a mistake lives.
ROUTE_TTL_S = 3600.0

CourierMaker = Callable[[int, str, Hosts, "Dispatch"], Courier]
"""(session number, site, hosts, who to report to)."""


class Held(msgspec.Struct, frozen=True):
    """A part that is leased to this worker, and the session it is leased for."""

    session: int
    received_at: int
    tenant: str


class Dispatch:
    """Implements the link's Tasks and the couriers' Report."""

    def __init__(self, link: QueueLink, reader: Reader, make_courier: CourierMaker, router: Router) -> None:
        self._link = link
        self._reader = reader
        self._make_courier = make_courier
        self._router = router
        self._couriers: dict[int, Courier] = {}
        self._sites: dict[int, str] = {}
        self._held: dict[bytes, Held] = {}
        self._is_draining = False

    # What the queue process orders

    def lease(self, lease: Lease) -> None:
        """Hand leased parts to the session's courier."""
        courier = self._couriers.get(lease.session)
        if courier is None and not lease.opens:
            return
        jobs = [job for part in lease.parts if (job := self._job(lease.session, part)) is not None]
        if courier is None:
            if self._is_draining:
                self.closed(lease.session, jobs)
                return
            self._sites[lease.session] = lease.site
            courier = self._make_courier(lease.session, lease.site, lease.hosts, self)
            self._couriers[lease.session] = courier
        courier.deliver(jobs)

    def resolve(self, question: Resolve) -> None:
        """Say where a domain goes."""
        site = self._router.resolve(question.domain, question.route)
        self._link.resolved(Resolved(question.domain, question.route, site.name, site.hosts, ROUTE_TTL_S))

    def held(self) -> tuple[tuple[tuple[int, str], ...], tuple[tuple[int, bytes], ...]]:
        """Say what the queue process would otherwise forget when it starts again."""
        sessions = tuple((number, self._sites[number]) for number in self._couriers)
        return sessions, tuple((held.session, part) for part, held in self._held.items())

    # What couriers report

    def done(self, job: Job, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        """Settle a part."""
        held = self._held.pop(job.part, None)
        if held is None:
            return
        addresses = dict(job.recipients)
        results = tuple((number, addresses[number], outcome) for number, outcome in outcomes)
        self._link.settle(Settlement(job.part, job.attempt, held.received_at, held.tenant, results))

    def closed(self, session: int, left: Sequence[Job]) -> None:
        """Release what was not started, and say that the session is over."""
        self._couriers.pop(session, None)
        self._sites.pop(session, None)
        for job in left:
            self._held.pop(job.part, None)
        # The queue process takes back whatever the session has not settled.
        self._link.closed(session)

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
        except (LookupError, msgspec.MsgspecError) as problem:
            detail = f"{type(problem).__name__}: {problem}"
            self._link.fault(encode_event(Fault(now_ms(), part[:16], "", "queue", cut(detail))))
            leased = None
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
            partial(self._reader.content, message.extents),
        )

"""What the suite measures: loads, and which servers get each of them in turn.

PIPELINING is on unless a row says otherwise: servers that send mail pipeline wherever it is offered. (To those that do
not offer it, OpenSMTPD and aiosmtpd, commands go one by one anyway.) The same load without it stands beside it, because
that is what `smtp-source` and many programs send.

Rule: a measurement is a server and a `Shape`. Both name it in result files, so neither means anything else in another
plan; how long a run is and how many there are belongs to the plan.
"""

import msgspec

__all__ = ["FULL", "HEADLINE", "KB", "PLANS", "Group", "Plan", "Shape"]

KB = 1024
MB = 1_000_000


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """One load."""

    connections: int = 50
    """At once."""
    octets: int = 4 * KB
    """Of a message."""
    pipelining: bool = True
    fresh: bool = False
    """A new connection for each message; otherwise they are kept."""
    domains: int = 1
    """The recipients are spread over so many, all of them at the same next hop."""
    is_pinned: bool = False
    """The server has one core, source and sink another; otherwise the kernel places them all."""
    share: float = 0.0
    """Messages come on a schedule (open loop), at this share of the rate that the same server reached when they came as
    fast as they were answered (closed loop, 0)."""

    @property
    def size(self) -> str:
        """The octets, as in "4 KB"."""
        return f"{self.octets // MB} MB" if self.octets >= MB else f"{self.octets // KB} KB"

    @property
    def name(self) -> str:
        """All of it in words."""
        words = [f"{self.connections} {'fresh' if self.fresh else 'kept'}", self.size]
        words += [f"{self.domains:,} domains"] * (self.domains > 1)
        words += ["no PIPELINING"] * (not self.pipelining) + ["pinned"] * self.is_pinned
        words += [f"at {self.share:.0%}"] * (self.share > 0)
        return ", ".join(words)

    @property
    def maximum(self) -> "Shape":
        """The closed loop that `share` is a share of."""
        return msgspec.structs.replace(self, share=0.0)


class Group(msgspec.Struct, frozen=True):
    """Servers that take turns under one load."""

    shape: Shape
    servers: tuple[str, ...]
    """Names of `bench.suite.servers`."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one command measures."""

    name: str
    runs: int
    """Of each measurement."""
    seconds: float
    """How long a closed loop sends."""
    open_seconds: float
    """How long an open loop does: its 99.9th percentile wants many messages."""
    warm_up_s: float = 1.0
    """How long each server of a group gets its load beforehand."""
    limit_s: float
    """No group is begun after so long."""
    groups: tuple[Group, ...]
    flushed: tuple[str, ...] = ()
    """Peers whose flushes are counted."""
    scans: bool = True
    """Measure the reader of DATA, too."""


BOTH = ("posthaste", "postfix")
# What routing by MX and client limits cost is told from the same server without, in turn.
WAYS = ("posthaste by route", "posthaste by MX", "posthaste, limits")
WORKERS = ("posthaste, 1 worker", "posthaste, 2 workers")
OTHERS = ("exim", "opensmtpd", "haraka", "aiosmtpd")
KEPT = Shape()

HEADLINE = Plan(
    name="headline",
    runs=5,
    seconds=2.0,
    open_seconds=3.0,
    limit_s=540.0,
    groups=(
        Group(KEPT, BOTH),
        Group(Shape(share=0.5), BOTH),
        Group(Shape(pipelining=False), BOTH),
        Group(Shape(connections=200), BOTH),
        Group(Shape(fresh=True), BOTH),
        Group(Shape(connections=1), BOTH),
        Group(Shape(octets=32 * KB), BOTH),
        Group(Shape(octets=256 * KB), BOTH),
        Group(KEPT, WORKERS),
    ),
    flushed=BOTH,
)


def _full() -> tuple[Group, ...]:
    """Return the groups of the full plan: what the others build upon first, and what takes longest last."""
    groups = []
    for is_pinned in (False, True):
        # All six side by side: that is where Posthaste and Postfix have this load, too.
        for pipelining in (True, False):
            groups.append(Group(Shape(pipelining=pipelining, is_pinned=is_pinned), (*BOTH, *OTHERS)))
        if not is_pinned:
            groups += [Group(Shape(share=share), BOTH) for share in (0.5, 0.7, 0.9)]
            groups += [Group(KEPT, WORKERS), Group(KEPT, WAYS), Group(Shape(domains=1000), BOTH)]
        for fresh in (False, True):
            loads = [(n, 4 * KB) for n in (1, 4, 16, 50, 200, 1000)]
            loads += [(50, octets) for octets in (KB, 32 * KB, 256 * KB, 10 * MB)]
            for connections, octets in loads:
                shape = Shape(connections=connections, octets=octets, fresh=fresh, is_pinned=is_pinned)
                if shape not in [group.shape for group in groups]:
                    groups.append(Group(shape, BOTH))
    return tuple(groups)


FULL = Plan(
    name="full",
    runs=3,
    seconds=4.0,
    open_seconds=10.0,
    limit_s=10_200.0,
    groups=_full(),
    flushed=(*BOTH, *OTHERS),
)
PLANS = {plan.name: plan for plan in (HEADLINE, FULL)}

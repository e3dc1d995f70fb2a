"""From hosts to a connected transport: which addresses there are, in what order they are tried, and from where.

Rule: hosts are tried in the order of their ranks, equal ones in any order, each with all of its addresses; one that was
tried is not tried again by the same Dial, and one of our own listeners never. What a host does before it is connected
is no message's fault: it ends up in `failure`. Nothing is raised.

A Dialer is made once a worker, a Dial for each session. RFC 5321 s5.1.
"""

import asyncio
import errno
import ipaddress
import os
import random
from collections import deque
from collections.abc import Callable

import msgspec

from mta.config import Deliver
from mta.deliver.families import Families
from mta.deliver.own import Own
from mta.dns import Resolver
from mta.message import Hosts, Outcome

__all__ = ["Dial", "Dialer", "Target"]

MOST_TARGETS = 32
"""So many addresses one session tries: a domain with thousands that are silent must not hold it for days."""
# There is no way for the whole family, perhaps: that counts as a time-out. A host that refuses was reached.
NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETDOWN)


class Target(msgspec.Struct, frozen=True):
    """One address to connect to, and what the peer there is called in outcomes."""

    remote_mta: str
    address: str
    port: int


class Dialer:
    """What all sessions of a worker dial with."""

    def __init__(self, deliver: Deliver, resolver: Resolver, own: Own, loop: asyncio.AbstractEventLoop) -> None:
        self.deliver = deliver
        self.resolver = resolver
        self.own = own
        self.loop = loop
        self.families = Families()

    def dial(self, hosts: Hosts, ranks: tuple[int, ...] = ()) -> "Dial":
        """Return the way to the hosts of one session: the lower ranks first, in any order among equal ones. Without
        ranks they keep their order."""
        if len(ranks) == len(hosts):
            order = sorted(range(len(hosts)), key=lambda at: (ranks[at], random.random()))
            hosts = tuple(hosts[at] for at in order)
        return Dial(self, hosts)


class Dial:
    """The hosts of one session and those of their addresses that were not tried yet."""

    def __init__(self, dialer: Dialer, hosts: Hosts) -> None:
        self._dialer = dialer
        self._hosts = deque(hosts)
        self._targets: deque[Target] = deque()
        self._n_left = MOST_TARGETS
        self._has_both = False
        self.target = Target("", "", 0)
        """Who is being connected to, or is connected."""
        self.failure: Outcome | None = None
        """Why the last of the hosts that the last `connect` tried could not be reached; None if it tried none."""

    @property
    def has_more(self) -> bool:
        """There are hosts or addresses that were not tried."""
        return self._n_left > 0 and bool(self._targets or self._hosts)

    async def connect(self, protocol: asyncio.Protocol, is_made: Callable[[], bool]) -> bool:
        """Connect `protocol` to the next address that answers; False when there is none left.

        `is_made` says whether its `connection_made` has been called since: from then on the connection is its own, even
        if it is lost again by now.
        """
        self.failure = None
        while self._n_left:
            if self._targets:
                self._n_left -= 1
                self.target = self._targets.popleft()
                await self._reach(self.target, protocol, is_made)
                if is_made():
                    return True
            elif self._hosts:
                await self._look_up(*self._hosts.popleft())
            else:
                break
        return False

    async def _look_up(self, host: str, port: int) -> None:
        """Add the addresses of `host` to the targets."""
        dialer = self._dialer
        self._has_both = False
        try:
            found = [str(ipaddress.ip_address(host))]
            name = ""
        except ValueError:
            addresses = await dialer.resolver.addresses(host)
            if not addresses:
                enhanced = "4.4.3" if addresses.failure else "4.4.4"
                self._fail(host, f"cannot resolve {host}: {addresses.failure or 'it has no address'}", enhanced)
                return
            both = list(addresses.ipv4), list(addresses.ipv6)
            self._has_both = all(both)
            for family in both:
                random.shuffle(family)
            found = dialer.families.order(*both, dialer.loop.time())
            name = f"{host} "
        for address in found:
            target = Target(f"{name}[{address}]", address, port)
            if dialer.own.has(address, port):
                self._fail(target.remote_mta, f"{target.remote_mta}:{port} is this server itself", "4.4.6")
            else:
                self._targets.append(target)

    async def _reach(self, target: Target, protocol: asyncio.Protocol, is_made: Callable[[], bool]) -> None:
        """Connect to `target`, or note why that cannot be done."""
        loop, deliver = self._dialer.loop, self._dialer.deliver
        is_ipv6 = ":" in target.address
        source = deliver.source_ipv6 if is_ipv6 else deliver.source_ipv4
        began_at = loop.time()
        took_s = 0.0
        try:
            # Not with a socket of our own: uvloop would close its number twice if the connection ends at once.
            async with asyncio.timeout(deliver.connect_timeout_s):
                await loop.create_connection(
                    lambda: protocol, target.address, target.port, local_addr=(source, 0) if source else None
                )
        # ValueError: an address that no socket can take.
        except (OSError, ValueError) as error:
            if not is_made():
                self._fail(target.remote_mta, f"cannot connect to {target.remote_mta}:{target.port}: {describe(error)}")
                is_no_way = isinstance(error, TimeoutError) or getattr(error, "errno", 0) in NO_WAY
                took_s = deliver.connect_timeout_s if is_no_way else 0.0
        if self._has_both:
            self._dialer.families.took(6 if is_ipv6 else 4, took_s or loop.time() - began_at, loop.time())

    def _fail(self, remote_mta: str, reason: str, enhanced: str = "4.4.1") -> None:
        self.failure = Outcome("deferred", 451, enhanced, reason, remote_mta, "")


def describe(error: Exception) -> str:
    """Return the words for a failed connection, without numbers and addresses."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error)

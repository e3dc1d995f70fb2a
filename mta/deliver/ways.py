"""Where the mail of a domain goes, whatever decides it: the configuration, an address literal, or the name service.

Rule: every question ends in a Way within ANSWER_S; nothing is raised. A Way without hosts says why: `bounced` concerns
all mail for that domain, `deferred` is worth another question later. Called by the worker when the queue process asks.
"""

import asyncio
import ipaddress

import msgspec

from mta.deliver import mx
from mta.deliver.own import Own
from mta.deliver.route import Router, Site
from mta.dns import Addresses, Resolver
from mta.message import LOCAL_SITE, Hosts, Outcome

__all__ = ["Way", "Ways"]

# A static route changes by reload only, and a reload makes new workers; this only bounds how long a mistake lives.
ROUTE_TTL_S = 3600.0
# Whatever a zone says: no queue asks again and again while it is being worked off.
LEAST_TTL_S = 5.0
# The queue process asks another worker after RESOLVE_AGAIN_MS.
ANSWER_S = 50.0
TOO_SLOW = "the name service was too slow"


class Way(msgspec.Struct, frozen=True):
    """Where mail goes: the site's name, its hosts and their ranks; or the `failure` that says why it does not.

    To be believed for `ttl_s` seconds.
    """

    site: str
    hosts: Hosts
    ranks: tuple[int, ...]
    ttl_s: float
    failure: Outcome | None = None


class Ways:
    """Finds them; one a worker."""

    def __init__(self, router: Router, resolver: Resolver, hostname: str, own: Own, port: int) -> None:
        """`hostname` is our own; `port` is that of hosts found by MX, or by an address literal."""
        self._router = router
        self._resolver = resolver
        self._hostname = hostname.lower()
        self._own = own
        self._port = port

    async def find(self, domain: str, route: str) -> Way:
        """Return the way of mail for `domain`, a canonical one; `route` is the next hop of its queue, usually ""."""
        try:
            async with asyncio.timeout(ANSWER_S):
                site = self._router.resolve(domain, route)
                if site is not None:
                    return await self._fixed(domain, site)
                if domain.startswith("["):
                    return self._literal(domain)
                return await self._by_mx(domain)
        except TimeoutError:
            said = f"{TOO_SLOW} to tell where mail for {domain} goes"
            return _nowhere(Outcome("deferred", 451, "4.4.3", said, "", ""), LEAST_TTL_S)

    async def _fixed(self, domain: str, site: Site) -> Way:
        """Take what the configuration says, unless that is ourselves."""
        if site.name == LOCAL_SITE:
            return Way(site.name, (), (), ROUTE_TTL_S)
        if not site.hosts:
            return _nowhere(Outcome("deferred", 451, "4.4.4", "the next hop of its queue is malformed", "", ""), 0)
        host, port = site.hosts[0]
        known = await self._addresses(host)
        addresses = known.ipv4 + known.ipv6
        if addresses and all(self._own.has(address, port) for address in addresses):
            return _nowhere(mx.loop(domain), known.ttl_s)
        # If nobody knows its addresses, the session that dials it says so.
        return Way(site.name, site.hosts, (0,), ROUTE_TTL_S)

    def _literal(self, domain: str) -> Way:
        """Send to the address that stands behind the at sign. RFC 5321 s4.1.3."""
        address = domain[1:-1].removeprefix("IPv6:")
        if self._own.has(address, self._port):
            return _nowhere(mx.loop(domain), ROUTE_TTL_S)
        return Way(domain, ((address, self._port),), (0,), ROUTE_TTL_S)

    async def _by_mx(self, domain: str) -> Way:
        answer = await self._resolver.look_up(domain, "MX")
        failure = mx.failure_of(domain, answer)
        if failure is not None:
            return _nowhere(failure, answer.ttl_s)
        hosts = mx.candidates(domain, answer.records)
        found = await asyncio.gather(*(self._resolver.addresses(host.name) for host in hosts))
        addresses = {host.name: known for host, known in zip(hosts, found, strict=True)}
        ttl_s = min((answer.ttl_s, *(known.ttl_s for known in found)))

        def is_us(host: mx.Host) -> bool:
            known = addresses[host.name]
            both = known.ipv4 + known.ipv6
            return host.name == self._hostname or any(self._own.has(address, self._port) for address in both)

        left = mx.usable(domain, hosts, addresses, is_us, by_mx=bool(answer.records))
        if isinstance(left, Outcome):
            return _nowhere(left, ttl_s)
        pairs = tuple((host.name, self._port) for host in left)
        return Way(mx.site_name(left), pairs, tuple(host.rank for host in left), max(ttl_s, LEAST_TTL_S))

    async def _addresses(self, host: str) -> Addresses:
        try:
            address = str(ipaddress.ip_address(host))
        except ValueError:
            return await self._resolver.addresses(host)
        return Addresses((), (address,), ROUTE_TTL_S) if ":" in address else Addresses((address,), (), ROUTE_TTL_S)


def _nowhere(failure: Outcome, ttl_s: float) -> Way:
    return Way("", (), (), max(ttl_s, LEAST_TTL_S), failure)

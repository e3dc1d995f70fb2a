"""Where the mail of a domain goes, as far as the configuration decides it.

Rule: local domains come first, then the next hop a queue was given at reception, then the first [[route]] that matches.
What none of them knows goes by MX. Called by `ways`.
"""

import re
from collections.abc import Iterable, Sequence

import msgspec

from mta.config import Route
from mta.message import LOCAL_SITE, Hosts

__all__ = ["Router", "Site"]

NEXT_HOP = re.compile(r"\[([^\[\]\s]+)\]:([0-9]{1,5})\Z")


class Site(msgspec.Struct, frozen=True):
    """Where parts go. `name` is what paths are counted by: LOCAL_SITE or a next hop as written; "" is nowhere."""

    name: str
    hosts: Hosts


LOCAL = Site(LOCAL_SITE, ())
NOWHERE = Site("", ())


class Router:
    """Decides the Site of a domain; built once from the configuration."""

    def __init__(self, local_domains: Iterable[str], routes: Sequence[Route]) -> None:
        """`routes` in their order of preference; all domains canonical, as `config.load` gives them.

        Raises ValueError for a `via` that is no "[address or name]:port".
        """
        self._local = frozenset(local_domains)
        self._routes: dict[str, tuple[int, Site]] = {}
        for rank, route in enumerate(routes):
            site = parse_next_hop(route.via)
            if site is None:
                raise ValueError(f"expected [address or name]:port, got {route.via!r}")
            self._routes.setdefault(route.match, (rank, site))

    def resolve(self, domain: str, route: str) -> Site | None:
        """Return where mail for `domain` goes, a canonical one, or None if by MX; `route` is the next hop of the queue,
        usually ""."""
        if domain in self._local:
            return LOCAL
        if route:
            return parse_next_hop(route) or NOWHERE
        labels = domain.split(".")
        patterns = [domain, "*", *("." + ".".join(labels[n:]) for n in range(1, len(labels)))]
        found = [self._routes[pattern] for pattern in patterns if pattern in self._routes]
        return min(found)[1] if found else None


def parse_next_hop(text: str) -> Site | None:
    """Return the Site of "[address or name]:port"; None if `text` is something else."""
    found = NEXT_HOP.match(text.lower())
    if found is None or not 0 < int(found[2]) < 65_536:
        return None
    return Site(found[0], ((found[1], int(found[2])),))

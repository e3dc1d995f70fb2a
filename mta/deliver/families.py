"""IPv4 or IPv6 first: how connecting fared lately, by family.

Rule: only hosts that have both count, or one family would be judged by other hosts than the other. The faster one goes
first, and addresses of both take turns behind it, so that a family without a way costs one attempt. After ten minutes
nobody knows any more: the other is tried first, once, and judged again.

No clock: `now` is in seconds, monotonic. RFC 8305 has the aim; here nothing is raced, for a peer counts connections.
"""

from itertools import chain, zip_longest

__all__ = ["Families"]

AGAIN_S = 600.0


class Family:
    """How one fares: seconds to connect, and when that was last tried."""

    __slots__ = ("took_s", "tried_at")

    def __init__(self) -> None:
        self.took_s = 0.0
        self.tried_at = float("-inf")


class Families:
    """Both of them, for all hosts that one worker dials."""

    def __init__(self) -> None:
        self._all = {4: Family(), 6: Family()}

    def order(self, ipv4: list[str], ipv6: list[str], now: float) -> list[str]:
        """Return the addresses of one host in the order in which they shall be tried."""
        if not (ipv4 and ipv6):
            return ipv4 or ipv6
        first, second = (ipv6, ipv4) if self._first(now) == 6 else (ipv4, ipv6)
        return [address for address in chain(*zip_longest(first, second)) if address is not None]

    def _first(self, now: float) -> int:
        four, six = self._all[4], self._all[6]
        # IPv6 first where both are unknown, RFC 8305 s4.
        for version, family in ((6, six), (4, four)):
            if family.tried_at + AGAIN_S <= now:
                # One looks; the others go on as before until it knows.
                family.tried_at = now
                return version
        return 6 if six.took_s <= four.took_s else 4

    def took(self, version: int, took_s: float, now: float) -> None:
        """It took so long to connect, or to see that this cannot be. The last time is what counts: the slower one is
        seldom tried, and has to be believed when it is well again."""
        family = self._all[version]
        family.tried_at = now
        family.took_s = took_s

"""Answers that are still good, negative ones too. RFC 2308 s5.

Rule: no clock in here; `now` is seconds of any clock that never runs back. What nobody asked for
the longest goes first.
"""

from collections import OrderedDict

import msgspec

from mta.dns.answer import Answer, Kind

__all__ = ["Cache"]

Key = tuple[str, Kind]
# Whatever a zone says: a day later it is asked again; what is not there, sooner (RFC 2308 s5).
MOST_TTL_S = 86_400.0
MOST_NEGATIVE_TTL_S = 10_800.0


class Cache:
    """At most `most_entries` answers."""

    def __init__(self, most_entries: int) -> None:
        self._most = most_entries
        self._rows: OrderedDict[Key, tuple[float, Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, key: Key, now: float) -> Answer | None:
        """Return an answer that is good still, with the time that is left to it."""
        row = self._rows.get(key)
        if row is None:
            return None
        until, answer = row
        if until <= now:
            del self._rows[key]
            return None
        self._rows.move_to_end(key)
        return msgspec.structs.replace(answer, ttl_s=until - now)

    def keep(self, key: Key, answer: Answer, now: float) -> Answer:
        """Take an answer in; return it with the time that it is good for here."""
        ttl_s = min(answer.ttl_s, MOST_TTL_S if answer.status == "found" else MOST_NEGATIVE_TTL_S)
        self._rows.pop(key, None)
        if ttl_s > 0:
            self._rows[key] = (now + ttl_s, answer)
            if len(self._rows) > self._most:
                self._rows.popitem(last=False)
        return msgspec.structs.replace(answer, ttl_s=ttl_s)

"""Events that nobody waits for, on their way to the queue process: kept up to a rate, counted beyond it.

Rule: what is counted is told, in one event, when its second is over. Faults are always kept.
"""

from mta.message import now_ms
from mta.report import Fault
from mta.report import encode as encode_event

__all__ = ["Notes"]

# INTERFACES, Events: rejections and closed connections past this many a second are counted instead of kept.
NOTES_PER_S = 1000
# While the link is down nothing may grow without bound.
NOTES_KEPT = 10_000
# Clients have a say in how long an event is; a frame has a limit.
FRAME_OCTETS = 1_000_000


class Notes:
    """Gathers encoded events until they are taken."""

    def __init__(self) -> None:
        self._events: list[bytes] = []
        self._second = 0
        self._n_seen = 0
        self._n_dropped = 0

    def add(self, event: bytes, now_s: float) -> bool:
        """Keep an event if there is room in this second; say whether it was kept."""
        second = int(now_s)
        if second != self._second:
            self.tell_dropped()
            self._second, self._n_seen = second, 0
        self._n_seen += 1
        if self._n_seen > NOTES_PER_S or len(self._events) >= NOTES_KEPT:
            self._n_dropped += 1
            return False
        self._events.append(event)
        return True

    def add_fault(self, event: bytes) -> None:
        """Keep an event whatever the rate."""
        self._events.append(event)

    def tell_dropped(self) -> None:
        """Make an event of the count, if there is one; to be called once a second."""
        if self._n_dropped:
            detail = f"{self._n_dropped} events in a second were counted and not kept"
            self._events.append(encode_event(Fault(now_ms(), b"", "", "notes", detail)))
            self._n_dropped = 0

    def take(self) -> tuple[bytes, ...]:
        """Return what was gathered, or as much of it as one frame should hold, and forget it."""
        n_octets = n_events = 0
        for event in self._events:
            n_octets += len(event)
            if n_octets > FRAME_OCTETS and n_events:
                break
            n_events += 1
        events = tuple(self._events[:n_events])
        del self._events[:n_events]
        return events

    def __len__(self) -> int:
        return len(self._events)

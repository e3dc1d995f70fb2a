"""How many in the last minute, of one thing.

Rule: what was added less than MINUTE_S ago is counted, always; what is older is forgotten at most SLOT_S later. So
"count, then add if there is room" holds a limit in every 60 seconds there are, not only in those of a clock, and a
window is thirteen numbers at most.
"""

__all__ = ["FORGET_S", "MINUTE_S", "Window"]

MINUTE_S = 60
SLOT_S = 5
# The slot we are in is not over, so one more than a minute has.
N_SLOTS = MINUTE_S // SLOT_S
FORGET_S = MINUTE_S + SLOT_S
"""A window to which nothing was added for this long is empty."""


class Window:
    """Counts by slots of SLOT_S, oldest first. `now` is monotonic seconds and never runs back."""

    __slots__ = ("_slots", "_total")

    def __init__(self) -> None:
        self._slots: list[tuple[int, int]] = []
        self._total = 0

    def add(self, n: int, now: float) -> None:
        """Count `n` as used now."""
        slot = int(now // SLOT_S)
        self._total += n
        if self._slots and self._slots[-1][0] == slot:
            n += self._slots.pop()[1]
        self._slots.append((slot, n))

    def count(self, now: float) -> int:
        """Return how many were added in the last minute, and up to SLOT_S before."""
        oldest = int(now // SLOT_S) - N_SLOTS
        slots = self._slots
        while slots and slots[0][0] < oldest:
            self._total -= slots.pop(0)[1]
        return self._total

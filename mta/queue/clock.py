"""The queue process's time: the wall clock at start, carried on by the monotonic one."""

import time

__all__ = ["Clock"]

# What NTP corrects bit by bit is no step.
STEP_MS = 2000


class Clock:
    """Milliseconds since 1970 that never run back: nothing expires because somebody set the clock."""

    def __init__(self) -> None:
        self._offset_ns = self._told_ns = self._difference_ns()

    def now_ms(self) -> int:
        """Return the time in ms since 1970."""
        return (time.monotonic_ns() + self._offset_ns) // 1_000_000

    def step_ms(self) -> int:
        """Return by how many ms the wall clock was moved since the last call that returned any, 0 for none."""
        difference_ns = self._difference_ns()
        step_ms = (difference_ns - self._told_ns) // 1_000_000
        if abs(step_ms) < STEP_MS:
            return 0
        self._told_ns = difference_ns
        return step_ms

    def _difference_ns(self) -> int:
        return time.time_ns() - time.monotonic_ns()

"""The queue process's time: the wall clock at start, carried on by the monotonic one."""

import time

__all__ = ["Clock"]


class Clock:
    """Milliseconds since 1970 that never run back: nothing expires because somebody set the clock."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> int:
        """Return the time in ms since 1970."""
        return (time.monotonic_ns() + self._offset_ns) // 1_000_000

"""How much room the queue's file has left. DESIGN section 3.

Rule: what LMDB's free list holds is not asked, it is estimated from what is live: the file never shrinks, and a full
disk may hold an empty file. Below the reserve new mail is refused, so that settlements always find room: a delete
copies pages before it frees them.
"""

import os
import time
from pathlib import Path

__all__ = ["Room"]

# Pages are not full, and a change is written beside what it replaces.
SLACK = 1.5
# What a message takes besides its content: its rows, on pages that are rarely full, and its events.
ROWS_OCTETS = 3072
# A small map or disk could not hold the reserve of a large one.
RESERVE_SHARE = 4
LOOK_S = 0.5


class Room:
    """Says whether new mail fits; looks at the disk now and then."""

    def __init__(self, data_dir: str, map_octets: int, reserve_octets: int) -> None:
        self._file = Path(data_dir, "queue", "data.mdb")
        self._map_octets = map_octets
        self._reserve_octets = reserve_octets
        self._capacity = map_octets
        self._looked_at = 0.0

    def fits(self, live_octets: int, n_messages: int) -> bool:
        """Say whether there is room for more beside `n_messages` that hold `live_octets` of content."""
        now = time.monotonic()
        if now > self._looked_at + LOOK_S:
            self._looked_at = now
            disk = os.statvfs(self._file.parent)
            self._capacity = min(self._map_octets, self._file.stat().st_size + disk.f_bavail * disk.f_frsize)
        reserve = min(self._reserve_octets, self._capacity // RESERVE_SHARE)
        return self._capacity - SLACK * (live_octets + ROWS_OCTETS * n_messages) > reserve

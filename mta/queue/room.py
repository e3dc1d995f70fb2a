"""How much room the queue's file has left. DESIGN section 3.

Rule: what LMDB's free list holds is not asked, it follows from the pages that the tables use: the file never shrinks,
and a full disk may hold an empty file. Below the reserve new mail is refused, so that settlements always find room: a
delete copies pages before it frees them. And if it is the outbox that fills the file, because nobody takes the events,
nothing is tried any more either: each try makes events, and they are never thrown away.
"""

import os
import time
from pathlib import Path

from mta.store import Writer

__all__ = ["Room"]

# A change is written beside what it replaces, and the pages that it frees are free two commits later.
SLACK = 1.25
# A small map or disk could not hold the reserve of a large one.
RESERVE_SHARE = 4
DISK_S = 0.5
PAGES_S = 0.02


class Room:
    """Looks at the file and its disk, now and then."""

    def __init__(self, data_dir: str, map_octets: int, reserve_octets: int, writer: Writer) -> None:
        self._file = Path(data_dir, "queue", "data.mdb")
        self._map_octets = map_octets
        self._most_reserve_octets = reserve_octets
        self._writer = writer
        self._capacity = map_octets
        self._disk_at = self._pages_at = 0.0
        self.reserve_octets = float(reserve_octets)
        """What has to stay free."""
        self.free_octets = float(map_octets)
        """What is, as of the last look."""
        self.outbox_octets = 0
        """What of the rest are events that nobody has taken."""

    def reconfigure(self, reserve_octets: int) -> None:
        """Keep another reserve; the next look takes it up."""
        self._most_reserve_octets = reserve_octets
        self._disk_at = self._pages_at = 0.0

    def look(self) -> None:
        """Look again, unless that was just done."""
        now = time.monotonic()
        if now < self._pages_at + PAGES_S:
            return
        self._pages_at = now
        if now >= self._disk_at + DISK_S:
            self._disk_at = now
            disk = os.statvfs(self._file.parent)
            self._capacity = min(self._map_octets, self._file.stat().st_size + disk.f_bavail * disk.f_frsize)
            self.reserve_octets = min(self._most_reserve_octets, self._capacity / RESERVE_SHARE)
        used, self.outbox_octets = self._writer.used_octets()
        self.free_octets = self._capacity - SLACK * used

"""The paths that are in RAM, and what is to be written down of those that are not needed any more.

Rule: a path is here while it has sessions or queues, and after that until its row is committed: before, the table does
not know yet what was learned.

Pure: no clock, no LMDB. Called by `schedule` alone.
"""

import heapq

from mta.config import Path as Settings
from mta.message import LOCAL_SITE
from mta.queue import paths
from mta.queue.awake import Path
from mta.store import PathRow

__all__ = ["PathBook"]

# Each is 0.9 KB. Where many hosts fail at once, those that are left are more than those that are here.
MOST_LEFT = 1000
# Rows of paths lie anywhere in their table: each takes a page of its own of the commit's memory.
MOST_WRITTEN = 100
SPARE_PAUSES = 1000


class PathBook:
    """All of them, by the name of their site."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._paths: dict[str, Path] = {}
        self._left: dict[str, Path] = {}
        self._to_write: list[Path] = []
        self._written: dict[str, Path] = {}
        self._pauses: list[tuple[int, str]] = []

    def __contains__(self, site: str) -> bool:
        return site in self._paths

    def take(self, site: str, row: PathRow | None) -> Path:
        """Return the path to a site, made as it was remembered if it is not here."""
        path = self._paths.get(site)
        if path is None:
            path = self._left.pop(site, None) or paths.make("", site, self.settings, row)
            self._paths[site] = path
            if path.paused_until:
                self.rest(path)
        return path

    def find(self, site: str) -> Path | None:
        """Return the path to a site, if it is here."""
        return self._paths.get(site)

    def drop(self, site: str) -> bool:
        """Forget a path for good, unwritten; return whether it was here."""
        found = [held.pop(site, None) for held in (self._paths, self._left)]
        return any(path is not None for path in found)

    def maybe_leave(self, path: Path) -> bool:
        """Forget a path that nobody uses; return whether it is forgotten."""
        if path.sessions or path.queues or self._paths.pop(path.site, None) is None:
            return False
        if path.is_changed or self._written.get(path.site) is path:
            self._left[path.site] = path
        return True

    @property
    def is_full(self) -> bool:
        """So many paths wait to be written down that it should be done now."""
        return len(self._left) >= MOST_LEFT

    @property
    def has_more(self) -> bool:
        """Not all that is to be written down was returned yet."""
        return bool(self._to_write)

    def to_remember(self, now: int) -> list[PathRow]:
        """Return some of what changed about paths; what the last call returned must be committed by now."""
        for site, path in self._written.items():
            if not path.is_changed and self._left.get(site) is path:
                del self._left[site]
        self._written = {}
        if not self._to_write:
            # They are taken from the end: those that were left first, for they go from RAM once they are written.
            self._to_write = [path for path in (*self._paths.values(), *self._left.values()) if path.is_changed]
        while self._to_write and len(self._written) < MOST_WRITTEN:
            path = self._to_write.pop()
            is_here = self._paths.get(path.site) is path or self._left.get(path.site) is path
            if is_here and path.is_changed:
                path.is_changed = False
                self._written[path.site] = path
        return [paths.row_of(path, now) for path in self._written.values() if path.site != LOCAL_SITE]

    def rest(self, path: Path) -> None:
        """A path was paused: `rested` returns it when that is over."""
        heapq.heappush(self._pauses, (path.paused_until, path.site))
        if len(self._pauses) > 2 * len(self._paths) + SPARE_PAUSES:
            # Those of paths that are not here come again with them.
            self._pauses = [(path.paused_until, path.site) for path in self._paths.values() if path.paused_until]
            heapq.heapify(self._pauses)

    def rested(self, now: int) -> list[Path]:
        """Return the paths whose pause is over."""
        over: list[Path] = []
        while self._pauses and self._pauses[0][0] <= now:
            path = self._paths.get(heapq.heappop(self._pauses)[1])
            # It may have been paused once more since.
            if path is not None and path.paused_until <= now:
                over.append(path)
        return over

    def next_rested(self) -> int:
        """Return when `rested` has something, in ms; 0 for never."""
        return self._pauses[0][0] if self._pauses else 0

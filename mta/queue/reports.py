"""Parts whose time is up, or that have nowhere to go: what is left of them is a report to the sender, which any worker
can write.

Rule: a part is in here from the moment its timer rang, or its queue was refused, until that is settled. While it is
leased for delivery it waits for what comes of that; from then on it is nobody else's.

Pure: no clock, no LMDB. Called by `schedule` and by the queue process. DESIGN section 5, report leases.
"""

import msgspec

from mta.message import Outcome

__all__ = ["REFUSED", "Reports", "Task"]

REFUSED = 0
"""A kind of report that no timer rings for: there is no way for the part, and `failure` says why."""
MOST_OUT = 50
"""How many reports one worker has at once."""
MOST_WAITING = 1000
"""How many timers are heard before some of their reports are done."""


class Task(msgspec.Struct, frozen=True):
    """An order: let a worker report on these parts. `kind` is the timer's, or REFUSED; `failure` is why their path was
    no way."""

    worker: int
    kind: int
    failure: Outcome | None
    parts: tuple[bytes, ...]


class Reports:
    """All of them."""

    def __init__(self) -> None:
        self._kinds: dict[bytes, tuple[int, Outcome | None]] = {}
        self._delivering: set[bytes] = set()
        self._waiting: dict[bytes, None] = {}
        self._out: dict[bytes, int] = {}

    def __contains__(self, part: bytes) -> bool:
        return part in self._kinds

    @property
    def is_full(self) -> bool:
        """No more timers should be heard for now."""
        return len(self._kinds) >= MOST_WAITING

    def up(self, part: bytes, kind: int, failure: Outcome | None, *, is_leased: bool) -> None:
        """A part's timer rang."""
        if part in self._kinds:
            return
        self._kinds[part] = (kind, failure)
        if is_leased:
            self._delivering.add(part)
        else:
            self._waiting[part] = None

    def drop_refused(self, part: bytes) -> None:
        """An operator has something else in mind for a part than its refusal."""
        if self._kinds.get(part, (0, None))[0] == REFUSED:
            self.done(part)

    def is_up(self, part: bytes) -> bool:
        """Say whether a part that is leased for delivery shall not be tried again."""
        return part in self._delivering

    def is_out(self, part: bytes) -> bool:
        """Say whether a worker writes the report on a part now."""
        return part in self._out

    def came_back(self, part: bytes) -> None:
        """A part was not decided: if its time is up, it is to be reported (again)."""
        if part in self._delivering:
            self._delivering.remove(part)
            self._waiting[part] = None
        elif self._out.pop(part, None) is not None:
            self._waiting[part] = None

    def kept(self, part: bytes) -> None:
        """A worker that checks in again is delivering a part after all."""
        if part in self._waiting:
            del self._waiting[part]
            self._delivering.add(part)

    def done(self, part: bytes) -> None:
        """A part is decided."""
        if self._kinds.pop(part, None) is not None:
            self._delivering.discard(part)
            self._waiting.pop(part, None)
            self._out.pop(part, None)

    def worker_gone(self, worker: int) -> list[bytes]:
        """What a worker had is to be done by another; return it."""
        had = [part for part, of in self._out.items() if of == worker]
        for part in had:
            self.came_back(part)
        return had

    def out(self) -> list[bytes]:
        """Return the parts that workers report on now."""
        return list(self._out)

    def tasks(self, workers: list[int]) -> list[Task]:
        """Hand waiting reports to workers in turn, alike ones together."""
        if not self._waiting:
            return []
        free = dict.fromkeys(workers, MOST_OUT)
        for of in self._out.values():
            if of in free:
                free[of] -= 1
        alike: dict[tuple[int, int, Outcome | None], list[bytes]] = {}
        for part in list(self._waiting):
            worker = max(free, key=free.__getitem__, default=0)
            if not worker or free[worker] <= 0:
                break
            free[worker] -= 1
            del self._waiting[part]
            self._out[part] = worker
            alike.setdefault((worker, *self._kinds[part]), []).append(part)
        return [Task(worker, kind, failure, tuple(parts)) for (worker, kind, failure), parts in alike.items()]

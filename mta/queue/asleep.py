"""Queues that sleep: which of them are to be woken, as the `wake` table says, and which in a hurry.

Rule: a row of that table is behind the place up to which it was read only while its queue is awake; whoever lets a
queue sleep, or cannot wake one that has work, says until when: from there on it is read again. So nothing is lost of
those that RAM has no room for.

Called by the plans.
"""

from mta.store import Writer, number, wake_key

__all__ = ["MOST_HURRIED", "Asleep"]

POLL_MS = 1_000
MOST_HURRIED = 100_000
"""Of more than that an operator's wish to be tried at once is forgotten if their path rests: they wait for its end."""


class Asleep:
    """All of them; the tables know more."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._from = b""
        self.next_at = 0
        """When there is somebody to be woken, in ms."""
        self._hurried: set[int] = set()

    def until(self, wake: int) -> None:
        """A queue sleeps until then; which may be now."""
        self.next_at = min(self.next_at, wake + 1)
        self._from = min(self._from, wake_key(wake, 0))

    def hurry(self, queue: int, due: int) -> None:
        """An operator wants what is due now in a queue tried at once: it sleeps until there is room in RAM."""
        if len(self._hurried) < MOST_HURRIED:
            self._hurried.add(queue)
        self.until(due)

    def is_hurried(self, queue: int) -> bool:
        """Say, once, of a queue that was woken whether an operator wanted that."""
        if queue not in self._hurried:
            return False
        self._hurried.remove(queue)
        return True

    def due(self, most: int, now: int) -> list[int]:
        """Return up to so many queues whose time has come; they must be awake from then on."""
        found: list[int] = []
        rows = self._writer.look("wake", self._from, most)
        for key, _ in rows:
            wake = number(key)
            if wake >= now:
                self.next_at = wake + 1
                return found
            # What is put into the table from now on sorts behind `now`.
            self._from = key + b"\0"
            found.append(number(key[8:]))
        self.next_at = now if len(rows) == most else now + POLL_MS
        return found

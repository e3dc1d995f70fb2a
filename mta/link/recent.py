"""Messages that this worker put lately: those that are leased to it at once need not be read from the queue.

Rule: what is in here is the message as it was put. Whoever asks has to know that it still stands so in the queue, which
the queue process says with the lease. What is not here any more is read: nothing is kept for long.

Filled by QueueLink, asked by the worker's dispatch.
"""

from collections.abc import Sequence

from mta.link.frames import PutHead

__all__ = ["Recent"]

# Of one worker. Most messages are leased within milliseconds of their commit, half of them to another worker.
KEPT_OCTETS = 8_388_608
# What the rest of a message takes, about.
HEAD_OCTETS = 1024


class Recent:
    """The last few MB, by id."""

    def __init__(self) -> None:
        self._messages: dict[bytes, tuple[PutHead, Sequence[bytes], int]] = {}
        self._octets = 0

    def add(self, head: PutHead, content: Sequence[bytes]) -> None:
        """Keep a message that is delivered as a whole; those that are the longest here make room for it."""
        if len(head.parts) > 1 or head.id in self._messages:
            return
        octets = sum(map(len, content))
        self._messages[head.id] = (head, content, octets)
        self._octets += octets + HEAD_OCTETS
        while self._octets > KEPT_OCTETS:
            self.drop(next(iter(self._messages)))

    def find(self, id_: bytes) -> tuple[PutHead, int] | None:
        """Return what was put of a message, and the octets of its content; None if it is not here any more."""
        known = self._messages.get(id_)
        return None if known is None else (known[0], known[2])

    def content(self, id_: bytes) -> bytes | None:
        """Return its content, or None."""
        known = self._messages.get(id_)
        return None if known is None else b"".join(known[1])

    def drop(self, id_: bytes) -> None:
        """Forget a message: it will not be asked for again."""
        known = self._messages.pop(id_, None)
        if known is not None:
            self._octets -= known[2] + HEAD_OCTETS

"""Messages that this worker put lately: those that are leased to it at once need not be read from the queue.

Rule: what is in here is the message as it was put. Whoever asks has to know that it still stands so in the queue, which
the queue process says with the lease. What is not here any more is read: there is a limit in octets, and one in time.

Filled by QueueLink, asked by the worker's dispatch.
"""

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from mta.link.frames import PutHead

__all__ = ["Recent"]

# Of one worker. Most messages are leased within milliseconds of their commit, and most of those to who put them.
KEPT_OCTETS = 8_388_608
KEPT_S = 5.0
# What a head takes beside its strings, about; and an octet of those, where it is no ASCII, up to so many.
HEAD_OCTETS = 1024
STRING_OCTETS = 2


class Kept(msgspec.Struct, frozen=True):
    """A message; `octets` are those of its content, `room` is what it counts for, `since_s` when it was put."""

    head: PutHead
    content: Sequence[bytes]
    octets: int
    room: int
    since_s: float


class Recent:
    """The last few MB, of the last few seconds, by id."""

    def __init__(self) -> None:
        self._messages: OrderedDict[bytes, Kept] = OrderedDict()
        self._octets = 0

    def add(self, head: PutHead, head_octets: int, content: Sequence[bytes], now_s: float) -> None:
        """Keep a message of one part; the oldest make room for it.

        `head_octets` are those of the encoded head, `now_s` the loop's time.
        """
        if len(head.parts) > 1 or head.id in self._messages:
            return
        octets = sum(map(len, content))
        room = octets + HEAD_OCTETS + STRING_OCTETS * head_octets
        self._messages[head.id] = Kept(head, content, octets, room, now_s)
        self._octets += room
        while self._octets > KEPT_OCTETS:
            self._octets -= self._messages.popitem(last=False)[1].room

    def find(self, id_: bytes) -> tuple[PutHead, int] | None:
        """Return what was put of a message, and the octets of its content; None if it is not here any more."""
        known = self._messages.get(id_)
        return None if known is None else (known.head, known.octets)

    def content(self, id_: bytes) -> bytes | None:
        """Return its content, or None."""
        known = self._messages.get(id_)
        return None if known is None else b"".join(known.content)

    def drop(self, id_: bytes) -> None:
        """Forget a message: it will not be asked for again."""
        known = self._messages.pop(id_, None)
        if known is not None:
            self._octets -= known.room

    def expire(self, now_s: float) -> None:
        """Forget what nobody has asked for; to be called once a second."""
        while self._messages:
            id_ = next(iter(self._messages))
            if self._messages[id_].since_s > now_s - KEPT_S:
                return
            self.drop(id_)

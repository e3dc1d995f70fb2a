"""Messages that go to the queue process in parts: what of them was not answered, and has to be said again.

Rule: a part is kept until it is answered and no longer; an abort is said until it is answered. The end of a stream
waits among the PUTs, for it is answered like one: when the link was lost, parts are said before those, aborts after.

Used by QueueLink alone.
"""

from collections import deque
from collections.abc import Iterator

import msgspec

from mta.link.contract import PartWaiter
from mta.link.frames import Kind, frame
from mta.link.parts import part_head
from mta.reply import Reply

__all__ = ["Streams"]


class Waiting(msgspec.Struct):
    """A part that was not answered."""

    number: int
    octets: memoryview
    sent_at: float


class Streams:
    """Parts and aborts without an answer, for all messages of one worker."""

    def __init__(self) -> None:
        self._parts: dict[bytes, deque[Waiting]] = {}
        self._waiters: dict[bytes, PartWaiter] = {}
        self._aborted: dict[bytes, None] = {}

    @property
    def n_pending(self) -> int:
        """Parts and aborts that are not answered."""
        return sum(map(len, self._parts.values())) + len(self._aborted)

    def add(self, id_: bytes, number: int, octets: memoryview, waiter: PartWaiter, now_s: float) -> list[bytes]:
        """Keep a part until it is answered; return its frame in pieces."""
        self._waiters[id_] = waiter
        self._parts.setdefault(id_, deque()).append(Waiting(number, octets, now_s))
        return _pieces(id_, number, octets, repeat=False)

    def abort(self, id_: bytes) -> bytes:
        """Forget the parts of a message, keep its abort; return the frame."""
        self._forget(id_)
        self._aborted[id_] = None
        return frame(Kind.PUT_ABORT, id_)

    def again(self) -> Iterator[bytes]:
        """Yield the pieces of every part's frame, in order, as a repeat."""
        for id_, waiting in self._parts.items():
            for part in waiting:
                yield from _pieces(id_, part.number, part.octets, repeat=True)

    def aborts_again(self) -> Iterator[bytes]:
        """Yield the frame of every abort."""
        return (frame(Kind.PUT_ABORT, id_) for id_ in self._aborted)

    def stored(self, id_: bytes, number: int) -> None:
        """A part was committed."""
        waiting = self._parts.get(id_)
        # What was said again may be answered twice, and what was aborted too late.
        if waiting and waiting[0].number == number:
            waiting.popleft()
            waiter = self._waiters[id_]
            if not waiting:
                self._forget(id_)
            waiter.part_stored()

    def refused(self, id_: bytes, reply: Reply) -> None:
        """A part was not: the message cannot come to its end any more."""
        waiter = self._waiters.get(id_)
        self._forget(id_)
        if waiter is not None:
            waiter.refused(reply)

    def aborted(self, id_: bytes) -> None:
        """An abort was answered."""
        self._aborted.pop(id_, None)

    def expire(self, until_s: float, reply: Reply) -> None:
        """Refuse whatever has waited since before `until_s`."""
        for id_, waiting in list(self._parts.items()):
            if waiting[0].sent_at <= until_s:
                self.refused(id_, reply)

    def _forget(self, id_: bytes) -> None:
        self._parts.pop(id_, None)
        self._waiters.pop(id_, None)


def _pieces(id_: bytes, number: int, octets: memoryview, *, repeat: bool) -> list[bytes]:
    # To a transport a memoryview is as good as bytes, and nothing is copied.
    return [part_head(id_, number, len(octets), repeat=repeat), octets]  # type: ignore[list-item]

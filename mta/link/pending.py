"""Messages that were handed to the queue process and not answered, and those that were taken back meanwhile.

Rule: each PUT, PUT_END and WITHDRAW has one answer, in order; all that were had over a connection are counted, and the
queue process is told how many. What was taken back is not said again: only that it was.

Used by QueueLink alone.
"""

from collections.abc import Iterator, Sequence

import msgspec

from mta.link.contract import Waiter
from mta.link.frames import Kind, Refused, frame, put_pieces
from mta.link.parts import end_pieces
from mta.message import ID_OCTETS
from mta.reply import Reply

__all__ = ["Pending", "Puts"]


class Pending(msgspec.Struct):
    """A PUT, or a PUT_END behind `n_parts` parts, that was not answered."""

    head: bytes
    content: Sequence[bytes]
    waiter: Waiter
    sent_at: float
    n_parts: int = 0
    octets: int = 0

    def pieces(self, confirmed: int, repeat: bool) -> list[bytes]:
        """Return the frame to say it with, in pieces."""
        if self.n_parts:
            return end_pieces(self.head, self.content, confirmed, repeat, self.n_parts, self.octets)
        return put_pieces(self.head, self.content, confirmed, repeat)


class Puts:
    """All of one worker; `n_confirmed` answers were had over the connection that is open now."""

    def __init__(self) -> None:
        self._pending: dict[bytes, Pending] = {}
        # By id, how many answers are still to come: to the WITHDRAW, and to a PUT before it.
        self._withdrawn: dict[bytes, int] = {}
        self.n_confirmed = 0

    def __len__(self) -> int:
        return len(self._pending) + len(self._withdrawn)

    def add(self, id_: bytes, pending: Pending) -> list[bytes]:
        """Keep a message until it is answered; return its frame in pieces."""
        self._pending[id_] = pending
        return pending.pieces(self.n_confirmed, False)

    def withdraw(self, id_: bytes, *, is_up: bool) -> bytes | None:
        """Take a message back for which nobody waits any more; return the frame, None if it was not pending."""
        if self._pending.pop(id_, None) is None:
            return None
        self._withdrawn[id_] = 2 if is_up else 1
        return frame(Kind.WITHDRAW, id_)

    def again(self) -> Iterator[bytes]:
        """Yield the pieces of every message's frame, as a repeat, over a new connection."""
        return (piece for pending in self._pending.values() for piece in pending.pieces(0, True))

    def withdrawals_again(self) -> list[bytes]:
        """Return the frames that take messages back, over a new connection."""
        self._withdrawn = dict.fromkeys(self._withdrawn, 1)
        return [frame(Kind.WITHDRAW, id_) for id_ in self._withdrawn]

    def expire(self, until_s: float, reply: Reply, *, is_up: bool) -> list[bytes]:
        """Refuse and take back whatever has waited since before `until_s`; return the frames that say so.

        `is_up`: the messages were sent over a connection that is still there, and will be answered, too.
        """
        frames: list[bytes] = []
        for id_, pending in list(self._pending.items()):
            # Oldest first: a dict keeps the order in which the messages were put.
            if pending.sent_at > until_s:
                break
            del self._pending[id_]
            self._withdrawn[id_] = 2 if is_up else 1
            frames.append(frame(Kind.WITHDRAW, id_))
            pending.waiter.refused(reply)
        return frames

    def stored(self, ids: bytes) -> None:
        """Take the payload of a STORED."""
        for start in range(0, len(ids), ID_OCTETS):
            self.n_confirmed += 1
            id_ = ids[start : start + ID_OCTETS]
            pending = self._pending.pop(id_, None)
            if pending is not None:
                pending.waiter.stored()
            elif self._withdrawn:
                self._count(id_)

    def refused(self, refused: Refused) -> None:
        """Take a REFUSED."""
        self.n_confirmed += 1
        pending = self._pending.pop(refused.id, None)
        if pending is not None:
            pending.waiter.refused(Reply(refused.code, refused.enhanced, refused.text))
        else:
            self._count(refused.id)

    def _count(self, id_: bytes) -> None:
        n_left = self._withdrawn.pop(id_, 1) - 1
        if n_left:
            self._withdrawn[id_] = n_left

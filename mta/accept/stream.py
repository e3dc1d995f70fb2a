"""A message that is too large for one PUT: handed on in parts while it still comes in.

Rule: of the message only parts without an answer are in memory, and the one that is being filled. Past MOST_UNANSWERED
of them `is_full` says that the client must wait; so it feels a slow disk through TCP, and nothing grows.

The connection makes one when a body turns out to be large, feeds it, and ends it: by `finish` or by `abort`. Once
something is wrong (`failure`) it takes the rest of the body and keeps none of it: the client is told at the true end.
The link knows it as the waiter for its parts and for its end.
"""

from typing import Protocol

from mta._fast import count_received, has_8bit_header, normalize
from mta.accept.envelope import REPLY_552_NORMALIZED, Origin
from mta.accept.shared import Shared
from mta.link import PART_OCTETS
from mta.reply import REPLY_452_STORAGE, REPLY_554_LOOP, Reply
from mta.smtp import Message, Session

__all__ = ["Owner", "Stream"]

MOST_UNANSWERED = 2


class Owner(Protocol):
    """The connection."""

    def stored(self) -> None:
        """The message is on the disk."""

    def refused(self, reply: Reply) -> None:
        """It is not, although it came to its end."""

    def go_on(self) -> None:
        """There is room for more of it."""


class Stream:
    """One such message; `id` is its own from the start, for its parts are stored under it."""

    __slots__ = (
        "_has_8bit_fields",
        "_has_ended",
        "_is_over",
        "_kept",
        "_mends",
        "_n_filled",
        "_n_octets",
        "_n_parts",
        "_n_unanswered",
        "_owner",
        "_room",
        "_shared",
        "failure",
        "id",
    )

    def __init__(self, shared: Shared, owner: Owner, first: bytes) -> None:
        """Begin with the `first` piece, which should be large enough to hold the header section."""
        self.id = shared.ids.make()
        self.failure: Reply | None = None
        """Why the message cannot be taken any more."""
        self._shared = shared
        self._owner = owner
        self._mends = shared.limits.bare_newline == "normalize"
        self._kept = b""
        self._room: memoryview | None = None
        self._n_filled = 0
        self._n_octets = 0
        self._n_parts = 0
        self._n_unanswered = 0
        self._has_ended = False
        self._is_over = False
        header = self._mend(first) if self._mends else first
        # Nobody sees the rest of a header section as long as that: it counts as 8-bit if anything is.
        is_whole = header.startswith(b"\r\n") or b"\r\n\r\n" in header
        self._has_8bit_fields = has_8bit_header(header) or not is_whole
        if count_received(header) > shared.builder.max_received:
            self._fail(REPLY_554_LOOP)
        else:
            self._store(header)

    @property
    def is_full(self) -> bool:
        """The client has to wait."""
        return self._n_unanswered >= MOST_UNANSWERED

    def add(self, data: bytes) -> None:
        """Take more of the body."""
        if self.failure is None:
            self._store(self._mend(data) if self._mends else data)

    def finish(self, session: Session, origin: Origin, event: Message) -> Reply | None:
        """The body is whole: hand it over, and the owner hears once; or return the reply that refuses it."""
        if self.failure is None and self._kept:
            self._store(normalize(self._kept))
        if self.failure is not None:
            return self.failure
        if self._n_filled:
            self._send()
        head, received = self._shared.builder.head(
            self.id,
            session,
            origin,
            self._n_octets,
            has_8bit=event.has_8bit,
            has_8bit_fields=event.has_8bit and self._has_8bit_fields,
        )
        self._has_ended = True
        self._shared.link.put(head, (received,), self, self._n_parts, len(received) + self._n_octets)
        return None

    def abort(self) -> None:
        """The client is gone, or the message is refused: nothing of it shall stay. What was finished goes its way."""
        if not self._has_ended:
            self._give_up()

    # What the link tells

    def part_stored(self) -> None:
        """A part is on the disk."""
        if self._n_unanswered:
            self._n_unanswered -= 1
            self._shared.release(PART_OCTETS)
            self._owner.go_on()

    def stored(self) -> None:
        """All of it is."""
        self._release()
        self._owner.stored()

    def refused(self, reply: Reply) -> None:
        """A part is not, or the whole."""
        if self._is_over:
            return
        self._fail(reply)
        if self._has_ended:
            self._owner.refused(reply)
        else:
            self._owner.go_on()

    # Inside

    def _mend(self, data: bytes) -> bytes:
        """Return `data` with its line ends mended; a CR at its end waits for what comes behind."""
        data = self._kept + data
        self._kept = b"\r" if data.endswith(b"\r") else b""
        return normalize(data[:-1] if self._kept else data)

    def _store(self, data: bytes) -> None:
        self._n_octets += len(data)
        if self._n_octets > self._shared.max_octets:
            self._fail(REPLY_552_NORMALIZED)
            return
        left = memoryview(data)
        while left:
            if self._room is None:
                if not self._shared.hold(PART_OCTETS):
                    self._fail(REPLY_452_STORAGE)
                    self._shared.release(PART_OCTETS)
                    return
                self._room = memoryview(bytearray(PART_OCTETS))
            n_octets = min(len(left), PART_OCTETS - self._n_filled)
            self._room[self._n_filled : self._n_filled + n_octets] = left[:n_octets]
            self._n_filled += n_octets
            left = left[n_octets:]
            if self._n_filled == PART_OCTETS:
                self._send()

    def _send(self) -> None:
        room, n_filled = self._room, self._n_filled
        if room is not None:
            self._room, self._n_filled = None, 0
            self._n_unanswered += 1
            self._n_parts += 1
            self._shared.link.part(self.id, self._n_parts - 1, room[:n_filled].toreadonly(), self)

    def _fail(self, reply: Reply) -> None:
        self.failure = reply
        self._give_up()

    def _give_up(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._release()
        if self._n_parts:
            self._shared.link.abort(self.id)

    def _release(self) -> None:
        n_rooms = self._n_unanswered + (self._room is not None)
        self._shared.release(n_rooms * PART_OCTETS)
        self._room, self._n_filled, self._n_unanswered = None, 0, 0

"""The message that a client is sending: in one piece while it is small, a stream to the queue process once it is not.

Rule: there is at most one for a connection, and it takes a body to its true end whatever happens meanwhile: what cannot
be kept is read and dropped, and the client is told at that end.
"""

from mta.accept.envelope import Origin
from mta.accept.shared import Shared
from mta.accept.stream import Owner, Stream
from mta.link import PUT_OCTETS
from mta.reply import REPLY_452_STORAGE, Reply
from mta.smtp import Message, Session

__all__ = ["Intake"]


class Intake:
    """Of one connection, used for one message after the other.

    It is told who owns it where that matters, and does not know: connections come and go by the thousand, and what
    refers to itself in a circle is left to the garbage collector.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._chunks: list[bytes] = []
        self._n_octets = 0
        self._void: Reply | None = None
        self._stream: Stream | None = None

    @property
    def is_streaming(self) -> bool:
        """The message has turned out to be a large one."""
        return self._stream is not None

    @property
    def is_full(self) -> bool:
        """Nothing more can be taken before `Owner.go_on`."""
        return self._stream is not None and self._stream.is_full

    def add(self, data: bytes, owner: Owner) -> None:
        """Take more of the body; `owner` hears of a large message when it can go on."""
        if self._stream is not None:
            self._stream.add(data)
        elif self._void is None:
            self._chunks.append(data)
            self._n_octets += len(data)
            if not self._shared.hold(len(data)):
                # Read on to the end of the message, but keep none of it.
                self.drop()
                self._void = REPLY_452_STORAGE
            elif self._n_octets > PUT_OCTETS:
                first = b"".join(self._chunks)
                self.drop()
                self._stream = Stream(self._shared, owner, first)

    def drop(self) -> None:
        """Forget it, or let go of what is answered."""
        if self._stream is not None:
            self._stream.abort()
            self._stream = None
        self._shared.release(self._n_octets)
        self._chunks, self._n_octets, self._void = [], 0, None

    def finish(self, session: Session, origin: Origin, event: Message, owner: Owner) -> Reply | bytes:
        """Hand the message to the link and return its id, `owner` hears the rest; or return why it is not taken."""
        shared, stream = self._shared, self._stream
        if stream is not None:
            return stream.finish(session, origin, event) or stream.id
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = []
        id_ = shared.ids.make()
        built = self._void or shared.builder.build(
            id_, session, origin, body, bare=event.bare_line_end, has_8bit=event.has_8bit
        )
        if isinstance(built, Reply):
            return built
        shared.link.put(built[0], built[1], owner)
        return id_

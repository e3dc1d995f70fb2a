"""One connection to the queue process, and who is behind it once HELLO was said."""

from mta.link import Connection, Hello, Kind, Refused, Settled, frame
from mta.queue.workers import Worker
from mta.reply import Reply

__all__ = ["Guest"]
# Bound once: see ARCHITECTURE, Choices.
STORED, SETTLED = Kind.STORED, Kind.SETTLED


class Guest:
    """A worker's *in* or *out* connection (`role`), or a command that asks. `is_all` while nothing waits to be sent.

    `hello` is what a worker said that it holds, until that has been taken in, but for what it `settled_since`. Answers
    to PUTs are gathered and said in the order of what they answer: workers count them.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.worker: Worker | None = None
        self.role = ""
        self.hello: Hello | None = None
        self.settled_since: set[bytes] = set()
        self.is_all = True
        self._stored: list[bytes] = []
        self._n_settled = 0

    @property
    def known(self) -> Worker:
        """The worker behind the connection. Raises ValueError before HELLO."""
        if self.worker is None:
            raise ValueError("a frame came before HELLO")
        return self.worker

    def stored(self, id_: bytes) -> None:
        """A PUT is committed."""
        self._stored.append(id_)

    def settled(self) -> None:
        """A SETTLE frame is committed."""
        self._n_settled += 1

    def refused(self, id_: bytes, reply: Reply) -> None:
        """A PUT is not, and will not be."""
        self.say()
        self.connection.send(frame(Kind.REFUSED, Refused(id_, reply.code, reply.enhanced, reply.text)))

    def part_refused(self, id_: bytes, reply: Reply) -> None:
        """A part of a message is not stored, and neither will be what follows."""
        self.connection.send(frame(Kind.PART_REFUSED, Refused(id_, reply.code, reply.enhanced, reply.text)))

    def say(self) -> None:
        """Send the answers that were gathered."""
        if self._stored:
            self.connection.send(frame(STORED, b"".join(self._stored)))
            self._stored.clear()
        if self._n_settled:
            self.connection.send(frame(SETTLED, Settled(self._n_settled)))
            self._n_settled = 0

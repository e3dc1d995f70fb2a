"""One connection to the queue process, and who is behind it once HELLO was said."""

from mta.link import Connection, Kind, Refused, frame
from mta.queue.workers import Worker
from mta.reply import Reply

__all__ = ["Guest"]


class Guest:
    """A worker's *in* or *out* connection (`role`), or a command that asks. `is_all` while nothing waits to be sent."""

    __slots__ = ("connection", "is_all", "role", "worker")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.worker: Worker | None = None
        self.role = ""
        self.is_all = True

    @property
    def known(self) -> Worker:
        """The worker behind the connection. Raises ValueError before HELLO."""
        if self.worker is None:
            raise ValueError("a frame came before HELLO")
        return self.worker

    def say_stored(self, ids: list[bytes]) -> None:
        """Answer PUTs that are committed."""
        if ids:
            self.connection.send(frame(Kind.STORED, b"".join(ids)))

    def say_refused(self, id_: bytes, reply: Reply) -> None:
        """Answer a PUT that is not."""
        self.connection.send(frame(Kind.REFUSED, Refused(id_, reply.code, reply.enhanced, reply.text)))

"""The server's side of SMTP: a connection with one message, one command a read, as `mta.accept.protocol` drives it."""

from bench.work.mail import BODY, HOSTNAME, RECIPIENT, SENDER, id_of
from mta.config import Limits
from mta.reply import REPLY_250_OK, Reply
from mta.smtp import REPLY_354_GO_AHEAD, Chunk, Data, Hello, Mail, Message, Pause, Quit, Rcpt, Session

__all__ = ["SessionWork"]


class SessionWork:
    """Greeting, EHLO, MAIL, RCPT, DATA, 4 KB, QUIT."""

    def __init__(self) -> None:
        self._limits = Limits()
        self._n_messages = 0
        self._chunks: list[bytes] = []
        self._reads = (
            b"EHLO source.example.test\r\n",
            f"MAIL FROM:<{SENDER}> SIZE={len(BODY)}\r\n".encode(),
            f"RCPT TO:<{RECIPIENT}>\r\n".encode(),
            b"DATA\r\n",
            BODY + b".\r\n",
            b"QUIT\r\n",
        )

    def run(self, n_messages: int) -> None:
        """Serve so many connections."""
        for _ in range(n_messages):
            session = Session(HOSTNAME, self._limits, self._limits.message_octets)
            session.greet()
            output = session.output()
            for read in self._reads:
                session.receive(read)
                self._pull(session)
                output = session.output()
            if not output.startswith(b"221 ") or session.n_messages != 1 or b"".join(self._chunks) != BODY:
                raise RuntimeError(f"the session took {session.n_messages} messages and ended with {output!r}")
            self._chunks.clear()

    def _pull(self, session: Session) -> None:
        while True:
            event = session.next_event()
            kind = type(event)
            if kind is Pause:
                return
            if kind in (Rcpt, Mail, Hello):
                session.answer(REPLY_250_OK)
            elif kind is Data:
                session.answer(REPLY_354_GO_AHEAD)
            elif isinstance(event, Chunk):
                self._chunks.append(event.data)
            elif kind is Message:
                self._n_messages += 1
                session.answer(Reply(250, "2.0.0", f"Ok: queued as {id_of(self._n_messages).hex()}"))
            elif kind is not Quit:
                raise RuntimeError(f"the session tells {event!r}")

    def close(self) -> None:
        """There is nothing to take down."""

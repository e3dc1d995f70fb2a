"""Our side of SMTP: a kept connection to a next hop with PIPELINING, one message after the other."""

from collections.abc import Callable
from functools import partial

import msgspec

from bench.work.mail import BODY, DELIVERED, FIELD, HOSTNAME, RECIPIENT, SENDER
from mta.config import Deliver
from mta.smtp import Client, Done, Ready

__all__ = ["ClientWork"]


class Letter(msgspec.Struct, frozen=True):
    """What of a job the client looks at."""

    sender: str
    recipients: tuple[tuple[int, str], ...]
    octets: int
    has_8bit: bool
    utf8: bool
    n_pieces: int
    read: Callable[[int], bytes]


def _content(content: bytes, _piece: int) -> bytes:
    return content


class ClientWork:
    """MAIL, RCPT and DATA in one write, their replies in one read; the body, and its reply."""

    def __init__(self) -> None:
        self._content = FIELD + BODY
        self._client = client = Client(HOSTNAME, DELIVERED.remote_mta, Deliver())
        client.receive(b"220 mx.sink.example.test ESMTP\r\n")
        client.receive(b"250-mx.sink.example.test\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250 8BITMIME\r\n")
        if client.events() != [Ready()] or client.output() != [f"EHLO {HOSTNAME}\r\n".encode()]:
            raise RuntimeError("the client did not take to its peer")

    def run(self, n_messages: int) -> None:
        """Send so many messages."""
        client = self._client
        for _ in range(n_messages):
            read = partial(_content, self._content)
            client.deliver(Letter(SENDER, ((0, RECIPIENT),), len(self._content), False, False, 1, read))
            sent = b"".join(client.output())
            client.receive(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n")
            sent += b"".join(client.output())
            client.receive(b"250 2.0.0 Ok: queued as 4A1B2C3D4E\r\n")
            (event,) = client.events()
            if not isinstance(event, Done) or event.outcomes != [(0, DELIVERED)] or not sent.endswith(b"\r\n.\r\n"):
                raise RuntimeError(f"the client tells {event!r}")

    def close(self) -> None:
        """There is nothing to take down."""

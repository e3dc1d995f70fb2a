"""The message that all the work is about: 4 KB, one recipient, relayed to one next hop, delivered at the first try.

Rule: everything that it is called, said and answered with is as long as in a relay between two real hosts.
"""

from mta.link import PutHead, PutPart
from mta.message import Outcome, QueueName
from mta.report import Received
from mta.report import encode as encode_event

__all__ = [
    "BODY",
    "DELIVERED",
    "FIELD",
    "GROUP",
    "HOSTNAME",
    "HOSTS",
    "QUEUE_NAME",
    "RECIPIENT",
    "SENDER",
    "SITE",
    "T0",
    "id_of",
    "put_head",
]

T0 = 1_700_000_000_000
"""When all of it happens, in ms."""
GROUP = 8
"""Messages that come together: what a commit holds when 50 connections send."""
HOSTNAME = "mx.relay.example.test"
SENDER = "newsletter-1234@source.example.test"
RECIPIENT = "someone.else@sink.example.test"
SITE = "sink.example.test"
HOSTS = (("192.0.2.25", 25),)
QUEUE_NAME = QueueName("default", "", 0, "sink.example.test", "")
DELIVERED = Outcome(
    "delivered", 250, "2.0.0", "accepted", "mx.sink.example.test [192.0.2.25]", "2.0.0 Ok: queued as 4A1B2C3D4E"
)
FIELD = (
    b"Received: from source.example.test ([192.0.2.1])\r\n\tby mx.relay.example.test with ESMTP\r\n"
    b"\tid 018bcfe568000009004d00000001 for <someone.else@sink.example.test>;\r\n\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
)
_FIELDS = (
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nFrom: Newsletter <newsletter-1234@source.example.test>\r\n"
    b"To: Someone Else <someone.else@sink.example.test>\r\nSubject: What there is to tell this week\r\n"
    b"Message-ID: <20231114221320.4711@source.example.test>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=us-ascii\r\n\r\n"
)
_LINE = b"The quick brown fox jumps over the lazy dog, and the lazy dog lets it jump. \r\n"
OCTETS = 4096
BODY = (_FIELDS + _LINE * 52)[: OCTETS - 2] + b"\r\n"
"""4,096 octets, no line of which begins with a dot."""


def id_of(number: int) -> bytes:
    """Return the id of the message of that number; ids rise with the numbers, as the worker's do."""
    return number.to_bytes(16, "big")


def put_head(number: int) -> PutHead:
    """Return everything about a message but its content."""
    id_ = id_of(number)
    client, hello = "192.0.2.1", "source.example.test"
    event = Received(T0, id_, "default", SENDER, 1, len(FIELD) + len(BODY), client, hello, "ESMTP", "mx", b"")
    part = PutPart(QUEUE_NAME, 0, (RECIPIENT,))
    return PutHead(id_, SENDER, T0, 432_000_000, "default", "", 0, (part,), encode_event(event))

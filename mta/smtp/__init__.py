"""SMTP without sockets and clocks: bytes in, events and bytes out. RFC 5321.

`Session` is the server's side of a connection, driven by `accept`. The client's side is in `client`.
"""

from mta.smtp.address import NULL_PATH
from mta.smtp.client import Client
from mta.smtp.events import Chunk, Data, Event, Hello, Mail, Message, Pause, Quit, Rcpt, Refused
from mta.smtp.letter import Done, Letter, Over, Ready, TryNext
from mta.smtp.outcomes import POSSIBLE_REPEAT
from mta.smtp.received import DateStamp, received_field
from mta.smtp.replies import REPLY_354_GO_AHEAD, REPLY_421_TIMEOUT
from mta.smtp.session import Session
from mta.smtp.states import State

__all__ = [
    "NULL_PATH",
    "POSSIBLE_REPEAT",
    "REPLY_354_GO_AHEAD",
    "REPLY_421_TIMEOUT",
    "Chunk",
    "Client",
    "Data",
    "DateStamp",
    "Done",
    "Event",
    "Hello",
    "Letter",
    "Mail",
    "Message",
    "Over",
    "Pause",
    "Quit",
    "Rcpt",
    "Ready",
    "Refused",
    "Session",
    "State",
    "TryNext",
    "received_field",
]

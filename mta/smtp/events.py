"""What a server Session asks of whoever drives it, or tells them. Frozen values without garbage-collector tracking.

Hello, Mail, Rcpt, Data and Message wait for a verdict: the driver calls `Session.answer(reply)` once for each, and a
reply below 400 is what makes the state move. The others are told and done.
"""

import enum

import msgspec

from mta.message import Address
from mta.reply import Reply

__all__ = ["Chunk", "Data", "Event", "Hello", "Mail", "Message", "Pause", "Quit", "Rcpt", "Refused"]


class Hello(msgspec.Struct, frozen=True, gc=False):
    """EHLO or HELO with a well-formed name. Answer REPLY_250_OK (the session puts its own text in) or a refusal."""

    name: str
    esmtp: bool


class Mail(msgspec.Struct, frozen=True, gc=False):
    """MAIL FROM. `size` is the SIZE parameter, 0 when it was not given."""

    sender: Address
    size: int
    body_8bit: bool
    utf8: bool


class Rcpt(msgspec.Struct, frozen=True, gc=False):
    """RCPT TO. A bare <Postmaster> has domain ""."""

    recipient: Address


class Data(msgspec.Struct, frozen=True, gc=False):
    """DATA with at least one recipient. Answer with a 354 or a refusal."""


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """Un-stuffed body octets of one network read; none come once the message is known to be refused."""

    data: bytes


class Message(msgspec.Struct, frozen=True, gc=False):
    """The end of data was read and the session has nothing against the message. Its 250 or refusal is the answer."""

    octets: int
    bare_line_end: bool
    has_8bit: bool


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The session itself refused something; told for the record, no answer wanted.

    `stage` is helo, mail, rcpt, data or message; `argument` what the client gave, escaped.
    After stage "message" the transaction is over and its chunks are void.
    """

    stage: str
    reply: Reply
    argument: str


class Quit(msgspec.Struct, frozen=True, gc=False):
    """The session is over: write what `output()` still holds, then close. `reason` is quit, errors, timeout,
    shutdown, or refused (a refused greeting, or a 421 as the answer)."""

    reason: str


class Pause(enum.Enum):
    """Why there is no event now."""

    NEED_DATA = enum.auto()
    """Everything that was received is worked off."""
    VERDICT = enum.auto()
    """An event waits for `answer`."""
    DELAY = enum.auto()
    """The client made many errors: hold back what `output()` would give for `error_delay_s`, then call `resume()`."""


Event = Hello | Mail | Rcpt | Data | Chunk | Message | Refused | Quit

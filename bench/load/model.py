"""What is sent, what came of it, what arrived, and how the sink shall misbehave: the words of `bench.load`."""

from collections.abc import Sequence
from typing import Literal

import msgspec

__all__ = ["Load", "Rule", "Sent", "Stage", "Tally"]

Stage = Literal["connect", "ehlo", "mail", "rcpt", "data", "message"]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What the source sends, and how. One of `messages` and `seconds` says when it is over."""

    messages: int = 0
    """Stop after so many; 0 is by `seconds`."""
    seconds: float = 0.0
    """Begin no message after so long."""
    connections: int = 50
    rate: float = 0.0
    """Messages a second, on a schedule that waits for nobody (open loop); 0 sends as fast as is answered (closed)."""
    pipelining: bool = True
    """MAIL, RCPT and DATA in one write, if the server offers it. RFC 2920."""
    fresh: bool = False
    """A connection of its own for each message."""
    octets: int = 4096
    """Of a whole message, before dots are doubled."""
    folder: str = ""
    """Send the mails found in this folder, in turn, instead of made ones of `octets`."""
    domains: int = 1
    """Recipients are spread over d0.DOMAIN, d1.DOMAIN...; with 1 all are at DOMAIN itself."""
    domain: str = "sink.test"


class Sent(msgspec.Struct, kw_only=True):
    """What came of one load. Times are of the clock that starts when all connections are ready."""

    run: str
    """Names the run, in each of its messages."""
    offered: int
    """Messages begun. What is neither accepted nor refused was under way when a connection broke."""
    accepted: int
    """Messages that got their 250."""
    refused: dict[str, int]
    """Messages that got another answer, by its code, such as "451"."""
    broken: int
    """Connections that were lost or told 421, or could not be made; each was made again."""
    lasted_s: float
    """From the first message to the last answer."""
    cpu_s: float
    """CPU seconds of the source within that time."""
    late: int
    """Open loop: messages begun more than 1 ms after their time, for want of a free connection or of CPU."""
    reply_us: str
    """Latencies from the end of data to the 250: an encoded HDR histogram of microseconds."""
    whole_us: str
    """The same from MAIL, or in an open loop from the time that the schedule had for it, to the 250."""
    numbers: bytes
    """Which messages were accepted: a bitmap, by number, the lowest bit first."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What of one run the sink has answered with 250."""

    messages: int
    """Distinct ones."""
    doubled: int
    """Arrivals of what had arrived before."""
    changed: int
    """Arrivals with a content that was not the one sent."""
    unknown: int
    """Messages without an id, of whatever run."""
    lasted_s: float
    """From MAIL of the first one (open loop: its scheduled time) to the end of data of the last one at the sink."""
    deliveries_us: str
    """Latencies from MAIL (open loop: the scheduled time) to the end of data at the sink: an encoded HDR histogram."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What the sink does at one stage of a session. The first rule that fits is used; words are those of `bench.sink`.

    At `message` and `data` it fits if any recipient of the transaction does.
    """

    stage: Stage
    match: str = ""
    """An address, or "@domain"; "" fits all. It is held against the sender at mail, otherwise against recipients."""
    reply: str = ""
    """What to answer, such as "451 4.2.0 Later"; "" is the usual answer. 421 ends the connection. RFC 5321 s3.8."""
    delay_s: float = 0.0
    """Wait this long first; a change of the rules ends the wait."""
    drop: bool = False
    """Close the connection instead of answering."""
    every: int = 1
    """Use it for each n-th that fits; the others go on to the next rule."""
    times: int = 0
    """Use the rule this many times, then never again; 0 is always."""

    def fits(self, addresses: Sequence[str]) -> bool:
        """Return whether it is for a transaction with these addresses, in lower case."""
        wanted = self.match.lower()
        if not wanted:
            return True
        return any(address.endswith(wanted) if wanted.startswith("@") else address == wanted for address in addresses)

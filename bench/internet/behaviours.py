"""How the hosts of a site treat whoever brings them mail: one small class for each way.

Rule: a behaviour answers a stage of a session with a reply, or with "" for the usual one, and counts what it refused.
One instance serves all hosts of a site, so that it knows the whole of what the site sees. Lives in the process of
`bench.internet.peers`, in one asyncio loop.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

import msgspec

from bench.sinkserver import EXTENSIONS, Dropped, Session, Stage

__all__ = [
    "Behaviour",
    "Closed",
    "Crowded",
    "Greylisting",
    "Mailbox",
    "Mixed",
    "Old",
    "Picky",
    "Plain",
    "Silent",
    "Slow",
    "Stalled",
    "Throttled",
    "Traffic",
]


class Traffic(msgspec.Struct):
    """What a site has seen so far."""

    n_sessions: int = 0
    n_open: int = 0
    most_open: int = 0
    n_kept: int = 0
    """Messages that got their 250."""
    kept_by: dict[str, int] = msgspec.field(default_factory=dict)
    """The same by the address of the host."""
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    """Replies that were none of the usual ones, by code."""
    turned_away: dict[str, int] = msgspec.field(default_factory=dict)
    """How often a recipient was told to come again."""


class Behaviour:
    """Takes everything at once. The others say no, or wait, at some stage."""

    most_recipients = 0

    def __init__(self) -> None:
        self.traffic = Traffic()

    def extensions(self, host: str) -> Sequence[str]:
        """Return what EHLO offers at an address."""
        return EXTENSIONS

    async def decide(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Return the reply to a stage of a session, "" for the usual one, and count it."""
        reply = await self.answer(stage, session, addresses)
        if reply:
            _count(self.traffic.refused, reply[:3])
            if stage == "rcpt" and reply.startswith("4"):
                _count(self.traffic.turned_away, addresses[0])
        return reply

    async def answer(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Return the reply, "" for the usual one."""
        return ""

    def release(self) -> None:
        """Let those go on who wait for a word."""


class Plain(Behaviour):
    """Nothing odd about it."""


class Greylisting(Behaviour):
    """Knows nobody at first: 451 until `wait_s` have passed since a sender first wrote to a recipient."""

    WORDS = "4.7.1 Greylisted, please come again"

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        self._wait_s = wait_s
        self._first_at: dict[tuple[str, str], float] = {}

    async def answer(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Refuse recipients that are new."""
        if stage != "rcpt":
            return ""
        now = time.monotonic()
        first_at = self._first_at.setdefault((session.sender or "", addresses[0]), now)
        return "" if now - first_at >= self._wait_s else f"451 {self.WORDS}"


class Crowded(Behaviour):
    """Bears few connections, and few messages on each: 421 to whoever asks for more."""

    def __init__(self, connections: int, messages: int) -> None:
        super().__init__()
        self._connections = connections
        self._messages = messages

    async def answer(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Turn away the connection too many, and end the one that lasts too long."""
        if stage == "connect" and self.traffic.n_open > self._connections:
            return "421 4.7.0 Too many connections from you"
        if stage == "mail" and session.n_kept >= self._messages:
            return "421 4.7.0 Too many messages on this connection"
        return ""


class Throttled(Behaviour):
    """Takes so many recipients in each `window_s` seconds, 451 to those beyond."""

    WORDS = "4.7.0 You send too fast"

    def __init__(self, recipients: int, window_s: float) -> None:
        super().__init__()
        self._recipients = recipients
        self._window_s = window_s
        self._window = 0
        self._n_asked = 0

    async def answer(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Count what this window has seen."""
        if stage != "rcpt":
            return ""
        window = int(time.monotonic() / self._window_s)
        if window != self._window:
            self._window, self._n_asked = window, 0
        self._n_asked += 1
        return "" if self._n_asked <= self._recipients else f"451 {self.WORDS}"


class Slow(Behaviour):
    """Thinks about each reply for a while."""

    def __init__(self, delay_s: float) -> None:
        super().__init__()
        self._delay_s = delay_s

    async def answer(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Take the time."""
        await asyncio.sleep(self._delay_s)
        return ""


class Stalled(Behaviour):
    """Takes whole messages, and says what becomes of them when it is told to: no clock decides when that is."""

    def __init__(self) -> None:
        super().__init__()
        self._gate = asyncio.Event()

    async def answer(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Wait for the word."""
        if stage == "message":
            await self._gate.wait()
        return ""

    def release(self) -> None:
        """Answer."""
        self._gate.set()


class Silent(Behaviour):
    """Takes connections and never says a word."""

    async def answer(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Wait until the other side has had enough."""
        await session.wait_gone()
        raise Dropped


class Mailbox(msgspec.Struct, frozen=True):
    """What is said of one kind of recipient: at `rcpt`, or at `message` of everything that it is sent."""

    stage: Stage
    reply: str


class Picky(Behaviour):
    """Looks at the recipient: what stands before the first dot names the kind of its mailbox."""

    def __init__(self, mailboxes: Mapping[str, Mailbox]) -> None:
        super().__init__()
        self._mailboxes = mailboxes

    async def answer(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Refuse what these mailboxes do not take."""
        for address in addresses if stage in ("rcpt", "message") else ():
            mailbox = self._mailboxes.get(address.partition(".")[0])
            if mailbox is not None and mailbox.stage == stage:
                return mailbox.reply
        return ""


class Old(Behaviour):
    """Knows HELO only, and takes few recipients at a time."""

    most_recipients = 5

    async def answer(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Refuse what it has never heard of. RFC 5321 s3.2."""
        return "502 5.5.1 What is that?" if stage == "ehlo" else ""


class Closed(Behaviour):
    """Says at one of its addresses that there is no service. RFC 5321 s3.1."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self._host = host

    async def answer(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Refuse everybody there."""
        return "554 5.3.2 No service here" if stage == "connect" and session.host == self._host else ""


class Mixed(Behaviour):
    """Takes small mails in ASCII at one of its addresses, and everything at the others."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self._host = host

    def extensions(self, host: str) -> Sequence[str]:
        """Offer less there."""
        return ("PIPELINING", "SIZE 2000", "ENHANCEDSTATUSCODES") if host == self._host else EXTENSIONS


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1

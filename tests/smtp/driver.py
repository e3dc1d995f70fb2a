"""A small driver for a Session: what `accept` does with sockets and policy, done with byte strings and fixed rules.

Rules: a recipient at refused.test gets 550, at later.test 451, at away.test 421; the sender spam@refused.test gets 554;
a message that contains "poison" gets 554, every other one 250.
"""

import random
from collections.abc import Iterable, Iterator

from mta.config import Limits
from mta.reply import REPLY_250_OK, REPLY_550_NO_SUCH_USER, Reply
from mta.smtp import (
    REPLY_354_GO_AHEAD,
    Chunk,
    Data,
    Event,
    Hello,
    Mail,
    Message,
    Pause,
    Quit,
    Rcpt,
    Refused,
    Session,
)

HOSTNAME = "mx.example.test"
MAX_OCTETS = 1000
REPLY_QUEUED = Reply(250, "2.0.0", "Ok: queued as 0")
REPLY_REFUSED = Reply(554, "5.7.1", "Refused")
REPLY_LATER = Reply(451, "4.3.0", "Later")
REPLY_AWAY = Reply(421, "4.3.2", "Going away")
BY_DOMAIN = {"refused.test": REPLY_550_NO_SUCH_USER, "later.test": REPLY_LATER, "away.test": REPLY_AWAY}


class Driver:
    """Feeds a session, answers its events, and keeps what came out."""

    def __init__(self, limits: Limits | None = None, max_octets: int = MAX_OCTETS) -> None:
        self.session = Session(HOSTNAME, limits or Limits(), max_octets)
        self.session.greet()
        self.sent = self.session.output()
        self.told: list[Event] = []
        self.n_delays = 0
        self.mails: list[tuple[str, tuple[str, ...], bytes]] = []
        self._body = b""

    @property
    def reason(self) -> str:
        """Why the session ended, "" while it has not."""
        return next((event.reason for event in self.told if isinstance(event, Quit)), "")

    def feed(self, *pieces: bytes) -> bytes:
        """Hand in network reads, one after the other; return all replies to them."""
        before = len(self.sent)
        for piece in pieces:
            self.session.receive(piece)
            self.pull()
            self.sent += self.session.output()
        return self.sent[before:]

    def pull(self) -> None:
        """Work events off until the session needs more data."""
        while (event := self.session.next_event()) is not Pause.NEED_DATA:
            if event is Pause.DELAY:
                self.n_delays += 1
                self.session.resume()
            elif isinstance(event, Pause):
                raise AssertionError("the session waits for an answer that was given")
            elif isinstance(event, Chunk):
                self._body += event.data
            else:
                self.told.append(event)
                self._answer(event)

    def _answer(self, event: Event) -> None:
        session = self.session
        if isinstance(event, Hello):
            session.answer(REPLY_250_OK)
        elif isinstance(event, Mail):
            session.answer(REPLY_REFUSED if event.sender.text == "spam@refused.test" else REPLY_250_OK)
        elif isinstance(event, Rcpt):
            session.answer(BY_DOMAIN.get(event.recipient.domain, REPLY_250_OK))
        elif isinstance(event, Data):
            self._body = b""
            session.answer(REPLY_354_GO_AHEAD)
        elif isinstance(event, Message):
            sender = session.sender
            if sender is None:
                raise AssertionError("the envelope is gone before the verdict")
            if len(self._body) != event.octets:
                raise AssertionError("the chunks do not add up to the message")
            if b"poison" in self._body:
                session.answer(REPLY_REFUSED)
            else:
                self.mails.append((sender.text, tuple(r.text for r in session.recipients), self._body))
                session.answer(REPLY_QUEUED)
        elif isinstance(event, Refused) and event.stage == "message" and not session.recipients:
            raise AssertionError("the envelope is gone before the refusal was told")


def whole(data: bytes) -> Iterator[bytes]:
    """All in one read."""
    yield data


def by_octet(data: bytes) -> Iterator[bytes]:
    """One octet a read."""
    for i in range(len(data)):
        yield data[i : i + 1]


def at_random(data: bytes, seed: int = 5321) -> Iterator[bytes]:
    """Reads of any size up to 40 octets, always the same for the same data."""
    chance = random.Random(seed)
    while data:
        size = chance.randint(1, 40)
        yield data[:size]
        data = data[size:]


CUTS = (whole, by_octet, at_random)


def lines(*commands: str) -> bytes:
    """Return commands as they go over the wire, in one pipelined group."""
    return "".join(f"{command}\r\n" for command in commands).encode()


def codes(replies: bytes) -> list[int]:
    """Return the code of each reply, a longer one counted once."""
    return [int(line[:3]) for line in replies.split(b"\r\n") if line and line[3:4] == b" "]


def all_of(pieces: Iterable[bytes]) -> bytes:
    """Return pieces joined."""
    return b"".join(pieces)

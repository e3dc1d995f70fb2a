"""What a worker and the state process say to each other, in frames like those of the link (`mta.link`).

    worker    state process    meaning
    HELLO                      who I am, the limits I was started with, and the connections I hold
              WELCOME          now ask; and whether we are under stress
    SPENT                      what was used of credit, and what comes back unused
    LEFT                       connections that ended
    ASK                        may these connections come in; may these connections have more credit
              ANSWER           yes or no, and the credit that goes with it
              RECALL           somebody else needs what you keep of these networks: give it back, with SPENT last
              STRESS           connections are near their limit, or are no more

Several words of a kind go into one frame. Everything is told again by HELLO after a lost connection, so nothing needs
to be confirmed. Structs are arrays: fields come at the end and have defaults, so that old and new processes understand
each other.
"""

import enum

import msgspec

from mta.message import now_ms
from mta.report import StressBegan, StressEnded
from mta.report import encode as encode_event

__all__ = [
    "BEGUN",
    "BY_KIND",
    "ERRORS",
    "MESSAGES",
    "NOTHING",
    "N_KINDS",
    "RECIPIENTS",
    "VERSION",
    "Answer",
    "Ask",
    "Credit",
    "Hello",
    "Kind",
    "Refusal",
    "Rules",
    "Spent",
    "Stress",
]

VERSION = 1
# What credit is given of, by place: messages, recipients, errors, connections begun.
MESSAGES, RECIPIENTS, ERRORS, BEGUN = 0, 1, 2, 3
N_KINDS = 4
Credit = tuple[int, int, int, int]
NOTHING: Credit = (0, 0, 0, 0)


class Kind(enum.IntEnum):
    """What a frame is."""

    HELLO = 1
    WELCOME = 2
    SPENT = 3
    LEFT = 4
    ASK = 5
    ANSWER = 6
    RECALL = 7
    STRESS = 8


class Refusal(enum.IntEnum):
    """Which limit says no."""

    NONE = 0
    TOTAL = 1
    LISTENER = 2
    STRESS = 3
    CONNECTIONS = 4
    CONNECTION_RATE = 5
    MESSAGES = 6
    RECIPIENTS = 7
    ERRORS = 8


BY_KIND = (Refusal.MESSAGES, Refusal.RECIPIENTS, Refusal.ERRORS, Refusal.CONNECTION_RATE)


class Rules(msgspec.Struct, frozen=True, array_like=True):
    """The limits, 0 for none: connections in all, by listener, by network; and a network's rates a minute."""

    connections: int
    listeners: dict[str, int]
    at_once: int
    credit: Credit
    """Of each kind, so many a minute."""


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """`born_at` is when the worker started, monotonic seconds; `held` are (listener, network, connections)."""

    version: int
    pid: int
    born_at: float
    rules: Rules
    held: tuple[tuple[str, bytes, int], ...]


class Ask(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """May a connection to `listener` come in; or, with `listener` "", may a network use `n` more of `kind`."""

    number: int
    network: bytes
    listener: str
    kind: int = 0
    n: int = 0


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """`refusal` is a Refusal; `credit` is more than was asked for, or less."""

    number: int
    refusal: int
    credit: Credit


class Spent(msgspec.Struct, frozen=True, array_like=True):
    """Of a network's credit `used` is used and `back` comes back; `is_recalled` when this answers a RECALL."""

    network: bytes
    used: Credit
    back: Credit
    is_recalled: bool


class Stress(msgspec.Struct, frozen=True, array_like=True):
    """Whether we are under stress, by how many connections; one worker is asked to tell of it."""

    is_on: bool
    n_connections: int
    limit: int
    tells: bool

    def event(self) -> bytes:
        """Return the event, encoded."""
        kind = StressBegan if self.is_on else StressEnded
        return encode_event(kind(now_ms(), b"", "", self.n_connections, self.limit))

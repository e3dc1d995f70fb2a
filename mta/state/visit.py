"""One client's connection as the limits for the whole machine see it, and the credit of its network at this worker.

Rule: `take` is on the way of every command, and asks nobody while there is credit.
"""

from typing import NamedTuple, Protocol

from mta.reply import Reply
from mta.state.words import N_KINDS

__all__ = ["CONNECTING", "Account", "Asker", "Question", "Visit", "Visits"]

# What a question is about that is about no credit.
CONNECTING = -1


class Asker(Protocol):
    """A connection that waits for an answer; it asks one thing at a time."""

    def answered(self, refusal: Reply | None) -> None:
        """What was asked for is granted, or this is what the client shall hear."""


class Account:
    """What a network's connections at this worker share: credit by its kinds, and what was used of it."""

    __slots__ = ("credit", "dry_until", "is_dirty", "n_users", "used")

    def __init__(self) -> None:
        self.credit = [0] * N_KINDS
        self.used = [0] * N_KINDS
        """Not yet told."""
        self.is_dirty = False
        """`used` is to be told."""
        self.dry_until = [0.0] * N_KINDS
        """There is none: do not ask before."""
        self.n_users = 0
        """Connections that are here, places that are kept for more, and questions that have no answer."""


class Visits(Protocol):
    """Who counts visits: what a Visit asks of the link to the state process."""

    is_limited: tuple[bool, ...]

    def use(self, network: bytes, account: Account, kind: int, n: int) -> None:
        """Count as used, credit or not."""

    def ask_more(self, visit: "Visit", kind: int, n: int) -> None:
        """Ask for credit; the visit's asker hears."""

    def leave(self, visit: "Visit") -> None:
        """It is over."""


class Visit:
    """Made by `StateLink.open`; a connection has one from its beginning to its end."""

    __slots__ = ("account", "asker", "is_in", "is_over", "listener", "network", "visits")

    def __init__(self, visits: Visits, asker: Asker, listener: str, network: bytes, account: Account | None) -> None:
        """`account` is None for a client of whom nobody counts what it does."""
        self.visits = visits
        self.asker: Asker | None = asker
        """Who hears of it, until it is over."""
        self.listener = listener
        self.network = network
        self.account = account
        self.is_in = False
        """It was let in, and counts as a connection."""
        self.is_over = False

    def take(self, kind: int, n: int = 1) -> bool:
        """Use `n` of `kind`; False when that has to be asked for: then `asker.answered` is called, later, once."""
        account = self.account
        if account is None or not self.visits.is_limited[kind]:
            return True
        if account.credit[kind] >= n:
            account.credit[kind] -= n
            self.visits.use(self.network, account, kind, n)
            return True
        self.visits.ask_more(self, kind, n)
        return False

    def add(self, kind: int, n: int) -> None:
        """Count `n` of `kind` that happened, without asking whether they may."""
        account = self.account
        if account is not None and self.visits.is_limited[kind]:
            account.credit[kind] = max(0, account.credit[kind] - n)
            self.visits.use(self.network, account, kind, n)

    def leave(self) -> None:
        """The connection is over. Nothing is heard of it any more."""
        if not self.is_over:
            self.is_over = True
            self.asker = None
            self.visits.leave(self)


class Question(NamedTuple):
    """What waits for an answer: to be let in (`kind` CONNECTING), or for `n` more of `kind`."""

    visit: Visit
    kind: int
    n: int
    asked_at: float

"""What may be wrong with the queue, and what would mend it.

`Wrong` names a row and says what is wrong in plain words; its cure is data: only the writer's process carries it out
(`queue.repair`). A cure mends one thing and may lay bare the next, which another look finds; each takes the tables
nearer to what they should be. No cure destroys content: what has to leave the tables is moved into a file.
"""

import msgspec

from mta.reply import printable

__all__ = ["Aside", "Balance", "Cure", "Make", "Move", "Number", "Refill", "Requeue", "Salvage", "Wrong"]


class Move(msgspec.Struct, frozen=True):
    """The row leaves the table, into the file of what is damaged; `is_extent` takes every chunk of the extent in the
    key along."""

    is_extent: bool = False


class Make(msgspec.Struct, frozen=True):
    """The row gets this value, if it still has the old one (None: if it is still not there)."""

    value: bytes
    old: bytes | None


class Number(msgspec.Struct, frozen=True):
    """The number under this name in `meta` becomes `value`."""

    value: int


class Balance(msgspec.Struct, frozen=True):
    """The tenant's counters take in what was lost: its open recipients are `n_open`."""

    tenant: str
    n_open: int


class Requeue(msgspec.Struct, frozen=True):
    """The part goes into the queue of its tenant and domain, whose number it does not know any more."""


class Refill(msgspec.Struct, frozen=True):
    """The events numbered from `first` to `last` are lost, and their numbers have to stand all the same."""

    first: int
    last: int


class Aside(msgspec.Struct, frozen=True):
    """The message is set aside."""


class Salvage(msgspec.Struct, frozen=True):
    """Some chunks of an extent are lost: its owners (table, id, octets that it should have) keep the others, and
    messages are set aside. `is_used`: others own it who are content with what is there."""

    extent: int
    owners: tuple[tuple[str, bytes, int], ...]
    is_used: bool


Cure = Move | Make | Number | Balance | Requeue | Refill | Aside | Salvage


class Wrong(msgspec.Struct, frozen=True):
    """One thing that is wrong with a row; without a cure there is nothing to be done, or another one's cure does it."""

    table: str
    key: bytes
    what: str
    cure: Cure | None = None

    def __str__(self) -> str:
        name = printable(self.key.decode("ascii", "replace")) if self.table == "meta" else self.key.hex()
        return f"{self.table} {name}: {self.what}"

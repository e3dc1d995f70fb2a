"""What goes into the client and what comes out of it: letters, and the events that tell what became of them.

Rule: every letter is told of once, in a `Done` (a `TryNext` is one) or in `Over.left`. Used by `client` and its driver.
"""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from mta.message import Outcome

__all__ = ["Done", "L", "Letter", "Over", "Ready", "TryNext"]


class Letter(Protocol):
    """What the client must know of a mail; `mta.deliver.Job` is one, its fields are explained there."""

    @property
    def sender(self) -> str: ...
    @property
    def recipients(self) -> tuple[tuple[int, str], ...]: ...
    @property
    def octets(self) -> int: ...
    @property
    def has_8bit(self) -> bool: ...
    @property
    def utf8(self) -> bool: ...
    @property
    def n_pieces(self) -> int: ...
    @property
    def read(self) -> Callable[[int], bytes]: ...


L = TypeVar("L", bound=Letter)


class Ready(msgspec.Struct, frozen=True, gc=False):
    """The peer greeted us and answered EHLO or HELO: letters go out from now on."""


class Done(msgspec.Struct, Generic[L], frozen=True):
    """One letter was worked off: (recipient number, outcome) for each of its recipients."""

    letter: L
    outcomes: list[tuple[int, Outcome]]


class TryNext(Done[L], frozen=True):
    """This host did nothing about a letter, but another host of the same site may take it: `outcomes` stands only if
    there is none. RFC 5321 s5.1, RFC 6531 s3.2.

    `is_misfit` when this host lacks what the letter needs, and was not asked; otherwise the session, which has done
    nothing for anybody yet, broke before the end of the letter was written.
    """

    is_misfit: bool


class Over(msgspec.Struct, Generic[L], frozen=True):
    """The session ended, told once and last. `left` were not started, `outcome` says why it ended.

    `is_hosts_fault` when the host failed before it took anything, and nothing was learned about any letter: no
    greeting, no answer to EHLO, or 421.
    """

    outcome: Outcome
    left: list[L]
    is_hosts_fault: bool

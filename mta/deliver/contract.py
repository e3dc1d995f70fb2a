"""The courier contract: what the worker's dispatch asks of everything that can deliver a part.

A courier serves one session that the queue process granted. It takes jobs, works them in order, and reports each once:
either through `Report.done` with an outcome for every recipient, or through `Report.closed` as not started.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from mta.message import Outcome

__all__ = ["Courier", "Job", "Report"]


class Job(msgspec.Struct, frozen=True):
    """One part of one message, leased to this worker."""

    part: bytes
    """The part's name, 18 bytes: message id and part number."""
    attempt: int
    """How many attempts came before this one."""
    sender: str
    """Reverse-path as on the wire between the angle brackets; "" is the null one."""
    recipients: tuple[tuple[int, str], ...]
    """(number, forward-path as on the wire)."""
    octets: int
    """Size of the content, our Received field included."""
    has_8bit: bool
    """BODY=8BITMIME was given and the body has octets >= 0x80: a peer without 8BITMIME must not get it (RFC 6152)."""
    utf8: bool
    """SMTPUTF8 was given and is needed: a peer without it must not get it (RFC 6531 s3.2)."""
    n_pieces: int
    """In how many pieces the content is read, at least 1."""
    read: Callable[[int], bytes]
    """Return a piece of the content by its number, from 0; CRLF line ends, which may be cut, and dots not doubled.

    Cheap; call it when the octets are needed, and keep no more of them than one piece: a message may be large.
    """


class Report(Protocol):
    """Where a courier tells what happened; implemented by the worker's dispatch."""

    def done(self, job: Job, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        """The attempt is over: one (recipient number, outcome) for each recipient of the job."""

    def greeted(self, session: int) -> None:
        """A host has greeted us and takes mail; called once at most."""

    def closed(self, session: int, left: Sequence[Job], failure: Outcome | None) -> None:
        """The session is over and its connection closed, called once and last; `left` were never started and go back
        as they came. `failure` is what the host did, where that is no message's fault."""


class Courier(Protocol):
    """One session's worth of delivering."""

    def deliver(self, jobs: Sequence[Job]) -> None:
        """Take more jobs, to be worked in order after those it has. After `closed` was reported they are left over."""

    def close(self) -> None:
        """Finish the job under way, start no other, then end the session in order."""

    def abort(self) -> None:
        """End at once: whatever is past its final dot is reported as deferred, the rest is left over."""

"""What the link asks of the rooms that use it: who waits for an answer, who carries out orders."""

from typing import Protocol

from mta.link.frames import Lease, Report, Resolve
from mta.reply import Reply

__all__ = ["PartWaiter", "Tasks", "Waiter"]


class Waiter(Protocol):
    """Who put a message and waits for the answer; one of the two is called, once."""

    def stored(self) -> None:
        """The message is on the disk."""

    def refused(self, reply: Reply) -> None:
        """It is not; this is what the client shall hear."""


class PartWaiter(Protocol):
    """Who sends a message in parts and waits for the answers."""

    def part_stored(self) -> None:
        """The oldest part that waited is on the disk."""

    def refused(self, reply: Reply) -> None:
        """A part is not: nothing more is heard of the others, and the stream is to be aborted."""


class Tasks(Protocol):
    """What the queue process asks of a worker."""

    def lease(self, lease: Lease) -> None:
        """Deliver these parts."""

    def report(self, report: Report) -> None:
        """Tell the senders of these parts that time is up."""

    def resolve(self, question: Resolve) -> None:
        """Find the way to a domain; answer with `QueueLink.resolved`."""

    def held(self) -> tuple[tuple[tuple[int, str, bool], ...], tuple[tuple[int, bytes], ...]]:
        """Return the open sessions (number, site, greeted) and the leases (session, part) not yet settled."""

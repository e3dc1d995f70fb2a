"""Fixed pieces of work: what one message of 4 KB costs in one part of the server, in this process and without a socket
to a peer.

A piece is made once, which sets everything up, and then runs for any number of messages: `bench.counts` counts the
instructions of that, `bench.micro` takes its time. Rule: the input never changes and no clock has a say in what is
done, so that two runs of one build differ by nothing but the machine; and each piece looks at what came of its work.

    session      the server's side of a connection with one message, as `mta.accept` drives it
    client       our side of a kept connection to a next hop, as `mta.deliver` drives it
    link         every frame about a message, made by one end and read by the other
    store        its rows in a real environment: put, settled and deleted
    read         the same, read for delivery
    schedule     from its arrival to its settlement: queue, path, lease
    queue        everything that the queue process does about it, from the sockets of its workers and back
"""

from typing import Protocol

from bench.work.client import ClientWork
from bench.work.link import LinkWork
from bench.work.queue import QueueWork
from bench.work.schedule import ScheduleWork
from bench.work.session import SessionWork
from bench.work.store import ReadWork, StoreWork

__all__ = ["WORKS", "Work"]


class Work(Protocol):
    """A piece of work that was set up."""

    def run(self, n_messages: int) -> None:
        """Do it for so many messages. Raises RuntimeError when the wrong thing came of it."""

    def close(self) -> None:
        """Take down what was set up."""


WORKS: dict[str, type[Work]] = {
    "session": SessionWork,
    "client": ClientWork,
    "link": LinkWork,
    "store": StoreWork,
    "read": ReadWork,
    "schedule": ScheduleWork,
    "queue": QueueWork,
}
"""The pieces by name."""

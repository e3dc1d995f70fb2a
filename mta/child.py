"""What the master hands to a child process, and the few words they exchange.

The control channel is a SOCK_SEQPACKET socket pair: one msgpack array a packet, the first element says which word.

    child to master   ["ready"]            checked in; serving
                      ["beat"]             once a second: not hung
                      ["kill", pid]        queue only: this worker does not answer, end it
    master to queue   ["workers", [[number, pid], ...]]   the living workers, at start and after each change
                      ["died", name, pid, status]         a child ended that should not have
                      ["config", part, [pid, ...]]        work by this QueuePart from now on; these workers are leaving
                      ["reloaded", kind]                  for the event of that name; kind is reload or upgrade
                      ["reload_failed", kind, [problem, ...]]
    queue, workers    ["leave", [place, ...]]   end in order, for another takes over; workers: these of `listeners`, by
                                                their place there, are served by nobody else
    signals to all    SIGTERM: end in order; SIGQUIT: end at once. SIGINT is the master's alone.

A closed control channel means that the master is gone: the child ends in order within ORPHAN_S.
"""

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from mta.config import Config, Deliver, Listener, Path, Queue, Retry

__all__ = ["BEAT_S", "LAST_ACCEPT_S", "ORPHAN_S", "STAY_S", "Bound", "Child", "QueuePart", "say", "show"]

BEAT_S = 1.0
ORPHAN_S = 5.0
STAY_S = 600.0
"""How long a worker that another has replaced may stay for what its clients and next hops have begun."""
LAST_ACCEPT_S = 0.3
"""How long a listening socket that is given up is served on: handshakes that were under way end meanwhile."""
PACKET_OCTETS = 65_536
SHOW_S = 0.5
"""How long one word for the operator may wait for room, where stderr is a pipe that nobody reads at the moment."""


class Bound(msgspec.Struct, frozen=True):
    """One listening socket and the listener it belongs to."""

    listener: Listener
    sock: socket.socket


class QueuePart(msgspec.Struct, frozen=True):
    """What of the configuration the queue process can change while it runs."""

    hostname: str
    queue: Queue
    retry: Retry
    path: Path
    deliver: Deliver

    @classmethod
    def of(cls, config: Config) -> "QueuePart":
        """Return the part of a configuration."""
        return cls(config.hostname, config.queue, config.retry, config.path, config.deliver)


class Child(msgspec.Struct, frozen=True):
    """Everything a child gets; sockets it has no use for are None. Made before the fork, used after it."""

    name: str
    """As in the process title, without "mta: ": "queue", "report", "state", "worker 1"."""
    number: int
    """1..N for workers, 0 for the others."""
    config: Config
    control: socket.socket
    """The child's end of the control channel, not blocking."""
    listeners: tuple[Bound, ...] = ()
    """Workers only: listening sockets of its own, not blocking."""
    link: socket.socket | None = None
    """Queue and state only: its listening Unix socket in `data_dir`, see `mta.linkpath`; not blocking."""
    outbox: socket.socket | None = None
    """One end of a SOCK_DGRAM pair that outlives its users: report sends, queue receives, 8-byte big-endian sequence
    numbers up to which events are safe in files."""

    def tell(self, *words: object) -> None:
        """Send one packet to the master. A full channel or a dead master drops it: the master sees its own EOF."""
        with contextlib.suppress(OSError):
            self.control.send(msgspec.msgpack.encode(words))

    def hear(self) -> list[list[Any]] | None:
        """Return the packets that wait, oldest first; None when the master is gone. Does not block."""
        heard: list[list[Any]] = []
        while True:
            try:
                packet = self.control.recv(PACKET_OCTETS)
            except BlockingIOError:
                return heard
            except OSError:
                return None
            if not packet:
                return None
            heard.append(msgspec.msgpack.decode(packet))


def say(text: str) -> None:
    """Write one line for the operator."""
    show([f"mta: {text}"])


def show(lines: Iterable[str]) -> None:
    """Write lines for the operator as they are.

    Whoever reads may be gone, as a supervisor's end of stderr is once the master is, or may have stopped reading: that
    must not keep anybody from working, or from ending in order. What is not taken in time is dropped.
    """
    with contextlib.suppress(OSError, ValueError):
        stderr = sys.stderr
        fd, until = stderr.fileno(), time.monotonic() + SHOW_S
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        for line in lines:
            octets = memoryview(f"{line}\n".encode(stderr.encoding, stderr.errors or "strict"))
            while octets:
                if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                    return
                octets = octets[os.write(fd, octets[: select.PIPE_BUF]) :]

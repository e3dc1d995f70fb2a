"""What the master hands to a child process, and the few words they exchange.

The control channel is a SOCK_SEQPACKET socket pair: one msgpack array a packet, the first element says which word.

    child to master   ["ready"]            checked in; serving
                      ["beat"]             once a second: not hung
                      ["kill", pid]        queue only: this worker does not answer, end it
    master to queue   ["workers", [[number, pid], ...]]   the living workers, at start and after each change
                      ["died", name, pid, status]         a child ended that should not have
    signals to all    SIGTERM: end in order; SIGQUIT: end at once. SIGINT is the master's alone.

A closed control channel means that the master is gone: the child ends in order within ORPHAN_S.
"""

import contextlib
import socket
from typing import Any

import msgspec

from mta.config import Config, Listener

__all__ = ["BEAT_S", "ORPHAN_S", "Bound", "Child"]

BEAT_S = 1.0
ORPHAN_S = 5.0
PACKET_OCTETS = 65_536


class Bound(msgspec.Struct, frozen=True):
    """One listening socket and the listener it belongs to."""

    listener: Listener
    sock: socket.socket


class Child(msgspec.Struct, frozen=True):
    """Everything a child gets; sockets it has no use for are None. Made before the fork, used after it."""

    name: str
    """As in the process title, without "mta: ": "queue", "report", "worker 1"."""
    number: int
    """1..N for workers, 0 for the others."""
    config: Config
    control: socket.socket
    """The child's end of the control channel, not blocking."""
    listeners: tuple[Bound, ...] = ()
    """Workers only: listening sockets of its own, not blocking."""
    link: socket.socket | None = None
    """Queue only: the listening Unix socket `data_dir/link.sock`, not blocking."""
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

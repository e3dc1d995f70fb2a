"""The queue process's end of one connection: a socket that never blocks, whole frames in, gathered frames out."""

import socket

from mta._fast import FrameReader
from mta.errors import LinkLost
from mta.link.frames import MAX_FRAME_OCTETS

__all__ = ["READ_OCTETS", "Connection"]

# More than every answer and lease of a worker that is merely slow.
MOST_UNSENT = 16_777_216
READ_OCTETS = 262_144
"""A good size for the read buffer."""


class Connection:
    """One accepted connection; what the peer is shows in its first frame."""

    def __init__(self, sock: socket.socket, buffer: memoryview) -> None:
        """Take over `sock`; reads go through `buffer`, which all connections of a loop may share."""
        sock.setblocking(False)
        self._buffer = buffer
        self._sock = sock
        self.fd = sock.fileno()
        self._frames = FrameReader(MAX_FRAME_OCTETS)
        self._out: list[bytes] = []

    def read(self, most: int = READ_OCTETS) -> list[tuple[int, bytes]]:
        """Return the frames that one read of up to `most` octets completed.

        Raises:
            LinkLost: the peer went away.
            ValueError: it broke the framing.
        """
        try:
            # recv() would take READ_OCTETS from the system each time, only to give most of them back.
            n_octets = self._sock.recv_into(self._buffer, min(most, len(self._buffer)))
            if not n_octets:
                raise LinkLost("the peer closed the connection")
        except BlockingIOError:
            return []
        except OSError as problem:
            raise LinkLost(str(problem)) from problem
        return self._frames.feed(self._buffer[:n_octets])

    def send(self, frame: bytes) -> None:
        """Gather a frame; `flush` writes it."""
        self._out.append(frame)

    def flush(self) -> bool:
        """Write what was gathered; return whether all of it went. Raises LinkLost."""
        if not self._out:
            return True
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            raise LinkLost(str(problem)) from problem
        if len(data) - sent > MOST_UNSENT:
            raise LinkLost("the peer does not read what it is told")
        self._out = [data[sent:]] if sent < len(data) else []
        return not self._out

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

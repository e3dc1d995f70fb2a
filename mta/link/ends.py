"""One of the two connections of a worker's end of the link: whole frames in, gathered frames out.

Used by QueueLink alone.
"""

import asyncio
from typing import Literal, Protocol, cast

from mta._fast import FrameReader
from mta.link.frames import MAX_FRAME_OCTETS

__all__ = ["End"]

# Up to here one copy is cheaper than handing the pieces to the kernel one by one.
GATHER_OCTETS = 65_536


class Hearer(Protocol):
    """Who has the connection."""

    def received(self, end: "End", kind: int, payload: bytes) -> None:
        """Act on one frame."""

    def lost(self, end: "End") -> None:
        """The connection is gone."""


class End:
    """An `asyncio.Protocol` by its methods: a compiled class cannot have a base that is not."""

    def __init__(self, link: Hearer, role: Literal["in", "out"]) -> None:
        self._link = link
        self.role: Literal["in", "out"] = role
        self.transport: asyncio.WriteTransport | None = None
        self._frames = FrameReader(MAX_FRAME_OCTETS)
        self.out: list[bytes] = []
        """Frames, or pieces of them, for the next `flush`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand whole frames to the link."""
        for kind, payload in self._frames.feed(data):
            self._link.received(self, kind, payload)

    def eof_received(self) -> None:
        """Let the transport close: whoever says nothing more is gone."""

    def pause_writing(self) -> None:
        """The queue process is slow. What is put meanwhile is bounded by who puts it."""

    def resume_writing(self) -> None:
        """It has caught up."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the link."""
        self.transport = None
        self._link.lost(self)

    def flush(self) -> None:
        """Write what was gathered, if anybody is there to read it."""
        if self.out and self.transport is not None:
            if len(self.out) == 1:
                self.transport.write(self.out[0])
            elif sum(map(len, self.out)) <= GATHER_OCTETS:
                self.transport.write(b"".join(self.out))
            else:
                self.transport.writelines(self.out)
            self.out.clear()

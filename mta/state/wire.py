"""A worker's connection to the state process: made again whenever it is lost, with words gathered for one write.

Rule: words are written once a loop iteration, and only after `welcome`: before that they are dropped with the
connection, for HELLO says all that matters of them.
"""

import asyncio
from functools import partial
from typing import Protocol, cast

import msgspec

from mta._fast import FrameReader
from mta.link import frame
from mta.linkpath import STATE_NAME, open_link
from mta.state.words import Ask, Hello, Kind, Spent

__all__ = ["Owner", "Wire"]

RETRY_S = 0.05
MAX_FRAME_OCTETS = 5 * 1024 * 1024


class Owner(Protocol):
    """Who has the connection."""

    def hello(self) -> Hello:
        """Say who we are and what we hold."""

    def received(self, kind: int, payload: bytes) -> None:
        """Act on a word. Raises ValueError or msgspec.DecodeError for one that makes no sense."""

    def lost(self) -> None:
        """The connection is no more, after it was up; another one is on its way."""


class Wire:
    """Made by the StateLink."""

    def __init__(self, data_dir: str, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._data_dir = data_dir
        self._owner = owner
        self._loop = loop
        self._end: _End | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._is_closing = False
        self._flush_is_due = False
        self.is_up = False
        """We were welcomed."""
        self.asks: list[Ask] = []
        self.left: list[tuple[str, bytes]] = []
        self.spent: list[Spent] = []

    def start(self) -> None:
        """Begin to connect; nobody has to wait for it."""
        self._connecting = self._loop.create_task(self._connect())

    def close(self) -> None:
        """Write out what is gathered and go."""
        self._flush()
        self._is_closing = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._end is not None:
            self._end.transport.close()

    def introduce(self) -> None:
        """Say HELLO: it replaces whatever was said before."""
        if self._end is not None:
            self._end.transport.write(frame(Kind.HELLO, self._owner.hello()))

    def flush_soon(self) -> None:
        """Write what is gathered at the end of this loop iteration."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def lose(self) -> None:
        """Give this connection up, and make another."""
        end, self._end = self._end, None
        was_up, self.is_up = self.is_up, False
        for words in (self.asks, self.left, self.spent):
            words.clear()
        if end is not None:
            end.transport.abort()
        if was_up:
            self._owner.lost()
        if not self._is_closing:
            self.start()

    def _flush(self) -> None:
        self._flush_is_due = False
        if not self.is_up or self._end is None:
            return
        frames = []
        # What gives room is said before what needs it, and places before the word that answers a recall.
        for kind, words in ((Kind.LEFT, self.left), (Kind.SPENT, self.spent), (Kind.ASK, self.asks)):
            if words:
                frames.append(frame(kind, words))
                words.clear()
        if frames:
            self._end.transport.write(b"".join(frames))

    async def _connect(self) -> None:
        while not self._is_closing:
            try:
                sock = open_link(self._data_dir, STATE_NAME)
                await self._loop.create_unix_connection(partial(_End, self), sock=sock)
                return
            except OSError:
                await asyncio.sleep(RETRY_S)

    # What the connection tells

    def made(self, end: "_End") -> None:
        """There is one."""
        self._end = end
        self.introduce()

    def received(self, end: "_End", kind: int, payload: bytes) -> None:
        """Hand a word on, unless it comes from a connection that was given up."""
        if end is self._end:
            self._owner.received(kind, payload)

    def ended(self, end: "_End") -> None:
        """It is no more."""
        if end is self._end:
            self.lose()


class _End(asyncio.Protocol):
    """One connection."""

    transport: asyncio.WriteTransport

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._frames = FrameReader(MAX_FRAME_OCTETS)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.WriteTransport, transport)
        self._wire.made(self)

    def data_received(self, data: bytes) -> None:
        """Hand whole frames on."""
        try:
            for kind, payload in self._frames.feed(data):
                self._wire.received(self, kind, payload)
        except (ValueError, msgspec.DecodeError):
            self._wire.ended(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._wire.ended(self)

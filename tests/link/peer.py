"""A queue process that a test plays by hand: it welcomes by itself, remembers every frame, and answers when told."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

import msgspec

from mta._fast import FrameReader
from mta.link import Hello, Kind, Lease, Report, Resolve, Welcome, decoder, frame
from mta.reply import Reply

__all__ = ["Answer", "Orders", "Peer", "Seen", "until"]


class Seen(msgspec.Struct, frozen=True):
    """One frame that a worker sent; `connection` counts from 0."""

    connection: int
    role: str
    kind: Kind
    payload: bytes


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something holds; TimeoutError after 5 s."""
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.001)


class Peer:
    """The listening end. `seen` are all frames, oldest first."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._server: asyncio.Server
        self.seen: list[Seen] = []
        self.writers: dict[str, asyncio.StreamWriter] = {}
        self.n_connections = 0
        self.welcomes = True

    async def __aenter__(self) -> "Peer":
        self._server = await asyncio.start_unix_server(self._serve, sock=self._listening)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.drop()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection, role = self.n_connections, ""
        self.n_connections += 1
        frames = FrameReader(1 << 24)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                for kind, payload in frames.feed(data):
                    if kind == Kind.HELLO:
                        role = decoder(Hello).decode(payload).role
                        self.writers[role] = writer
                        if self.welcomes:
                            self.welcome(role)
                    self.seen.append(Seen(connection, role, Kind(kind), payload))
        writer.close()

    def drop(self) -> None:
        """Lose every connection, as if the process had died."""
        for writer in self.writers.values():
            writer.transport.abort()
        self.writers.clear()

    def welcome(self, role: str) -> None:
        """Answer HELLO."""
        self.say(role, Kind.WELCOME, Welcome(9, 77))

    def say(self, role: str, kind: Kind, payload: object) -> None:
        """Send a frame to the worker."""
        self.writers[role].write(frame(kind, payload))

    def kinds(self, role: str, since: int = 0) -> list[Kind]:
        """Return the kinds of the frames seen over connections of a role, from connection `since` on."""
        return [seen.kind for seen in self.seen if seen.role == role and seen.connection >= since]

    def of(self, kind: Kind, since: int = 0) -> list[bytes]:
        """Return the payloads of one kind, from connection `since` on."""
        return [seen.payload for seen in self.seen if seen.kind == kind and seen.connection >= since]

    async def ready(self, since: int = 0) -> None:
        """Wait for READY over both connections."""
        await until(lambda: len(self.of(Kind.READY, since)) >= 2)


class Answer:
    """A Waiter that remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[Reply | None] = []

    def stored(self) -> None:
        """The message is on the disk."""
        self.heard.append(None)

    def refused(self, reply: Reply) -> None:
        """It is not."""
        self.heard.append(reply)


class Orders:
    """Tasks that remember what was asked."""

    def __init__(self) -> None:
        self.leases: list[Lease] = []
        self.reports: list[Report] = []
        self.questions: list[Resolve] = []
        self.sessions: tuple[tuple[int, str, bool], ...] = ()
        self.parts: tuple[tuple[int, bytes], ...] = ()

    def lease(self, lease: Lease) -> None:
        """Deliver these parts."""
        self.leases.append(lease)

    def report(self, report: Report) -> None:
        """Tell the senders of these parts that time is up."""
        self.reports.append(report)

    def resolve(self, question: Resolve) -> None:
        """Find the way to a domain."""
        self.questions.append(question)

    def held(self) -> tuple[tuple[tuple[int, str, bool], ...], tuple[tuple[int, bytes], ...]]:
        """Return what the test says is held."""
        return self.sessions, self.parts

"""All hosts of the small internet in one process of its own: listeners at many addresses, one port.

`Peers` starts it and asks it what came; the process itself is `python -m bench.internet.peers`. Each message that was
answered 250 is one `Delivery` for each of its recipients: with the address that took it, and a digest of what came,
without the Received field on top. What came to HOME is kept whole.
"""

import argparse
import asyncio
import hashlib
import socket
from collections.abc import Sequence
from typing import Self

import msgspec
import uvloop

from bench.child import Child, obey
from bench.internet.behaviours import Behaviour, Traffic
from bench.internet.sites import HOME, SITES
from bench.sinkserver import Message, Session, SinkServer, Stage

__all__ = ["Delivery", "Peers", "digest"]

TRIES = 20


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """A message that a recipient got."""

    recipient: str
    sender: str
    address: str
    """Of the host that took it."""
    digest: bytes
    content: bytes
    """Of what came to HOME."""


def digest(content: bytes) -> bytes:
    """Return what tells contents apart."""
    return hashlib.sha256(content).digest()


def without_received(content: bytes) -> bytes:
    """Return a message without its first field if that is Received, folded lines included. RFC 5322 s2.2.3."""
    if not content.lower().startswith(b"received:"):
        return content
    at = content.find(b"\r\n") + 2
    while content[at : at + 1] in (b" ", b"\t"):
        at = content.find(b"\r\n", at) + 2
    return content[at:]


class Host(SinkServer):
    """One address of a site."""

    def __init__(self, address: str, port: int, behaviour: Behaviour, book: list[Delivery], *, keeps: bool) -> None:
        super().__init__(address, port, behaviour.extensions(address), None)
        self.most_recipients = behaviour.most_recipients
        self._address = address
        self._behaviour = behaviour
        self._book = book
        self._keeps = keeps

    async def decide(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Ask the behaviour."""
        return await self._behaviour.decide(stage, session, addresses)

    def keep(self, message: Message) -> None:
        """Write it into the book."""
        traffic = self._behaviour.traffic
        traffic.n_kept += 1
        traffic.kept_by[self._address] = traffic.kept_by.get(self._address, 0) + 1
        found = digest(without_received(message.content))
        content = message.content if self._keeps else b""
        for recipient in message.recipients:
            self._book.append(Delivery(recipient, message.sender, self._address, found, content))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count the connections of the whole site."""
        traffic = self._behaviour.traffic
        traffic.n_sessions += 1
        traffic.n_open += 1
        traffic.most_open = max(traffic.most_open, traffic.n_open)
        try:
            await super().serve(reader, writer)
        finally:
            traffic.n_open -= 1


class Peers:
    """The process and its port. A context manager; every method may raise OSError when the process is gone."""

    def __init__(self) -> None:
        self.port = _free_port()
        self._child = Child("bench.internet.peers", ["--port", str(self.port)])
        try:
            self._child.ask("up", bool)
        except BaseException:
            self._child.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()

    def traffic(self) -> dict[str, Traffic]:
        """Return what each site has seen, by its name."""
        return self._child.ask("traffic", dict[str, Traffic])

    def deliveries(self) -> list[Delivery]:
        """Return all there were, in the order in which they were answered."""
        return self._child.ask("deliveries", list[Delivery])

    def release(self) -> None:
        """Have those answer who wait for a word."""
        self._child.ask("release", bool)


def _addresses() -> list[str]:
    return [address for site in (*SITES, HOME) for address in site.listens]


def _free_port() -> int:
    """Return a port that is free at every address, that of the server under test included. Raises OSError."""
    for _ in range(TRIES):
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
            if all(_is_free(address, port) for address in _addresses()):
                return port
    raise OSError(f"found no port that is free at all of {', '.join(_addresses())}")


def _is_free(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.create_server((address, port), family=family):
            return True
    except OSError:
        return False


class Internet:
    """What runs in the process."""

    def __init__(self, port: int) -> None:
        self._behaviours: dict[str, Behaviour] = {}
        self._hosts: list[Host] = []
        self._book: list[Delivery] = []
        at: dict[str, Host] = {}
        for site in (*SITES, HOME):
            behaviour = self._behaviours[site.name] = site.make()
            for address in site.listens:
                # Another site may have its mail at the hosts of one before.
                if address not in at:
                    at[address] = Host(address, port, behaviour, self._book, keeps=site is HOME)
        self._hosts += at.values()

    async def do(self, word: str, argument: object) -> object:
        """Carry out an order of the parent."""
        match word:
            case "up":
                for host in self._hosts:
                    await host.up()
                return True
            case "traffic":
                return {name: behaviour.traffic for name, behaviour in self._behaviours.items()}
            case "deliveries":
                return self._book
            case "release":
                for behaviour in self._behaviours.values():
                    behaviour.release()
                return True
            case _:
                raise ValueError(f"unknown word {word}")

    async def down(self) -> None:
        """End all of it."""
        for host in self._hosts:
            await host.down()


async def _run(port: int, control: int) -> None:
    internet = Internet(port)
    await obey(control, internet.do)
    await internet.down()


def main() -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(prog="bench.internet.peers", description="The hosts; started by bench.internet.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control", type=int, required=True)
    options = parser.parse_args()
    uvloop.run(_run(options.port, options.control))


if __name__ == "__main__":
    main()

"""A mail sink in a process of its own that stores messages octet by octet: the proof end of tests and round trips.

    python -m bench.sink --port 2600 [--directory D]

prints `sink: ready ADDRESS:PORT`, keeps each message as D/0000001.eml with its envelope beside it (.json), and runs
until SIGINT or SIGTERM. In Python, `Sink` starts the same as a child, asks it what came, and tells it how to behave.
That of `bench.load` is for load: it is much faster, proves as much by checksums, and keeps no content.
"""

import argparse
import asyncio
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self

import msgspec
import uvloop

from bench.child import Child, obey
from bench.sinkserver import EXTENSIONS, Message, Rule, SinkServer
from bench.wait import wait_until

__all__ = ["EXTENSIONS", "Message", "Rule", "Sink"]


class Sink:
    """A sink in a child process. A context manager; every method may raise OSError when the child is gone."""

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, extensions: Sequence[str] = EXTENSIONS, directory: str = ""
    ) -> None:
        argv = ["--host", host, "--port", str(port), "--directory", directory, "--extensions", ",".join(extensions)]
        self._child = Child("bench.sink", argv)
        self._ask = self._child.ask
        self.host = host
        try:
            self.port = self.up()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child: it goes by itself when its end of the socket closes."""
        self._child.close()

    @property
    def via(self) -> str:
        """The sink as the next hop of a route."""
        return f"[{self.host}]:{self.port}"

    def count(self) -> int:
        """Return how many messages were kept so far, taken ones included."""
        return self._ask("count", int)

    def n_sessions(self) -> int:
        """Return how many connections there were so far."""
        return self._ask("sessions", int)

    def n_open(self) -> int:
        """Return how many connections are open now."""
        return self._ask("open", int)

    def most_open(self) -> int:
        """Return how many connections were open at the same time at the most."""
        return self._ask("most open", int)

    def n_refused(self) -> int:
        """Return how many connections were turned away because of the limit."""
        return self._ask("refused", int)

    def limit(self, n_connections: int) -> None:
        """Turn away with 421 who comes when so many connections are open; 0 takes everybody."""
        self._ask("limit", bool, n_connections)

    def most_recipients(self, number: int) -> None:
        """Take no more recipients than that in a transaction, 452 4.5.3; 0 takes any number."""
        self._ask("most recipients", bool, number)

    def messages(self) -> list[Message]:
        """Return the messages in memory, in the order in which they were answered."""
        return self._ask("messages", list[Message])

    def take(self) -> list[Message]:
        """Return the messages in memory and forget them."""
        return self._ask("take", list[Message])

    def rule(self, *rules: Rule) -> None:
        """Replace all rules; none at all is a sink that takes everything."""
        self._ask("rules", bool, rules)

    def down(self) -> None:
        """Stop listening and cut every connection; what came is kept."""
        self._ask("down", bool)

    def up(self) -> int:
        """Listen again on the same port; return it."""
        return self._ask("up", int)

    def wait_count(self, n_messages: int, timeout_s: float = 20.0) -> None:
        """Wait until `n_messages` were kept. Raises TimeoutError."""
        wait_until(lambda: self.count() >= n_messages, f"{n_messages} messages at the sink", timeout_s)


async def _do(server: SinkServer, word: str, argument: object) -> object:
    match word:
        case "count":
            return server.n_messages
        case "sessions":
            return server.n_sessions
        case "open":
            return server.n_open
        case "most open":
            return server.most_open
        case "refused":
            return server.n_refused
        case "limit":
            server.limit = msgspec.convert(argument, int)
            return True
        case "most recipients":
            server.most_recipients = msgspec.convert(argument, int)
            return True
        case "messages":
            return server.messages
        case "take":
            taken, server.messages = server.messages, []
            return taken
        case "rules":
            server.set_rules(msgspec.convert(argument, list[Rule]))
            return True
        case "down":
            await server.down()
            return True
        case "up":
            return await server.up()
        case _:
            raise ValueError(f"unknown word {word}")


async def _run(options: argparse.Namespace) -> None:
    directory = Path(options.directory) if options.directory else None
    if directory:
        directory.mkdir(parents=True, exist_ok=True)
    extensions = [name for name in options.extensions.split(",") if name]
    server = SinkServer(options.host, options.port, extensions, directory)
    if options.control >= 0:
        await obey(options.control, partial(_do, server))
    else:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        print(f"sink: ready {options.host}:{await server.up()}", flush=True)
        await stop.wait()
    await server.down()


def main() -> None:
    """Run the sink from the command line."""
    parser = argparse.ArgumentParser(prog="bench.sink", description="Take mail over SMTP and keep every octet.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (0: any, it is printed)")
    parser.add_argument("--directory", default="", help="where to keep messages (none: in memory)")
    parser.add_argument("--extensions", default=",".join(EXTENSIONS), help="what EHLO offers, with commas between")
    parser.add_argument("--control", type=int, default=-1, help=argparse.SUPPRESS)
    uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()

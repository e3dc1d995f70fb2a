"""Servers that are started the way a service manager, a container or an operator does."""

import contextlib
import smtplib
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.server import Server
from bench.sink import Sink

DEPLOY = Path(__file__).parents[2] / "deploy"
PATIENCE_S = 30.0
Launch = Callable[..., Server]


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A sink that takes everything."""
    with Sink() as sink:
        yield sink


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Makes a server, not started yet; what it wrote is shown with a test that fails."""
    with ExitStack() as stack:

        def make(config: dict[str, object], before: Sequence[str] = (), **environ: str) -> Server:
            server = Server(config, before, **environ)
            stack.callback(server.close)
            stack.callback(lambda: print(server.stderr()))
            # Whoever the children become has to be let in.
            server.directory.chmod(0o711)
            return server

        yield make


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def send(address: tuple[str, int], recipient: str) -> None:
    """Send a small mail. Raises smtplib.SMTPException."""
    with smtplib.SMTP(*address, timeout=PATIENCE_S) as client:
        client.sendmail("me@source.test", [recipient], "Subject: hello\r\n\r\nhello\r\n")


def low_port(host: str = "127.0.0.1") -> int:
    """Return a port below 1024 that nobody listens on."""
    for port in range(1023, 511, -1):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind((host, port))
            return port
    raise AssertionError("no port below 1024 is free")

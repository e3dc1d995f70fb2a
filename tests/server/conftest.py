"""A sink and servers for one test, gone when it ends."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from bench.server import Server
from bench.sink import Sink

Serve = Callable[[Mapping[str, object]], Server]


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A sink that takes everything, until the test gives it rules."""
    with Sink() as sink:
        yield sink


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server with the configuration it is given."""
    with ExitStack() as stack:

        def start(config: Mapping[str, object]) -> Server:
            server = Server(config)
            # What it wrote is shown with a test that fails.
            stack.callback(server.close)
            stack.callback(lambda: print(server.stderr()))
            server.start()
            return server

        yield start

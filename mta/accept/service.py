"""The receiving side of one worker: listens, keeps the list of its connections, ends them in order.

Rule: one sweep a second looks after every connection's silence; no connection has a timer of its own.
"""

import asyncio
from functools import partial

from mta.accept.protocol import SmtpProtocol
from mta.accept.shared import Shared
from mta.child import Bound
from mta.config import Config
from mta.link import QueueLink
from mta.reply import Reply

__all__ = ["Service"]

REPLY_421_SHUTDOWN = Reply(421, "4.3.2", "The server is shutting down, try again later")
BACKLOG = 1024


class Service:
    """Made once by the worker's composition root."""

    def __init__(self, config: Config, link: QueueLink, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._shared = Shared(config, link, loop)
        self._servers: list[asyncio.Server] = []
        self._connections: set[SmtpProtocol] = set()

    async def listen(self, listeners: tuple[Bound, ...]) -> None:
        """Accept on sockets that the master has bound."""
        for bound in listeners:
            make = partial(SmtpProtocol, self._shared, bound.listener.name, bound.listener.tenant, self._connections)
            self._servers.append(await self._loop.create_server(make, sock=bound.sock, backlog=BACKLOG))

    def sweep(self) -> None:
        """Look after silent clients; to be called once a second."""
        now = self._loop.time()
        for connection in list(self._connections):
            connection.expire(now)

    def drain(self) -> None:
        """Take no new connections, and end each session as soon as its transaction allows."""
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.shut_down(REPLY_421_SHUTDOWN)

    def abort(self) -> None:
        """Drop every connection that is left."""
        for connection in list(self._connections):
            connection.abort()

    @property
    def n_connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

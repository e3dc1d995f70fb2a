"""The receiving side of one worker: listens, keeps the list of its connections, ends them in order.

Rule: one sweep a second looks after every connection's silence; no connection has a timer of its own.

A listening socket that nobody serves after us is served for a last moment: closing it resets who is in its accept queue
or in the middle of a handshake. Others, by which the next generation accepts as well, are left at once.
"""

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import cast

from mta.accept.protocol import SmtpProtocol
from mta.accept.shared import Shared
from mta.child import LAST_ACCEPT_S, Bound
from mta.config import Config
from mta.link import QueueLink
from mta.reply import Reply
from mta.state import StateLink, Stress

__all__ = ["Service"]

REPLY_421_SHUTDOWN = Reply(421, "4.3.2", "The server is shutting down, try again later")
REPLY_421_RELOAD = Reply(421, "4.3.2", "The server has a new configuration, please connect again")
BACKLOG = 1024
SETTLE_S = 0.05


class Service:
    """Made once by the worker's composition root."""

    def __init__(self, config: Config, link: QueueLink, state: StateLink, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._shared = Shared(config, link, state, loop)
        self._shared.stress(is_on=state.is_stressed)
        state.on_stress = self._stressed
        self._servers: list[asyncio.Server] = []
        self._n_closing = 0
        self._connections: set[SmtpProtocol] = set()

    async def listen(self, listeners: tuple[Bound, ...]) -> None:
        """Accept on sockets that the master has bound."""
        for bound in listeners:
            make = partial(SmtpProtocol, self._shared, bound.listener.name, bound.listener.tenant, self._connections)
            # It is one by its methods.
            protocols = cast(Callable[[], asyncio.Protocol], make)
            self._servers.append(await self._loop.create_server(protocols, sock=bound.sock, backlog=BACKLOG))

    def sweep(self) -> None:
        """Look after silent clients; to be called once a second."""
        now = self._loop.time()
        for connection in list(self._connections):
            connection.expire(now)

    def retire(self, last: Collection[int]) -> None:
        """Leave new connections to others, but for the places `last` in `listen`, which nobody else serves.

        Who has not had a message taken yet may still send one; then each session ends at its next MAIL, or when the
        client has been silent for a moment.
        """
        self._shared.parting = REPLY_421_RELOAD
        self._close(range(len(self._servers)), last)

    def end_idle(self) -> None:
        """End each session as soon as its transaction allows."""
        for connection in list(self._connections):
            connection.shut_down(REPLY_421_RELOAD)

    def drain(self) -> None:
        """Take no new connections, and end each session as soon as its transaction allows."""
        self._shared.parting = REPLY_421_SHUTDOWN
        self._shared.is_stopping = True
        everywhere = range(len(self._servers))
        self._close(everywhere, everywhere)
        for connection in list(self._connections):
            connection.shut_down(REPLY_421_SHUTDOWN)

    def _close(self, places: Collection[int], last: Collection[int]) -> None:
        for place in places:
            server = self._servers[place]
            if not server.is_serving():
                continue
            if place in last:
                self._n_closing += 1
                self._loop.call_later(LAST_ACCEPT_S, self._close_last, server)
            else:
                server.close()

    def _close_last(self, server: asyncio.Server) -> None:
        server.close()
        # Who was accepted in this very turn is known in the next.
        self._loop.call_later(SETTLE_S, self._closed)

    def _closed(self) -> None:
        self._n_closing -= 1

    def abort(self) -> None:
        """Drop every connection that is left."""
        for connection in list(self._connections):
            connection.abort()

    def _stressed(self, stress: Stress) -> None:
        if stress.tells:
            self._shared.note(stress.event())
        self._shared.stress(is_on=stress.is_on)
        for connection in self._connections:
            connection.take_limits()

    @property
    def is_open(self) -> bool:
        """Connections are open, or may still come."""
        return bool(self._connections) or self._n_closing > 0

"""Everything the connections of one worker share: limits, policy, the link, and the list of the connections.

Rule: one sweep a second looks after every connection's silence; no connection has a timer of its own.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from mta.accept.envelope import Builder
from mta.accept.protocol import SmtpProtocol
from mta.child import Bound
from mta.config import Config
from mta.link import MAX_CONTENT_OCTETS, QueueLink
from mta.message import IdMaker
from mta.policy import Policy
from mta.reply import Reply

__all__ = ["Service"]

REPLY_421_SHUTDOWN = Reply(421, "4.3.2", "The server is shutting down, try again later")
# Message octets in RAM that no commit has taken yet, for one worker: beyond it 452, not growth.
HELD_OCTETS = 268_435_456
BACKLOG = 1024


class Service:
    """The receiving side of one worker."""

    linger_s = 10.0
    """How long a client may take to read the last reply."""

    def __init__(
        self, config: Config, n_workers: int, link: QueueLink, ids: IdMaker, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._loop = loop
        self._servers: list[asyncio.Server] = []
        self._connections: set[SmtpProtocol] = set()
        self._most_connections = -(-config.limits.connections // n_workers)
        self._held_octets = 0
        self.hostname = config.hostname
        self.limits = config.limits
        self.max_octets = min(config.limits.message_octets, MAX_CONTENT_OCTETS)
        self.policy = Policy(config.relay, config.local)
        self.link = link
        self.ids = ids
        self.builder = Builder(config.hostname, config.limits.received, config.retry.give_up_s)
        self.note = link.note
        self.time = loop.time

    async def listen(self, listeners: tuple[Bound, ...]) -> None:
        """Accept on sockets that the master has bound."""
        for bound in listeners:
            listener = bound.listener
            self._servers.append(
                await self._loop.create_server(
                    partial(SmtpProtocol, self, listener.name, listener.tenant),
                    sock=bound.sock,
                    backlog=BACKLOG,
                )
            )

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call something after a while."""
        self._loop.call_later(delay_s, call)

    # Connections

    def joined(self, connection: SmtpProtocol) -> bool:
        """Count a connection; False when it is one too many."""
        self._connections.add(connection)
        return len(self._connections) <= self._most_connections

    def left(self, connection: SmtpProtocol) -> None:
        """Stop counting a connection."""
        self._connections.discard(connection)

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

    # Message octets in RAM

    @property
    def has_room(self) -> bool:
        """A new message may come in."""
        return self._held_octets < HELD_OCTETS

    def hold(self, octets: int) -> bool:
        """Count octets of a message that is coming in; False when twice the room is taken."""
        self._held_octets += octets
        return self._held_octets < 2 * HELD_OCTETS

    def release(self, octets: int) -> None:
        """Count them off."""
        self._held_octets -= octets

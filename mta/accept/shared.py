"""What all connections of one worker share: limits, policy, the link, and the room for messages that are coming in.

Made once by the Service, handed to each connection.
"""

import asyncio

from mta.accept.envelope import Builder
from mta.config import Config
from mta.link import QueueLink
from mta.policy import Policy

__all__ = ["Shared"]

# Message octets in RAM that no commit has taken yet, for one worker: beyond it 452, not growth.
HELD_OCTETS = 268_435_456


class Shared:
    """Everything a connection needs that is not its own."""

    def __init__(self, config: Config, link: QueueLink, loop: asyncio.AbstractEventLoop) -> None:
        self._held_octets = 0
        self.hostname = config.hostname
        self.limits = config.limits
        self.max_octets = config.limits.message_octets
        # The listening sockets are shared too, and nobody counts for all workers yet: each takes its part.
        self.most_connections = -(-config.limits.connections // config.workers.n_processes)
        self.policy = Policy(config.relay, config.local)
        self.link = link
        self.ids = link.ids
        self.builder = Builder(config.hostname, config.limits.received, config.retry.give_up_s, self.max_octets)
        self.note = link.note
        self.time = loop.time
        self.later = loop.call_later

    @property
    def has_room(self) -> bool:
        """A new message may come in: there is room for it here and in the queue."""
        return self._held_octets < HELD_OCTETS and self.link.has_storage

    def hold(self, octets: int) -> bool:
        """Count octets of a message that is coming in; False when twice the room is taken."""
        self._held_octets += octets
        return self._held_octets < 2 * HELD_OCTETS

    def release(self, octets: int) -> None:
        """Count them off."""
        self._held_octets -= octets

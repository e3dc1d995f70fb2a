"""What all connections of one worker share: limits, policy, the links, and the room for messages that are coming in.

Made once by the Service, handed to each connection.
"""

import asyncio

import msgspec

from mta.accept.envelope import Builder
from mta.config import Config
from mta.link import QueueLink
from mta.policy import Policy
from mta.reply import Reply
from mta.state import Asker, StateLink, Visit

__all__ = ["Shared"]

# Message octets in RAM that no commit has taken yet, for one worker: beyond it 452, not growth.
HELD_OCTETS = 268_435_456
# Under stress, as Postfix has it: so long may a client be silent, and so many errors may it make.
STRESS_TIMEOUT_S = 10.0
STRESS_ERRORS = 1


class Shared:
    """Everything a connection needs that is not its own."""

    def __init__(self, config: Config, link: QueueLink, state: StateLink, loop: asyncio.AbstractEventLoop) -> None:
        self._held_octets = 0
        self.hostname = config.hostname
        self._patient = config.limits
        self._stressed = msgspec.structs.replace(
            config.limits,
            command_timeout_s=min(STRESS_TIMEOUT_S, config.limits.command_timeout_s),
            data_timeout_s=min(STRESS_TIMEOUT_S, config.limits.data_timeout_s),
            hard_errors=STRESS_ERRORS,
        )
        self.limits = config.limits
        """What a session may take now."""
        self.is_stressed = False
        self._exempts_trusted = config.limits.client.exempt_relay
        self.max_octets = config.limits.message_octets
        self._state = state
        self.policy = Policy(config.relay, config.local)
        self.link = link
        self.ids = link.ids
        self.builder = Builder(config.hostname, config.limits.received, config.retry.give_up_s, self.max_octets)
        self.note = link.note
        self.parting: Reply | None = None
        """What clients are told because this worker leaves or stops; None while it does neither."""
        self.is_stopping = False
        """Who connects is told at once."""
        self.time = loop.time
        self.later = loop.call_later

    def stress(self, *, is_on: bool) -> None:
        """Have less patience with clients while the whole machine's connections are near their limit."""
        self.is_stressed = is_on
        self.limits = self._stressed if is_on else self._patient

    def visit(self, client: str, listener: str, asker: Asker, *, is_trusted: bool) -> Visit:
        """Begin the visit of a client, as `StateLink.open` does."""
        return self._state.open(client, listener, asker, is_exempt=is_trusted and self._exempts_trusted)

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

"""Which messages a queue command is about: the filters that `list` and the orders share."""

from collections.abc import Container, Iterator
from typing import Annotated, Any

import msgspec
import typer

from mta.address import canonical_domain
from mta.cli.rows import STATES, ids, message_row, messages, state_of
from mta.message import ID_OCTETS
from mta.store import DAMAGE, Queued, Reader, due_of, message_of

PAGE = 5000

__all__ = ["CampaignOption", "DomainOption", "Filter", "SenderOption", "StateOption", "TenantOption"]

DomainOption = Annotated[str, typer.Option("--domain", help="Only messages with a recipient in this domain.")]
SenderOption = Annotated[str, typer.Option("--sender", help="Only messages from this address; <> is the null sender.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="Only this tenant's messages.")]
CampaignOption = Annotated[str, typer.Option("--campaign", help="Only this campaign's messages.")]
StateOption = Annotated[str, typer.Option("--state", help=f"Only messages in this state: {', '.join(STATES)}.")]


class Filter(msgspec.Struct, frozen=True):
    """What a message must have; "" is anything."""

    domain: str = ""
    sender: str = ""
    tenant: str = ""
    campaign: str = ""
    state: str = ""

    def check(self) -> None:
        """Raise typer.BadParameter for a state that no message can be in."""
        if self.state and self.state not in STATES:
            raise typer.BadParameter(f"expected one of {', '.join(STATES)}, got {self.state!r}", param_hint="--state")

    def messages(self, reader: Reader, active: Container[bytes], damaged: list[bytes]) -> Iterator[Queued]:
        """Yield the messages that fit, oldest first; `active` holds the names of the leased parts, and `damaged` gets
        the keys of what cannot be read."""
        found = self._named(reader, damaged) if self.domain else messages(reader, damaged)
        return (queued for queued in found if self._fits(queued, active))

    def rows(self, reader: Reader, active: Container[bytes], damaged: list[bytes]) -> Iterator[dict[str, Any]]:
        """Yield their rows, as `queue list` shows them."""
        return (message_row(queued, active) for queued in self.messages(reader, active, damaged))

    def ids(self, reader: Reader, active: Container[bytes], damaged: list[bytes]) -> Iterator[bytes]:
        """Yield their ids, without reading more of them than it takes."""
        if self == Filter():
            return ids(reader)
        if self == Filter(domain=self.domain):
            return iter(self._in_domain(reader, damaged))
        return (queued.id for queued in self.messages(reader, active, damaged))

    def _fits(self, queued: Queued, active: Container[bytes]) -> bool:
        message = queued.message
        return (
            (not self.sender or message.sender == ("" if self.sender == "<>" else self.sender))
            and (not self.tenant or message.tenant == self.tenant)
            and (not self.campaign or message.campaign == self.campaign)
            and (not self.state or state_of(queued, active) == self.state)
        )

    def _named(self, reader: Reader, damaged: list[bytes]) -> Iterator[Queued]:
        """Yield the messages with a recipient in the domain, oldest first."""
        for id_ in self._in_domain(reader, damaged):
            try:
                queued = reader.queued(id_)
            except DAMAGE:
                damaged.append(id_)
                continue
            if queued is not None:
                yield queued

    def _in_domain(self, reader: Reader, damaged: list[bytes]) -> list[bytes]:
        """Return the ids of those; of a million other messages only the queues are looked at."""
        domain = canonical_domain(self.domain) or self.domain
        found: set[bytes] = set()
        after = b""
        while page := reader.queues(after, PAGE):
            for key, queue in page:
                if queue is None:
                    damaged.append(key)
                elif queue.name.domain == domain:
                    found.update(_in_queue(reader, key))
            after = page[-1][0]
        # A damaged key may end within the id.
        return sorted(id_ for id_ in found if len(id_) == ID_OCTETS)


def _in_queue(reader: Reader, queue: bytes) -> Iterator[bytes]:
    after = b""
    while page := reader.due(queue, after, PAGE):
        yield from (message_of(due_of(key)[1]) for key in page)
        after = page[-1]

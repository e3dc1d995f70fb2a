"""Which messages a queue command is about: the filters that `list` and the orders share."""

from collections.abc import Container, Iterator
from typing import Annotated, Any

import msgspec
import typer

from mta.address import canonical_domain
from mta.cli.rows import STATES, message_row, messages
from mta.store import Reader

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

    def rows(self, reader: Reader, active: Container[bytes], damaged: list[bytes]) -> Iterator[dict[str, Any]]:
        """Yield the rows of the messages that fit, oldest first; `active` holds the names of the leased parts, and
        `damaged` gets the ids of messages that cannot be read."""
        domain = canonical_domain(self.domain) or self.domain
        wanted = {key: getattr(self, key) for key in ("tenant", "campaign", "state") if getattr(self, key)}
        if self.sender:
            wanted["sender"] = "" if self.sender == "<>" else self.sender
        for queued in messages(reader, damaged):
            row = message_row(queued, active)
            if (not domain or domain in row["domains"]) and all(row[key] == value for key, value in wanted.items()):
                yield row

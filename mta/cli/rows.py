"""Messages in the queue as INTERFACES shows them: one dict a message, one a recipient, and the totals.

Rule: every key is always there, "" and 0 for nothing. Used by the queue commands, whatever they print it as.
"""

from collections.abc import Container, Iterator
from typing import Any

from mta.report import rfc3339
from mta.store import PartRow, Queued, Reader, RecipientRow

__all__ = ["STATES", "count", "message_row", "messages", "recipient_rows"]

# What a message with parts in several states is shown as: the first of these that one of them is in.
STATES = ("active", "waiting", "deferred", "held", "aside")
PAGE_MESSAGES = 500


def messages(reader: Reader) -> Iterator[Queued]:
    """Yield every message, oldest first, each page read in its own short transaction."""
    after = b""
    while page := reader.page(after, PAGE_MESSAGES):
        yield from page
        after = page[-1].id


def message_row(queued: Queued, active: Container[bytes]) -> dict[str, Any]:
    """Return one message as `queue list` shows it; `active` holds the names of the parts that are leased."""
    message = queued.message
    parts = [part.part for part in queued.parts]
    states = {_state(part.part, part.name, active) for part in queued.parts}
    recipients = [row for part in queued.parts for _, row in part.recipients]
    return {
        "id": queued.id.hex(),
        "state": next((state for state in STATES if state in states), ""),
        "sender": message.sender,
        "octets": message.octets,
        "received_at": rfc3339(message.received_at),
        "expires_at": rfc3339(min((part.expires for part in parts), default=0)),
        "tenant": message.tenant,
        "campaign": message.campaign,
        "domains": sorted({part.queue.name.domain for part in queued.parts}),
        "n_recipients": message.n_recipients,
        "n_open": len(recipients),
        "attempts": max((part.attempt for part in parts), default=0),
        "next_at": rfc3339(min((part.due for part in parts), default=0)),
        "last": _last(max(recipients, key=lambda row: row.last_at, default=None)),
    }


def recipient_rows(queued: Queued, active: Container[bytes]) -> list[dict[str, Any]]:
    """Return a message's open recipients as `queue show` lists them."""
    return [
        {
            "number": number,
            "address": row.address,
            "domain": part.queue.name.domain,
            "state": _state(part.part, part.name, active),
            "attempts": part.part.attempt,
            "next_at": rfc3339(part.part.due),
            "last": _last(row),
        }
        for part in queued.parts
        for number, row in part.recipients
    ]


def count(reader: Reader, active: Container[bytes]) -> dict[str, int]:
    """Return the totals: messages, recipients, and the recipients in each state."""
    totals = dict.fromkeys(("messages", "recipients", "waiting", "deferred", "active", "held", "aside"), 0)
    totals["messages"] = reader.n_messages()
    after = b""
    while page := reader.parts(after, PAGE_MESSAGES):
        for name, part in page:
            totals["recipients"] += part.n_open
            totals[_state(part, name, active)] += part.n_open
        after = page[-1][0]
    return totals


def _state(part: PartRow, name: bytes, active: Container[bytes]) -> str:
    if part.state:
        return part.state
    if name in active:
        return "active"
    return "deferred" if part.attempt else "waiting"


def _last(row: RecipientRow | None) -> dict[str, Any]:
    outcome = row.last if row is not None else None
    if row is None or outcome is None:
        return dict.fromkeys(("status", "enhanced", "reason", "remote_mta", "diagnostic", "at"), "") | {"code": 0}
    return {
        "status": outcome.status,
        "code": outcome.code,
        "enhanced": outcome.enhanced,
        "reason": outcome.reason,
        "remote_mta": outcome.remote_mta,
        "diagnostic": outcome.diagnostic,
        "at": rfc3339(row.last_at),
    }

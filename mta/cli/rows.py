"""Messages in the queue as INTERFACES shows them: one dict a message, one a recipient, and the totals.

Rule: every key is always there, "" and 0 for nothing. Used by the queue commands, whatever they print it as.
"""

from collections.abc import Container, Iterator
from typing import Any

from mta.errors import StartError
from mta.message import Outcome
from mta.report import rfc3339
from mta.store import NEVER_MS, PartRow, Queued, QueuedPart, Reader, RecipientRow

__all__ = ["STATES", "count", "ids", "message_row", "messages", "recipient_rows", "state_of", "tell_damage"]

# What a message with parts in several states is shown as: the first of these that one of them is in.
STATES = ("active", "waiting", "deferred", "held", "aside")
PAGE_MESSAGES = 500


def messages(reader: Reader, damaged: list[bytes]) -> Iterator[Queued]:
    """Yield every message, oldest first, each page read in its own short transaction.

    The ids of those that cannot be read go to `damaged`: the others are not to be kept from anybody by them.
    """
    after = b""
    while page := reader.page(after, PAGE_MESSAGES):
        damaged += [id_ for id_, queued in page if queued is None]
        yield from (queued for _, queued in page if queued is not None)
        after = page[-1][0]


def ids(reader: Reader) -> Iterator[bytes]:
    """Yield the id of every message, oldest first."""
    after = b""
    while page := reader.ids(after, PAGE_MESSAGES):
        yield from page
        after = page[-1]


def tell_damage(damaged: list[bytes]) -> None:
    """Raise StartError if there was anything that could not be read."""
    if damaged:
        what = "1 row" if len(damaged) == 1 else f"{len(damaged):,} rows"
        raise StartError(f"{what} of the queue cannot be read: see mta queue verify")


def state_of(queued: Queued, active: Container[bytes]) -> str:
    """Return the state of a message; `active` holds the names of the parts that are leased."""
    states = {_state(part.part, part.name, active) for part in queued.parts}
    return next((state for state in STATES if state in states), "")


def message_row(queued: Queued, active: Container[bytes]) -> dict[str, Any]:
    """Return one message as `queue list` shows it; `active` holds the names of the parts that are leased."""
    message = queued.message
    parts = [part.part for part in queued.parts]
    lasts = [_last_of(part, row) for part in queued.parts for _, row in part.recipients]
    return {
        "id": queued.id.hex(),
        "state": state_of(queued, active),
        "sender": message.sender,
        "octets": message.octets,
        "received_at": rfc3339(message.received_at),
        "expires_at": rfc3339(min((part.expires for part in parts), default=0)),
        "tenant": message.tenant,
        "campaign": message.campaign,
        "domains": sorted({part.queue.name.domain for part in queued.parts}),
        "n_recipients": message.n_recipients,
        "n_open": len(lasts),
        "attempts": max((part.attempt for part in parts), default=0),
        "next_at": _next_at(min((min(part.due, _end(part)) for part in parts), default=0)),
        "last": max(lasts, key=lambda last: str(last["at"]), default=_last(None, 0)),
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
            "next_at": _next_at(min(part.part.due, _end(part.part))),
            "last": _last_of(part, row),
        }
        for part in queued.parts
        for number, row in part.recipients
    ]


def count(reader: Reader, active: Container[bytes], damaged: list[bytes]) -> dict[str, int]:
    """Return the totals: messages, recipients, and the recipients in each state; `damaged` as in `messages`."""
    totals = dict.fromkeys(("messages", "recipients", "waiting", "deferred", "active", "held", "aside"), 0)
    totals["messages"] = reader.n_messages()
    after = b""
    while page := reader.parts(after, PAGE_MESSAGES):
        for name, part in page:
            if part is None:
                damaged.append(name)
                continue
            totals["recipients"] += part.n_open
            totals[_state(part, name, active)] += part.n_open
        after = page[-1][0]
    return totals


def _end(part: PartRow) -> int:
    """Return when a part expires, if it is to be tried until then; past that no try is told of."""
    return part.expires if not part.state else NEVER_MS


def _next_at(due: int) -> str:
    """Return when a part is due; "" for one that is held or set aside, which has no next time."""
    return rfc3339(due) if due < NEVER_MS else ""


def _state(part: PartRow, name: bytes, active: Container[bytes]) -> str:
    if part.state:
        return part.state
    if name in active:
        return "active"
    return "deferred" if part.attempt else "waiting"


def _last_of(part: QueuedPart, row: RecipientRow) -> dict[str, Any]:
    """Return what became of a recipient last; of one that was never tried, what is wrong with the way there."""
    if row.last is None and part.path is not None:
        return _last(part.path.failure, part.path.written_at)
    return _last(row.last, row.last_at)


def _last(outcome: Outcome | None, at: int) -> dict[str, Any]:
    if outcome is None:
        return dict.fromkeys(("status", "enhanced", "reason", "remote_mta", "diagnostic", "at"), "") | {"code": 0}
    return {
        "status": outcome.status,
        "code": outcome.code,
        "enhanced": outcome.enhanced,
        "reason": outcome.reason,
        "remote_mta": outcome.remote_mta,
        "diagnostic": outcome.diagnostic,
        "at": rfc3339(at),
    }

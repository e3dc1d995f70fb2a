"""What every room means by a message: ids, envelopes, outcomes. Frozen values, no behaviour but the making of ids.

A message id is 16 bytes that sort by time: 48-bit milliseconds since 1970, 16-bit node, 32-bit incarnation of the
process that made it, 32-bit count; as text 32 lowercase hex digits. A part is named by `part_name`: id and number.
"""

import struct
import time
from collections.abc import Callable
from typing import Literal

import msgspec

__all__ = [
    "DIAGNOSTIC_OCTETS",
    "ID_OCTETS",
    "LOCAL_SITE",
    "LOST_SITE",
    "REASON_OCTETS",
    "Address",
    "Hosts",
    "IdMaker",
    "Outcome",
    "QueueName",
    "Status",
    "cut",
    "lost_site",
    "maker_of",
    "now_ms",
]

Status = Literal["delivered", "deferred", "bounced", "expired", "dropped"]

Hosts = tuple[tuple[str, int], ...]
"""(address or name, port) in the order they shall be tried."""

LOCAL_SITE = "local"
"""The name of the site where mail goes that ends here."""

LOST_SITE = "unresolved:"
"""What the names of sites begin with of which the name service knows nothing at the moment: see `lost_site`."""

ID_OCTETS = 16
_pack_id = struct.Struct(">IHHII").pack
# INTERFACES: diagnostics are cut at 1,000 octets of UTF-8, addresses never. A row has to hold what is left.
DIAGNOSTIC_OCTETS = 1000
REASON_OCTETS = 250


class Address(msgspec.Struct, frozen=True):
    """A mailbox, split at its last at sign. RFC 5321 s4.1.2, RFC 6531 s3.3.

    `local` is as it was given, quotes and escapes removed; case is kept (RFC 5321 s2.4).
    `domain` is lowercase, or an address literal in brackets, or "" for the bare <Postmaster>.
    `text` is what goes on the wire between the angle brackets; "" is the null reverse-path.
    """

    local: str
    domain: str
    text: str


class QueueName(msgspec.Struct, frozen=True, array_like=True):
    """Where parts wait together. `route` is a next hop chosen at reception, usually ""."""

    tenant: str
    campaign: str
    priority: int
    domain: str
    route: str


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one recipient in one attempt. Every field is always there, "" and 0 for nothing.

    `status` is expired only when the queue process said that time is up, dropped when an operator or a client that was
    told 451 took the message back.

    `code` and `enhanced` are the peer's or ours; `reason` is our sentence, `diagnostic` the peer's own words
    (text, unescaped, at most 1,000 octets in UTF-8), `remote_mta` the name and address of the peer. Without a peer the
    diagnostic is for the operator alone: no sender is told of it.
    """

    status: Status
    code: int
    enhanced: str
    reason: str
    remote_mta: str
    diagnostic: str


def cut(text: str, octets: int = DIAGNOSTIC_OCTETS) -> str:
    """Return `text`, cut so that it takes at most `octets` in UTF-8, never inside a character."""
    if len(text) * 4 <= octets:
        return text
    return text.encode("utf-8", "replace")[:octets].decode("utf-8", "ignore")


def now_ms() -> int:
    """Return the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def maker_of(id_: bytes) -> int:
    """Return the incarnation of the process that made a message id, or the id in a part's name."""
    return int.from_bytes(id_[8:12], "big")


def lost_site(domain: str, route: str) -> str:
    """Return the name of the site where mail waits while nobody knows where its domain, or its next hop, is."""
    return f"{LOST_SITE}{domain} {route}" if route else f"{LOST_SITE}{domain}"


class IdMaker:
    """Makes message ids that never repeat and never run back, whatever the wall clock does."""

    def __init__(self, node: int, incarnation: int, clock_ms: Callable[[], int] = now_ms) -> None:
        self._node = node
        self._incarnation = incarnation
        self._clock_ms = clock_ms
        self._last_ms = 0
        self._count = 0

    def make(self) -> bytes:
        """Return the next id, 16 bytes."""
        self._last_ms = ms = max(self._last_ms, self._clock_ms())
        self._count = count = (self._count + 1) & 0xFFFFFFFF
        return _pack_id(ms >> 16, ms & 0xFFFF, self._node, self._incarnation, count)

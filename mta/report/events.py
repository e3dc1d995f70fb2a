"""The event vocabulary: one Struct for each thing that is told to the outside.

Rule: an event is made once, encoded by `encode`, put into the outbox under the next sequence number, and written to a
segment file by `mta: report`, which renders it with `to_json`. INTERFACES pins the JSON; fields here stand in its
order. `at` and every other `*_at` are milliseconds since 1970, 0 for none; `id` is 16 bytes, b"" for none.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, get_args, get_type_hints

import msgspec

from mta.message import cut
from mta.reply import is_visible

__all__ = [
    "FATES",
    "Bounced",
    "ChildDied",
    "ConnectionClosed",
    "Deferred",
    "Delivered",
    "Dropped",
    "Event",
    "Expired",
    "Fate",
    "Fault",
    "PathPaused",
    "PathResumed",
    "Received",
    "Rejected",
    "ReloadFailed",
    "Reloaded",
    "SetAside",
    "Started",
    "Stopped",
    "StorageLow",
    "StorageOk",
    "StressBegan",
    "StressEnded",
    "cut",
    "decode",
    "encode",
    "escape_json",
    "rfc3339",
    "to_json",
]


class Base(msgspec.Struct, frozen=True, array_like=True):
    """What every event has."""

    at: int
    id: bytes
    tenant: str


class Received(Base, frozen=True, tag="received"):
    """A message was taken into the queue; `about` is the id a notice of ours reports on."""

    sender: str
    n_recipients: int
    octets: int
    client: str
    helo: str
    protocol: str
    listener: str
    about: bytes


class Fate(Base, frozen=True):
    """One recipient after one attempt. `attempts` counts this one, `queued_s` runs from reception."""

    recipient: str
    number: int
    attempts: int
    code: int
    enhanced: str
    reason: str
    remote_mta: str
    diagnostic: str
    queued_s: float
    next_at: int


class Delivered(Fate, frozen=True, tag="delivered"):
    """The next hop or the mailbox has it."""


class Deferred(Fate, frozen=True, tag="deferred"):
    """It is tried again at `next_at`. A `reason` that begins with "possibly delivered" is a possible repeat: the peer
    has the whole message, and we do not know whether it took it (`mta.smtp.POSSIBLE_REPEAT`)."""


class Bounced(Fate, frozen=True, tag="bounced"):
    """It was refused for good."""


class Expired(Fate, frozen=True, tag="expired"):
    """It was tried for as long as the retry schedule allows."""


class Dropped(Fate, frozen=True, tag="dropped"):
    """It was taken out of the queue without a try, and nobody was told: `reason` says who wanted that."""


class Rejected(Base, frozen=True, tag="rejected"):
    """A client was refused; stage is connect, helo, mail, rcpt, data or message."""

    client: str
    helo: str
    stage: str
    sender: str
    recipient: str
    code: int
    enhanced: str
    reason: str


class ConnectionClosed(Base, frozen=True, tag="connection_closed"):
    """A client's connection ended; `reason` is quit, lost, timeout, errors, refused, fault or shutdown."""

    client: str
    helo: str
    listener: str
    n_messages: int
    n_errors: int
    lasted_s: float
    reason: str


class Started(Base, frozen=True, tag="started"):
    """The queue process opened the queue."""

    hostname: str
    version: str


class Stopped(Base, frozen=True, tag="stopped"):
    """The server ended in order."""

    hostname: str


class Reloaded(Base, frozen=True, tag="reloaded"):
    """New workers serve by the configuration as it is now; `kind` is reload or upgrade, `version` the program's."""

    hostname: str
    kind: str
    version: str


class ReloadFailed(Base, frozen=True, tag="reload_failed"):
    """Nothing was changed by a reload or upgrade, because of the problems."""

    hostname: str
    kind: str
    problems: tuple[str, ...]


class ChildDied(Base, frozen=True, tag="child_died"):
    """A child process ended that should not have; `status` as in waitpid(2), decoded: "exit 1", "signal 9"."""

    name: str
    pid: int
    status: str


class PathPaused(Base, frozen=True, tag="path_paused"):
    """Nothing goes to a site until `next_at`, because its hosts failed; no message counts an attempt for it."""

    source: str
    site: str
    code: int
    enhanced: str
    reason: str
    remote_mta: str
    diagnostic: str
    next_at: int


class PathResumed(Base, frozen=True, tag="path_resumed"):
    """A host of a paused site greeted us again."""

    source: str
    site: str


class SetAside(Base, frozen=True, tag="set_aside"):
    """A part is tried no more until somebody has looked at it: `mta queue release` or `remove`."""

    part: int
    reason: str


class StorageLow(Base, frozen=True, tag="storage_low"):
    """New mail is refused: what is free is under the reserve."""

    free_octets: int
    reserve_octets: int


class StorageOk(Base, frozen=True, tag="storage_ok"):
    """New mail is taken again."""

    free_octets: int
    reserve_octets: int


class StressBegan(Base, frozen=True, tag="stress_began"):
    """Clients' connections are near `limit`: there is less patience with them."""

    n_connections: int
    limit: int


class StressEnded(Base, frozen=True, tag="stress_ended"):
    """They are well below it again."""

    n_connections: int
    limit: int


class Fault(Base, frozen=True, tag="fault"):
    """Something that should not happen; `detail` is an escaped traceback or a sentence."""

    where: str
    detail: str


Event = (
    Received
    | Delivered
    | Deferred
    | Bounced
    | Expired
    | Dropped
    | PathPaused
    | PathResumed
    | SetAside
    | StorageLow
    | StorageOk
    | StressBegan
    | StressEnded
    | Rejected
    | ConnectionClosed
    | Started
    | Stopped
    | Reloaded
    | ReloadFailed
    | ChildDied
    | Fault
)
FATES: dict[str, type[Delivered | Deferred | Bounced | Expired | Dropped]] = {
    "delivered": Delivered,
    "deferred": Deferred,
    "bounced": Bounced,
    "expired": Expired,
    "dropped": Dropped,
}

encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def decode(data: bytes) -> Event:
    """Return the event that `encode` wrote. Raises msgspec.DecodeError for anything else."""
    return _decoder.decode(data)


def rfc3339(ms: int) -> str:
    """Return milliseconds since 1970 as RFC 3339 in UTC with milliseconds and Z; 0 gives ""."""
    if not ms:
        return ""
    second, rest = divmod(ms, 1000)
    return f"{_second(second)}.{rest:03d}Z"


# Events come in time order, so that nearly all of them share their second with the one before.
@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class _Shape(NamedTuple):
    """How one type of event becomes a JSON line: `row` has the line's keys as fields, msgspec writes it in C."""

    row: Callable[..., msgspec.Struct]
    tag: str
    ids: tuple[int, ...]
    times: tuple[int, ...]


def _shape(kind: type[Base]) -> _Shape:
    keys = ["seq", "at", "event", *kind.__struct_fields__[1:]]
    ids = tuple(keys.index(name) for name, hint in get_type_hints(kind).items() if hint is bytes)
    times = (1, *(number for number, key in enumerate(keys) if key.endswith("_at")))
    fields = [(key, object) for key in keys]
    return _Shape(msgspec.defstruct(f"{kind.__name__}Row", fields), str(kind.__struct_config__.tag), ids, times)


_SHAPES: dict[type[Base], _Shape] = {kind: _shape(kind) for kind in get_args(Event)}
_encode_json = msgspec.json.Encoder().encode


def to_json(seq: int, event: Event) -> bytes:
    """Return one JSON line without its line end: seq, at, event, id, tenant, then the event's own fields.

    Nothing in it does anything to a terminal, whatever a client or a peer said.

    Raises ValueError, OverflowError or OSError for a time outside the years 1 to 9999; anything else is a bug.
    """
    row, tag, ids, times = _SHAPES[type(event)]
    at, *rest = msgspec.structs.astuple(event)
    values = [seq, at, tag, *rest]
    for place in ids:
        values[place] = values[place].hex()
    for place in times:
        values[place] = rfc3339(values[place])
    return escape_json(_encode_json(row(*values)))


def escape_json(line: bytes) -> bytes:
    """Return JSON that means the same, with an escape for each character that does more than show itself.

    JSON lets DEL, the C1 controls and what turns the writing round stand, and some terminals obey them.
    """
    if line.isascii() and b"\x7f" not in line:
        return line
    text = line.decode()
    if text.isprintable():
        return line
    return "".join([c if is_visible(c) else _escape(c) for c in text]).encode()


def _escape(character: str) -> str:
    # RFC 8259 s7: beyond the basic plane a pair of surrogates.
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))

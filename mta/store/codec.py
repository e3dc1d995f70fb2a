"""The rows: what stands behind each key, as msgpack arrays.

Rule: key and value together are at most ROW_OCTETS. A larger node needs a run of contiguous overflow pages, and looking
for one in a fragmented free list is what makes LMDB slow under churn (measured, DESIGN section 3). `checked` says so
before LMDB is asked.
"""

import msgspec

from mta.message import Outcome, QueueName

__all__ = [
    "CHUNK_OCTETS",
    "EIGHT_BIT",
    "ROW_OCTETS",
    "UTF8",
    "CounterRow",
    "MessageRow",
    "PartRow",
    "PathRow",
    "QueueRow",
    "RecipientRow",
    "checked",
    "decode_counter",
    "decode_extents",
    "decode_message",
    "decode_part",
    "decode_path",
    "decode_queue",
    "decode_recipient",
    "encode",
]

# LMDB 0.9 with 4 KiB pages keeps a node on its page up to 2,038 octets of header, key and value.
ROW_OCTETS = 2026
CHUNK_OCTETS = ROW_OCTETS - 10

# MessageRow.flags
EIGHT_BIT = 1
UTF8 = 2


class MessageRow(msgspec.Struct, frozen=True, array_like=True):
    """One message. `extents` are (number, octets) in the order in which they are sent; times are ms since 1970.

    `n_recipients` and `n_parts` are what it began with.
    """

    sender: str
    octets: int
    received_at: int
    tenant: str
    campaign: str
    extents: tuple[tuple[int, int], ...]
    flags: int
    n_parts: int
    n_recipients: int


class PartRow(msgspec.Struct, frozen=True, array_like=True):
    """The unit of scheduling. `deaths` counts workers that died with it; `state` is "" or held or aside; `order` is
    what an operator wants done with it, at once or when it is settled: "" or retry, hold, remove or bounce; `n_open`
    counts its recipients whose fate is open; `cost` is what it takes of its queue's turn, see `mta._fast.turn`."""

    queue: int
    due: int
    expires: int
    attempt: int
    deaths: int
    state: str
    order: str
    n_open: int
    cost: int


class RecipientRow(msgspec.Struct, frozen=True, array_like=True):
    """A recipient whose fate is open. `dsn` holds its DSN parameters; `last` the last outcome, told at `last_at`."""

    address: str
    dsn: str
    last: Outcome | None
    last_at: int


class QueueRow(msgspec.Struct, frozen=True, array_like=True):
    """A queue that holds parts; `wake` is the due time in its `wake` row. `site` is where nothing could be sent when it
    went to sleep: that path's row says why."""

    name: QueueName
    wake: int
    site: str = ""


class PathRow(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a path while nothing uses it; times are ms since 1970, 0 for never.

    No part is leased before `paused_until`, because of `failure`. `window` is how many sessions the path may have, and
    until `ceiling_until` no more than `ceiling`, for more were refused. `greeted_at` is when a host last greeted us.
    `n_lost` counts the pauses in a row because nobody knew the site.
    """

    source: str
    site: str
    paused_until: int
    failure: Outcome | None
    window: int
    ceiling: int
    ceiling_until: int
    greeted_at: int
    written_at: int
    n_lost: int = 0


class CounterRow(msgspec.Struct, array_like=True):
    """Recipients of one tenant since the queue was made: received = the others + what is queued, always."""

    tenant: str
    received: int = 0
    delivered: int = 0
    bounced: int = 0
    expired: int = 0
    dropped: int = 0


encode = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder(MessageRow).decode
decode_part = msgspec.msgpack.Decoder(PartRow).decode
decode_recipient = msgspec.msgpack.Decoder(RecipientRow).decode
decode_queue = msgspec.msgpack.Decoder(QueueRow).decode
decode_path = msgspec.msgpack.Decoder(PathRow).decode
decode_extents = msgspec.msgpack.Decoder(tuple[tuple[int, int], ...]).decode
"""What `incoming` and `trash` hold: (extent, octets) in order, like MessageRow.extents."""
decode_counter = msgspec.msgpack.Decoder(CounterRow).decode


def checked(key: bytes, value: bytes) -> bytes:
    """Return `value` if its row fits a node. Raises ValueError otherwise: the caller's frame is at fault."""
    if len(key) + len(value) > ROW_OCTETS:
        raise ValueError(f"a row of {len(key) + len(value)} octets is over the limit of {ROW_OCTETS}")
    return value

"""The tables and the layout of their keys. DESIGN section 3 says what each table is for.

Numbers in keys are big endian, so that LMDB's order is theirs. A part is named by 18 octets: message id, then number.

    message      id 16
    part         id 16 · part 2
    recipient    id 16 · part 2 · number 2
    body         extent 8 · chunk 2
    queue        number 8
    queue_name   digest 20 of the name          names may be longer than LMDB's 511 octets
    due          queue 8 · due ms 8 · id 16 · part 2
    wake         due ms 8 · queue 8
    gone         id 16
    event        sequence 8
    counter      digest 20 of the tenant
    meta         name
"""

import hashlib
import struct

import msgspec

from mta.message import QueueName

__all__ = [
    "TABLES",
    "body_key",
    "due_key",
    "due_of",
    "message_of",
    "number",
    "number_key",
    "part_name",
    "queue_name_key",
    "recipient_key",
    "tenant_key",
    "wake_key",
]

TABLES = (
    "meta",
    "message",
    "part",
    "recipient",
    "body",
    "queue",
    "queue_name",
    "due",
    "wake",
    "gone",
    "event",
    "counter",
)

ID_OCTETS = 16

_u64 = struct.Struct(">Q")
_u64_u16 = struct.Struct(">QH")
_u64_u64 = struct.Struct(">QQ")
_u16 = struct.Struct(">H")

number_key = _u64.pack
"""Pack one number: the key of `queue` and `event`, and how `meta` holds numbers."""
body_key = _u64_u16.pack
"""(extent, chunk)."""
wake_key = _u64_u64.pack
"""(due ms, queue)."""


def number(key: bytes) -> int:
    """Return the number that leads a key, or that `number_key` packed."""
    return int.from_bytes(key[:8], "big")


def part_name(message_id: bytes, part: int) -> bytes:
    """Return the 18 octets that name part `part` of a message; the key of `part`."""
    return message_id + _u16.pack(part)


def message_of(part: bytes) -> bytes:
    """Return the message id in a part's name, or in any key that begins with one."""
    return part[:ID_OCTETS]


def recipient_key(part: bytes, recipient: int) -> bytes:
    """Return the key of a part's recipient by its number."""
    return part + _u16.pack(recipient)


def due_key(queue: int, due: int, part: bytes) -> bytes:
    """Return the key that puts a part at `due` milliseconds into its queue."""
    return _u64_u64.pack(queue, due) + part


def due_of(key: bytes) -> tuple[int, bytes]:
    """Return (due ms, part name) of a `due` key."""
    return int.from_bytes(key[8:16], "big"), key[16:]


def queue_name_key(name: QueueName) -> bytes:
    """Return the key under which a queue's number is found."""
    return hashlib.blake2b(msgspec.msgpack.encode(name), digest_size=20).digest()


def tenant_key(tenant: str) -> bytes:
    """Return the key of a tenant's counters."""
    return hashlib.blake2b(tenant.encode(), digest_size=20).digest()

"""The tables and the layout of their keys. DESIGN section 3 says what each table is for.

Numbers in keys are big endian, so that LMDB's order is theirs; `mta._fast` packs them. A part is named by 18 octets:
message id, then number.

    message      id 16
    part         id 16 · part 2
    recipient    id 16 · part 2 · number 2
    body         extent 8 · chunk 2
    extent       extent 8                       value: number 8
    queue        number 8
    queue_name   digest 20 of the name          names may be longer than LMDB's 511 octets
    due          queue 8 · due ms 8 · id 16 · part 2          the value is what `turn` packs
    wake         due ms 8 · queue 8
    timer        when ms 8 · id 16 · part 2 · kind 1
    path         digest 20 of source and site
    incoming     id 16
    trash        id 16
    gone         id 16
    event        sequence 8
    counter      digest 20 of the tenant
    meta         name
"""

import hashlib
from functools import lru_cache

import msgspec

from mta._fast import body_key, chunk_rows, due_key, number, number_key, numbered, timer_key, turn, wake_key
from mta.message import ID_OCTETS, QueueName

__all__ = [
    "BOUNCE",
    "EXPIRE",
    "LOST_EXTENT",
    "NEVER_MS",
    "TABLES",
    "body_key",
    "chunk_rows",
    "due_key",
    "due_of",
    "message_of",
    "number",
    "number_key",
    "part_name",
    "path_key",
    "queue_name_key",
    "recipient_key",
    "tenant_key",
    "timer_key",
    "timer_of",
    "turn",
    "turn_of",
    "wake_key",
]

TABLES = (
    "meta",
    "message",
    "part",
    "recipient",
    "body",
    "extent",
    "queue",
    "queue_name",
    "due",
    "wake",
    "timer",
    "path",
    "incoming",
    "trash",
    "gone",
    "event",
    "counter",
)

# A part that is held or aside is due never: its row keeps its queue, and nothing wakes it.
NEVER_MS = (1 << 63) - 1

# Kinds of timers: what shall become of the part then, whatever its queue and path are doing.
EXPIRE = 1
BOUNCE = 2

# What a repair puts in the place of content that is lost: an extent that never is in `body`, so that nobody can send
# the rest as if it were whole.
LOST_EXTENT = 0

SUSPECT_BIT = 1 << 31

part_name = numbered
"""(message id, part): the 18 octets that name a part; the key of `part`."""
recipient_key = numbered
"""(part, recipient): the key of a part's recipient by its number."""


def message_of(part: bytes) -> bytes:
    """Return the message id in a part's name, or in any key that begins with one."""
    return part[:ID_OCTETS]


def due_of(key: bytes) -> tuple[int, bytes]:
    """Return (due ms, part name) of a `due` key."""
    return int.from_bytes(key[8:16], "big"), key[16:]


def turn_of(value: bytes) -> tuple[int, bool]:
    """Return (cost, is_suspect) of a `due` row's value."""
    packed = int.from_bytes(value, "big")
    return packed & (SUSPECT_BIT - 1), packed >= SUSPECT_BIT


def timer_of(key: bytes) -> tuple[int, bytes, int]:
    """Return (when ms, part name, kind) of a `timer` key."""
    return int.from_bytes(key[:8], "big"), key[8:-1], key[-1]


def path_key(source: str, site: str) -> bytes:
    """Return the key of what is remembered of the path from an egress source to a site."""
    return hashlib.blake2b(msgspec.msgpack.encode((source, site)), digest_size=20).digest()


# The same few names over and over.
@lru_cache(maxsize=4096)
def queue_name_key(name: QueueName) -> bytes:
    """Return the key under which a queue's number is found."""
    return hashlib.blake2b(msgspec.msgpack.encode(name), digest_size=20).digest()


def tenant_key(tenant: str) -> bytes:
    """Return the key of a tenant's counters."""
    return hashlib.blake2b(tenant.encode(), digest_size=20).digest()

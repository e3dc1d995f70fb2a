"""Pack the keys of the queue's tables. `mta.store.keys` says what they mean.

Numbers are big endian. OverflowError for one that is negative, or larger than its place. What is no int is not looked
for: it is the caller who knows.
"""

def number(key: bytes, /) -> int:
    """Return the number in the first 8 octets of a key, or in all of a shorter one."""

def number_key(value: int, /) -> bytes:
    """Return a number in 8 octets."""

def body_key(extent: int, chunk: int, /) -> bytes:
    """Return extent 8 · chunk 2."""

def chunk_rows(extent: int, content: bytes | memoryview, size: int, /) -> list[tuple[bytes, bytes]]:
    """Return the rows of a whole extent: under each `body_key` a copy of the next `size` octets, the last one shorter.

    Raises ValueError for a size below 1, OverflowError for more than 65,536 chunks.
    """

def wake_key(due: int, queue: int, /) -> bytes:
    """Return due 8 · queue 8."""

def numbered(name: bytes, place: int, /) -> bytes:
    """Return name · place 2."""

def due_key(queue: int, due: int, part: bytes, /) -> bytes:
    """Return queue 8 · due 8 · part."""

def timer_key(when: int, part: bytes, kind: int, /) -> bytes:
    """Return when 8 · part · kind 1."""

def turn(cost: int, is_suspect: bool = False, /) -> bytes:
    """Return 4 octets: the cost, at most 2**31 - 1, and above it one bit for a suspect."""

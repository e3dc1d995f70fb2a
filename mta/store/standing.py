"""Where a part stands: its one row in `due` and its one row in `timer`, as PartRow has them.

Rule: whoever writes these rows, and whoever checks them, asks here. Raises OverflowError for times that no key holds.
"""

from mta.store.codec import PartRow
from mta.store.keys import BOUNCE, EXPIRE, due_key, timer_key, turn

__all__ = ["SUSPECT_DEATHS", "due_row", "timer_row"]

# A worker may die of many things; of the same part twice, hardly.
SUSPECT_DEATHS = 2


def due_row(name: bytes, part: PartRow) -> tuple[bytes, bytes]:
    """Return the key and value of a part's `due` row."""
    return due_key(part.queue, part.due, name), turn(part.cost, part.deaths >= SUSPECT_DEATHS)


def timer_row(name: bytes, part: PartRow) -> bytes:
    """Return the key of a part's `timer` row; its value is empty."""
    return timer_key(part.expires, name, BOUNCE if part.order == "bounce" else EXPIRE)

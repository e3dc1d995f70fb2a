"""A queue's three rows: its own, its name, and when it wakes.

Rule: they are made, moved and removed together, inside the writer's transaction. A row that is not where it must be is
a StoreError.
"""

from mta.message import QueueName
from mta.store.codec import QueueRow, decode_queue, encode
from mta.store.errors import StoreError
from mta.store.keys import number, number_key, queue_name_key, wake_key
from mta.store.stream import UNREADABLE
from mta.store.writer import Writer

NUMBER_OCTETS = 8
BROKEN = (StoreError, *UNREADABLE)

__all__ = ["move_wake", "open_queue", "remove_queue", "wake_by"]


def open_queue(writer: Writer, name: QueueName, now: int) -> int:
    """Return the number of a queue that shall take a part due at `now`, made if there is none."""
    key = queue_name_key(name)
    value = writer.get("queue_name", key)
    if value is not None and len(value) == NUMBER_OCTETS:
        try:
            # Otherwise the part would wait for the queue's old time if the process died with the queue awake.
            wake_by(writer, number(value), now)
            return number(value)
        except BROKEN:
            # New mail gets a queue that can be read; what is in the other waits for `verify --repair`.
            pass
    numbered = writer.new_queue()
    writer.replace("queue_name", key, number_key(numbered))
    if not (
        writer.add("queue", number_key(numbered), encode(QueueRow(name, now)))
        and writer.add("wake", wake_key(now, numbered), b"")
    ):
        raise StoreError(f"queue: number {numbered} was given twice")
    return numbered


def move_wake(writer: Writer, queue: int, stood: QueueRow, due: int, site: str = "") -> None:
    """Say that nothing in a queue is due before `due` any more; `site` is the one it waits for, if it waits for one."""
    writer.remove("wake", wake_key(stood.wake, queue))
    if not writer.add("wake", wake_key(due, queue), b""):
        raise StoreError(f"wake: queue {queue} is there twice")
    writer.replace("queue", number_key(queue), encode(QueueRow(stood.name, due, site)))


def wake_by(writer: Writer, queue: int, due: int) -> QueueName:
    """See to it that a queue is looked at by `due`; return its name."""
    row = writer.get("queue", number_key(queue))
    if row is None:
        raise StoreError(f"queue: {queue} is not there")
    known = decode_queue(row)
    if known.wake > due:
        move_wake(writer, queue, known, due, known.site)
    return known.name


def remove_queue(writer: Writer, queue: int, name: QueueName, wake: int) -> None:
    """Delete an empty queue."""
    writer.remove("wake", wake_key(wake, queue))
    writer.remove("queue", number_key(queue))
    writer.remove("queue_name", queue_name_key(name))

"""The tables that repeat what others say, so that something is found quickly: queue_name, wake, due, timer.

Rule: a row of theirs can always be made again; one that points to nothing is in the way. Part of `verify`.
"""

import contextlib
from collections.abc import Iterator

import msgspec

from mta.message import QueueName
from mta.store.codec import decode_part, decode_path, decode_queue, encode
from mta.store.keys import (
    NEVER_MS,
    due_of,
    number,
    queue_name_key,
    timer_of,
    wake_key,
)
from mta.store.snapshot import Snapshot
from mta.store.standing import due_row, timer_row
from mta.store.stream import UNREADABLE, Stream
from mta.store.wrong import Make, Move, Wrong

__all__ = ["queues", "stray_dues", "stray_timers"]

NUMBER_OCTETS = 8
NAME_OCTETS = 20
WAKE_OCTETS = 16
DUE_OCTETS = 34
TIMER_OCTETS = 27


def queues(snapshot: Snapshot) -> Iterator[Wrong]:
    """Check each queue's name, its wake row, and that it wakes before anything is due, or when the last pause of a path
    is over: a queue sleeps as long as its path rests.

    A queue without parts is nothing wrong: it goes when the queue process has had nothing to do for it for a while.
    """
    found: list[Wrong] = []
    n_names = n_wakes = 0
    named: set[bytes] = set()
    resting_until = _last_pause(snapshot)
    rows = Stream(snapshot, "queue", NUMBER_OCTETS, found)
    while rows.is_there:
        key, value = rows.key, rows.value
        rows.move()
        try:
            row = decode_queue(value)
            wake = wake_key(row.wake, number(key))
        except (*UNREADABLE, OverflowError):
            found.append(Wrong("queue", key, "the row cannot be decoded", Move()))
        else:
            name = queue_name_key(row.name)
            told = snapshot.get("queue_name", name)
            if told == key:
                n_names += 1
            elif told is not None and _name_of(snapshot, told) == row.name:
                found.append(Wrong("queue", key, f"queue {number(told)} has the same name", Move()))
            else:
                named.add(name)
                what = f"it does not lead to queue {number(key)}, which has this name"
                found.append(Wrong("queue_name", name, what, Make(key, told)))
            first = snapshot.first("due", key)
            due = due_of(first)[0] if first.startswith(key) and len(first) == DUE_OCTETS else NEVER_MS
            if max(due, resting_until) < min(row.wake, NEVER_MS):
                mended = encode(msgspec.structs.replace(row, wake=due))
                found.append(Wrong("queue", key, f"it wakes at {row.wake}, and is due at {due}", Make(mended, value)))
            told = snapshot.get("wake", wake)
            n_wakes += told is not None
            if told is None:
                found.append(Wrong("wake", wake, f"the row that wakes queue {number(key)} is missing", Make(b"", None)))
            elif told:
                found.append(Wrong("wake", wake, "the row should be empty, and is not", Make(b"", told)))
        yield from found
        found.clear()
    yield from found
    if snapshot.n_rows("queue_name") != n_names:
        yield from (wrong for wrong in _stray_names(snapshot) if wrong.key not in named)
    if snapshot.n_rows("wake") != n_wakes:
        yield from _stray_wakes(snapshot)


def _last_pause(snapshot: Snapshot) -> int:
    """Return when the last pause of any path is over, 0 for never."""
    until = 0
    for _, value in snapshot.rows("path"):
        with contextlib.suppress(*UNREADABLE):
            until = max(until, decode_path(value).paused_until)
    return until


def _name_of(snapshot: Snapshot, queue: bytes) -> QueueName | None:
    """Return the name of a queue that is there, None if it is not or has no name that can be read."""
    value = snapshot.get("queue", queue) if len(queue) == NUMBER_OCTETS else None
    try:
        return None if value is None else decode_queue(value).name
    except UNREADABLE:
        return None


def _stray_names(snapshot: Snapshot) -> Iterator[Wrong]:
    for key, value in snapshot.rows("queue_name"):
        if len(key) != NAME_OCTETS or len(value) != NUMBER_OCTETS:
            yield Wrong("queue_name", key, "the row has not the form of a name and a number", Move())
        elif snapshot.get("queue", value) is None:
            yield Wrong("queue_name", key, f"queue {number(value)}, to which it leads, is not there", Move())
        else:
            name = _name_of(snapshot, value)
            if name is not None and queue_name_key(name) != key:
                yield Wrong("queue_name", key, f"queue {number(value)}, to which it leads, has another name", Move())


def _stray_wakes(snapshot: Snapshot) -> Iterator[Wrong]:
    for key, _ in snapshot.rows("wake"):
        if len(key) != WAKE_OCTETS:
            yield Wrong("wake", key, f"its key has {len(key)} octets and not {WAKE_OCTETS}", Move())
            continue
        value = snapshot.get("queue", key[8:])
        if value is None:
            yield Wrong("wake", key, f"queue {number(key[8:])} is not there", Move())
            continue
        try:
            wake = decode_queue(value).wake
        except UNREADABLE:
            continue
        if wake != number(key):
            yield Wrong("wake", key, f"queue {number(key[8:])} does not wake then", Move())


def stray_dues(snapshot: Snapshot) -> Iterator[Wrong]:
    """Find the rows of `due` that are no part's."""
    for key, _ in snapshot.rows("due"):
        if len(key) != DUE_OCTETS:
            yield Wrong("due", key, f"its key has {len(key)} octets and not {DUE_OCTETS}", Move())
            continue
        _, part = due_of(key)
        value = snapshot.get("part", part)
        if value is None:
            yield Wrong("due", key, f"part {part.hex()} is not there", Move())
            continue
        try:
            row = decode_part(value)
            wanted, _ = due_row(part, row)
        except (*UNREADABLE, OverflowError):
            continue
        if key != wanted:
            yield Wrong("due", key, f"part {part.hex()} is not due in this queue then", Move())


def stray_timers(snapshot: Snapshot) -> Iterator[Wrong]:
    """Find the rows of `timer` that are no part's."""
    for key, _ in snapshot.rows("timer"):
        if len(key) != TIMER_OCTETS:
            yield Wrong("timer", key, f"its key has {len(key)} octets and not {TIMER_OCTETS}", Move())
            continue
        _, part, _ = timer_of(key)
        value = snapshot.get("part", part)
        if value is None:
            yield Wrong("timer", key, f"part {part.hex()} is not there", Move())
            continue
        try:
            row = decode_part(value)
            wanted = timer_row(part, row)
        except (*UNREADABLE, OverflowError):
            continue
        if key != wanted:
            yield Wrong("timer", key, f"part {part.hex()} has its end not then, or another one", Move())

"""Says everything that is wrong with the queue. Used by `mta queue verify` and by the repair.

Rule: nothing is changed and nothing is said twice: what follows from damage that was named already is left unsaid where
that can be known. All tables are compared within one snapshot, because a server at work changes them between any two
transactions, and a false alarm is worse than a file that grows for some seconds (see Snapshot).

message, part and recipient begin with the message's id, so that one pass walks them in step, and looks for each part's
rows in due and timer. Where a table then has more rows than were looked for and found, and only there, it is walked for
the rows that are too many. So a million messages take no more memory than their extents (33 octets each) and some lists
of numbers; see `content`.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from mta.message import ID_OCTETS
from mta.reply import printable
from mta.store.books import counters, events, numbers
from mta.store.codec import (
    MessageRow,
    PartRow,
    decode_extents,
    decode_message,
    decode_part,
    decode_path,
    decode_queue,
    decode_recipient,
    encode,
)
from mta.store.content import Content, Owned
from mta.store.indexes import queues, stray_dues, stray_timers
from mta.store.keys import LOST_EXTENT, NEVER_MS, number_key, path_key
from mta.store.snapshot import Snapshot
from mta.store.standing import due_row, timer_row
from mta.store.stream import UNREADABLE, Stream
from mta.store.wrong import Aside, Cure, Make, Move, Requeue, Wrong

__all__ = ["verify"]

PART_OCTETS = 18
RECIPIENT_OCTETS = 20
PATH_OCTETS = 20


def verify(snapshot: Snapshot, decode_event: Callable[[bytes], object]) -> Iterator[Wrong]:
    """Yield what is wrong with the queue, as it is found; `decode_event` raises for what is not an event.

    Raises lmdb.Error when the file itself cannot be read.
    """
    walk = _Walk(snapshot)
    yield from walk.messages()
    if snapshot.n_rows("due") != walk.n_dues:
        yield from stray_dues(snapshot)
    if snapshot.n_rows("timer") != walk.n_timers:
        yield from stray_timers(snapshot)
    yield from queues(snapshot)
    yield from walk.others()
    content = Content(snapshot, walk.owned)
    yield from content.check()
    yield from counters(snapshot, walk.n_open)
    yield from events(snapshot, decode_event)
    yield from numbers(snapshot, content.live_octets, content.last_extent)


class _Walk:
    """The pass over messages, parts and recipients, and what it counts."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._found: list[Wrong] = []
        self.n_dues = 0
        self.n_timers = 0
        self.n_open: Counter[str] = Counter()
        """Open recipients by tenant."""
        self.owned = Owned()

    def messages(self) -> Iterator[Wrong]:
        """Walk message, part and recipient in step."""
        found = self._found
        messages = Stream(self._snapshot, "message", ID_OCTETS, found)
        parts = Stream(self._snapshot, "part", PART_OCTETS, found)
        recipients = Stream(self._snapshot, "recipient", RECIPIENT_OCTETS, found)
        while messages.is_there or parts.is_there or recipients.is_there:
            self._message(min(messages.id, parts.id, recipients.id), messages, parts, recipients)
            if found:
                yield from found
                found.clear()
        yield from found
        found.clear()

    def _message(self, id_: bytes, messages: Stream, parts: Stream, recipients: Stream) -> None:
        is_there = messages.id == id_
        message: MessageRow | None = None
        at = len(self._found)
        if is_there:
            message = self._decoded(id_, messages.value)
            messages.move()
        n_parts = 0
        is_idle = True
        while parts.id == id_ or recipients.id == id_:
            name = min(parts.part, recipients.part)
            has_part = parts.part == name
            value = parts.value
            if has_part:
                parts.move()
            n_parts += has_part
            first, n_open = recipients.key, self._recipients(name, recipients, has_part=has_part)
            tenant = message.tenant if message is not None else None
            if has_part:
                part = self._part(name, value, n_open, first, is_orphan=not is_there)
                is_idle &= part is not None and part.state != ""
                if tenant is None and part is not None:
                    tenant = self._tenant_of(part)
            if tenant is not None and n_open:
                self.n_open[tenant] += n_open
        if is_there and not n_parts:
            # A row that is moved need not be mended.
            rest = [wrong for wrong in self._found[at:] if not isinstance(wrong.cure, Make)]
            self._found[at:] = [*rest, Wrong("message", id_, "it has no parts", Move())]
        elif message is not None and not is_idle and any(extent == LOST_EXTENT for extent, _ in message.extents):
            self._tell("message", id_, "some of its content is lost, and it is not set aside or held", Aside())

    def _decoded(self, id_: bytes, value: bytes) -> MessageRow | None:
        try:
            message = decode_message(value)
            self.owned.add("message", id_, message.extents)
        except (*UNREADABLE, OverflowError):
            self._tell("message", id_, "the row cannot be decoded", Move())
            return None
        octets = sum(octets for _, octets in message.extents)
        if octets != message.octets:
            mended = encode(msgspec.structs.replace(message, octets=octets))
            what = f"it is said to have {message.octets} octets, and its extents have {octets}"
            self._tell("message", id_, what, Make(mended, value))
        return message

    def _recipients(self, part: bytes, recipients: Stream, *, has_part: bool) -> int:
        """Pass the recipients of a part, and return how many there are."""
        n_open = 0
        while recipients.part == part:
            try:
                decode_recipient(recipients.value)
            except UNREADABLE:
                self._tell("recipient", recipients.key, "the row cannot be decoded", Move())
            else:
                if not has_part:
                    self._tell("recipient", recipients.key, "its part is not there", Move())
            n_open += 1
            recipients.move()
        return n_open

    def _part(self, name: bytes, value: bytes, n_open: int, recipient: bytes, *, is_orphan: bool) -> PartRow | None:
        """Check a part against its message, its `n_open` recipient rows, its queue, and when it is due."""
        try:
            part = decode_part(value)
            due, turn = due_row(name, part)
            timer = timer_row(name, part)
        except (*UNREADABLE, OverflowError):
            self._tell("part", name, "the row cannot be decoded", Move())
            return None
        self.n_dues += self._has_row("due", due, turn, name)
        self.n_timers += self._has_row("timer", timer, b"", name)
        if is_orphan:
            self._tell("part", name, "its message is not there", Move())
        elif not n_open:
            self._tell("part", name, "it has no recipients", Move())
        elif part.n_open != n_open:
            self._mend(name, value, part, f"it is said to have {part.n_open} recipients, and has {n_open}", "", n_open)
        if part.state not in ("", "held", "aside"):
            self._mend(name, value, part, "its state is none that there is", "aside", n_open)
        elif part.state and part.due != NEVER_MS:
            self._mend(name, value, part, f"it is {part.state}, and due all the same", part.state, n_open)
        elif not part.state and not part.order and part.due == NEVER_MS:
            self._mend(name, value, part, "it is due never, and neither held nor set aside", "aside", n_open)
        if not is_orphan and self._snapshot.get("queue", number_key(part.queue)) is None:
            cure = Requeue() if n_open else None
            self._tell("part", name, f"its queue {part.queue} is not there", cure)
        return part

    def _mend(self, name: bytes, value: bytes, part: PartRow, what: str, state: str, n_open: int) -> None:
        """Tell of a part that has to be as many recipients as there are, and, with a `state`, due never."""
        due = NEVER_MS if state else part.due
        mended = msgspec.structs.replace(part, state=state or part.state, due=due, n_open=n_open)
        self._tell("part", name, what, Make(encode(mended), value))

    def _has_row(self, table: str, key: bytes, wanted: bytes, part: bytes) -> bool:
        """Say whether a part's row is there, and tell of it if it is not or if something else is in it."""
        value = self._snapshot.get(table, key)
        if value is None:
            self._tell(table, key, f"the row of part {part.hex()} is missing", Make(wanted, None))
        elif value != wanted:
            self._tell(table, key, f"the row of part {part.hex()} does not hold what it must", Make(wanted, value))
        return value is not None

    def _tenant_of(self, part: PartRow) -> str | None:
        """Return the tenant of a part whose message does not tell."""
        value = self._snapshot.get("queue", number_key(part.queue))
        try:
            return None if value is None else decode_queue(value).name.tenant
        except UNREADABLE:
            return None

    def others(self) -> Iterator[Wrong]:
        """Walk incoming, trash, gone and path."""
        found = self._found
        for table in ("incoming", "trash"):
            rows = Stream(self._snapshot, table, ID_OCTETS, found)
            while rows.is_there:
                try:
                    self.owned.add(table, rows.key, decode_extents(rows.value))
                except (*UNREADABLE, OverflowError):
                    self._tell(table, rows.key, "the row cannot be decoded", Move())
                rows.move()
        gone = Stream(self._snapshot, "gone", ID_OCTETS, found)
        while gone.is_there:
            gone.move()
        paths = Stream(self._snapshot, "path", PATH_OCTETS, found)
        while paths.is_there:
            try:
                path = decode_path(paths.value)
            except UNREADABLE:
                self._tell("path", paths.key, "the row cannot be decoded", Move())
            else:
                if path_key(path.source, path.site) != paths.key:
                    self._tell("path", paths.key, f"the row is of another path, to {printable(path.site)}", Move())
            paths.move()
        yield from found
        found.clear()

    def _tell(self, table: str, key: bytes, what: str, cure: Cure | None = None) -> None:
        self._found.append(Wrong(table, key, what, cure))

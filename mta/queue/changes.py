"""Everything that a commit can hold, one class a kind: what it changes, and what came of it.

Rule: `apply` works inside the writer's transaction and may be called again after an abort: it only sets results, which
are read after the commit. What it raises is the fault of this change alone; `fail` then says what that means for it.
Made by the desk and the plans, gathered and applied by `batch`, and read by the desk once they are committed.
"""

import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from mta.link import Order, Part, Put, Settlement
from mta.queue.apply import Arrived, Off, put_message, settle_part
from mta.queue.guest import Guest
from mta.queue.incoming import abort, has_parts, put_part
from mta.queue.orders import Moved, carry_out, carry_out_pending, count_death, withdraw
from mta.reply import REPLY_451_QUEUE_SILENT, Reply
from mta.store import PathRow, StoreError, Writer, decode_queue, encode, number_key, path_key

__all__ = [
    "BAD_FRAME",
    "AbortChange",
    "Change",
    "Circumstances",
    "DeathChange",
    "OrderChange",
    "PartChange",
    "PathChange",
    "PendingChange",
    "PutChange",
    "SettleChange",
    "WaitChange",
    "WithdrawChange",
]

# OverflowError: a number in the frame is larger than its place in a key.
BAD_FRAME = (ValueError, LookupError, StoreError, msgspec.MsgspecError, OverflowError)


class Circumstances(msgspec.Struct, frozen=True):
    """What a change has to know that is in no table: the time in ms, which parts were leased before this commit and
    are not `settled` in it, which ids a worker may still put again."""

    now: int
    was_leased: Callable[[bytes], bool]
    is_repeatable: Callable[[bytes], bool]
    settled: set[bytes] = set()

    def is_leased(self, part: bytes) -> bool:
        """Say whether a part is with a worker."""
        return part not in self.settled and self.was_leased(part)


class Change(Protocol):
    """One thing to do in a transaction. `n_octets` is its size; `is_awaited` when somebody waits for the commit."""

    n_octets: int
    is_awaited: bool

    def apply(self, writer: Writer, now: Circumstances) -> None:
        """Change the rows. Raises BAD_FRAME, or StorageFull, which concerns the whole transaction."""

    def fail(self) -> tuple[bytes, str]:
        """It cannot be applied; return the message id and tenant that the `fault` event names."""


class PutChange:
    """A message to store; with a `reply` it is refused already, and only keeps its place among the answers."""

    is_awaited = True

    def __init__(self, guest: Guest, put: Put, reply: Reply | None = None) -> None:
        self.guest = guest
        self.put = put
        self.reply = reply
        self.arrived: list[Arrived] | None = None
        self.n_octets = len(put.content)

    def apply(self, writer: Writer, now: Circumstances) -> None:
        """Store it, unless it is refused."""
        put, self.arrived = self.put, None
        if self.reply is None and put.n_parts and not has_parts(writer, put.head.id, put.n_parts):
            self.reply = REPLY_451_QUEUE_SILENT
        if self.reply is None:
            streamed = put.octets - len(put.content) if put.n_parts else 0
            self.arrived = put_message(writer, put.head, put.content, now.now, put.repeat, streamed)

    def fail(self) -> tuple[bytes, str]:
        """Tell the client to come again."""
        self.reply, self.arrived = REPLY_451_QUEUE_SILENT, None
        return self.put.head.id, self.put.head.tenant


class PartChange:
    """A part of a message to store; with a `reply` it is refused."""

    is_awaited = True

    def __init__(self, guest: Guest, part: Part, reply: Reply | None = None) -> None:
        self.guest = guest
        self.part = part
        self.reply = reply
        self.n_octets = len(part.octets)

    def apply(self, writer: Writer, now: Circumstances) -> None:
        """Store it, if it has its place."""
        if self.reply is None and not put_part(writer, self.part):
            self.reply = REPLY_451_QUEUE_SILENT

    def fail(self) -> tuple[bytes, str]:
        """Tell the client to come again."""
        self.reply = REPLY_451_QUEUE_SILENT
        return self.part.id, ""


class AbortChange:
    """A message that does not come to its end; `guest` is its worker, None when that is dead."""

    is_awaited = False
    n_octets = 0

    def __init__(self, guest: Guest | None, id_: bytes) -> None:
        self.guest = guest
        self.id = id_
        self._is_failed = False

    def apply(self, writer: Writer, now: Circumstances) -> None:
        """Throw away what there is of it."""
        if not self._is_failed:
            abort(writer, self.id)

    def fail(self) -> tuple[bytes, str]:
        """Leave it: the next start tries again."""
        self._is_failed = True
        return self.id, ""


class SettleChange:
    """What became of one part; it is tried again at `next_at` ms if it was deferred. `off` is None if that failed."""

    is_awaited = False

    def __init__(self, settlement: Settlement, next_at: int) -> None:
        self.settlement = settlement
        self.next_at = next_at
        self.off: Off | None = None
        self.keeps_id = False
        self.is_failed = False
        notice = settlement.notice
        self.n_octets = 0 if notice is None else len(notice.content)

    def apply(self, writer: Writer, now: Circumstances) -> None:
        """Settle the part, unless it is known that this cannot be done."""
        if not self.is_failed:
            self.keeps_id = now.is_repeatable(self.settlement.part[:16])
            self.off = settle_part(writer, self.settlement, now.now, self.next_at, self.keeps_id)
            now.settled.add(self.settlement.part)

    def fail(self) -> tuple[bytes, str]:
        """Leave the part as it is."""
        self.is_failed, self.off = True, None
        return self.settlement.part[:16], self.settlement.tenant


class OrderChange:
    """An operator's order; `moved` are the parts it changed, `n_changed` the messages. It `took_s` to carry it out."""

    is_awaited = True
    n_octets = 0

    def __init__(self, guest: Guest, order: Order) -> None:
        self.guest = guest
        self.order = order
        self.moved: list[Moved] = []
        self.unknown: list[bytes] = []
        self.n_changed = 0
        self.damaged: set[bytes] = set()
        self.took_s = 0.0
        self._at = b""

    def apply(self, writer: Writer, now: Circumstances) -> None:
        """Carry it out on each message."""
        began_at = time.monotonic()
        self.moved, self.unknown, self.n_changed = [], [], 0
        for id_ in self.order.ids:
            if id_ in self.damaged:
                continue
            self._at = id_
            moved = carry_out(writer, self.order.name, id_, now.is_leased, now.now)
            if moved is None:
                self.unknown.append(id_)
            else:
                self.n_changed += bool(moved)
                self.moved += moved
        self.took_s = time.monotonic() - began_at

    def fail(self) -> tuple[bytes, str]:
        """Leave out the message that cannot be changed."""
        self.damaged.add(self._at)
        return self._at, ""


class WithdrawChange:
    """A message whose client was told 451 goes again, if that can still be."""

    is_awaited = False
    n_octets = 0

    def __init__(self, guest: Guest, id_: bytes) -> None:
        self.guest = guest
        self.id = id_
        self.moved: list[Moved] = []
        self._is_failed = False

    def apply(self, writer: Writer, now: Circumstances) -> None:
        """Drop it."""
        if not self._is_failed:
            self.moved = withdraw(writer, self.id, now.is_leased, now.now)
            abort(writer, self.id)

    def fail(self) -> tuple[bytes, str]:
        """Leave it."""
        self._is_failed, self.moved = True, []
        return self.id, ""


class DeathChange:
    """A worker died while it had this part."""

    is_awaited = False
    n_octets = 0

    def __init__(self, part: bytes, tenant: str) -> None:
        self._part = part
        self._tenant = tenant
        self._is_failed = False

    def apply(self, writer: Writer, now: Circumstances) -> None:
        """Count it."""
        if not self._is_failed:
            count_death(writer, self._part, self._tenant, now.now)

    def fail(self) -> tuple[bytes, str]:
        """Leave it."""
        self._is_failed = True
        return self._part[:16], self._tenant


class PendingChange:
    """A part came back untried, and an operator's order waits for it; `moved` is what came of that."""

    is_awaited = False
    n_octets = 0

    def __init__(self, part: bytes) -> None:
        self.part = part
        self.moved: Moved | None = None
        self._is_failed = False

    def apply(self, writer: Writer, now: Circumstances) -> None:
        """Carry the order out."""
        self.moved = None if self._is_failed else carry_out_pending(writer, self.part, now.now)

    def fail(self) -> tuple[bytes, str]:
        """Leave it as it is."""
        self._is_failed, self.moved = True, None
        return self.part[:16], ""


class WaitChange:
    """Queues wait for the path to a site, for as long as that rests: their rows say so, for whoever looks."""

    is_awaited = False
    n_octets = 0

    def __init__(self, queues: tuple[int, ...], site: str) -> None:
        self._queues = queues
        self._site = site
        self._is_failed = False

    def apply(self, writer: Writer, now: Circumstances) -> None:
        """Write it into the rows that say something else."""
        for queue in () if self._is_failed else self._queues:
            value = writer.get("queue", number_key(queue))
            row = decode_queue(value) if value is not None else None
            if row is not None and row.site != self._site:
                writer.replace("queue", number_key(queue), encode(msgspec.structs.replace(row, site=self._site)))

    def fail(self) -> tuple[bytes, str]:
        """Leave them as they are."""
        self._is_failed = True
        return b"", ""


class PathChange:
    """What was learned of a path; with `row` None it is forgotten."""

    is_awaited = False
    n_octets = 0

    def __init__(self, source: str, site: str, row: PathRow | None) -> None:
        self._key = path_key(source, site)
        self._row = row
        self._is_failed = False

    def apply(self, writer: Writer, now: Circumstances) -> None:
        """Write it down."""
        if self._is_failed:
            return
        if self._row is None:
            writer.discard("path", self._key)
        else:
            writer.replace("path", self._key, encode(self._row))

    def fail(self) -> tuple[bytes, str]:
        """Forget it."""
        self._is_failed = True
        return b"", ""

"""What is said once a commit has returned: the answer to each frame, and the word to the plans.

Rule: nothing is answered before that. On one connection PUTs are answered in the order in which they came, for workers
count the answers; a commit that failed for good refuses every message in it.

Called by the queue process's loop, and by the desk for the settlements that wait.
"""

import time
from collections.abc import Callable

import msgspec

from mta.link import Kind, Ordered, frame
from mta.queue.batch import Done
from mta.queue.changes import (
    AbortChange,
    Change,
    OrderChange,
    PartChange,
    PendingChange,
    PutChange,
    SettleChange,
    WithdrawChange,
)
from mta.queue.guest import Guest
from mta.queue.shared import Shared
from mta.reply import REPLY_451_QUEUE_SILENT

__all__ = ["Answers"]


class Answers:
    """Whom to tell what."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._settlers: list[Guest] = []
        self._heard: dict[Guest, None] = {}
        self._after: dict[type, Callable[..., None]] = {
            PutChange: self._after_put,
            PartChange: self._after_part,
            AbortChange: self._after_abort,
            SettleChange: self._after_settle,
            OrderChange: self._after_order,
            WithdrawChange: self._after_withdraw,
            PendingChange: self._after_pending,
        }

    def settling(self, guest: Guest) -> None:
        """A SETTLE frame of this connection waits for the commit."""
        self._settlers.append(guest)

    def committed(self, done: Done) -> None:
        """Answer each frame; on one connection in the order in which they came, for workers count the answers."""
        shared = self._shared
        for change in done.changes:
            after = self._after.get(type(change))
            if after is not None:
                after(change)
        for guest in self._settlers:
            guest.settled()
        for guest in (*self._heard, *self._settlers):
            guest.say()
        self._heard.clear()
        self._settlers.clear()
        shared.plans.slept(done.wakes)

    def refuse(self, changes: list[Change]) -> None:
        """A flush failed: no message of this batch is safe, and their clients shall come again."""
        for change in changes:
            if isinstance(change, PutChange) and change.guest.worker is not None:
                change.guest.refused(change.put.head.id, REPLY_451_QUEUE_SILENT)
            elif isinstance(change, PartChange):
                change.guest.part_refused(change.part.id, REPLY_451_QUEUE_SILENT)

    def _after_put(self, change: PutChange) -> None:
        guest, id_ = change.guest, change.put.head.id
        if change.arrived:
            self._shared.plans.arrived(change.arrived)
        if change.reply is None:
            guest.stored(id_)
            self._heard[guest] = None
        else:
            guest.refused(id_, change.reply)
        self._answered(guest, id_)

    def _after_part(self, change: PartChange) -> None:
        if change.reply is None:
            change.guest.connection.send(frame(Kind.PART_STORED, change.part.stored))
        else:
            change.guest.part_refused(change.part.id, change.reply)

    def _after_abort(self, change: AbortChange) -> None:
        if change.guest is not None:
            change.guest.connection.send(frame(Kind.ABORTED, change.id))

    def _answered(self, guest: Guest, id_: bytes) -> None:
        if guest.worker is not None:
            self._shared.workers.answered(guest.worker, id_)

    def _after_settle(self, change: SettleChange) -> None:
        shared = self._shared
        now = shared.clock.now_ms()
        off = change.off
        if off is not None:
            if change.keeps_id and off.removed:
                shared.workers.gone.add(off.removed)
            shared.plans.off(off, now)
        elif change.settlement.results:
            shared.batch.add(SettleChange(msgspec.structs.replace(change.settlement, results=(), notice=None), 0))
        else:
            # Not even set aside: nobody tries it before the next start, when somebody has looked at the fault.
            shared.schedule.settled(change.settlement.part, 0, now)

    def _after_order(self, change: OrderChange) -> None:
        began_at = time.monotonic()
        now = self._shared.clock.now_ms()
        for moved in change.moved:
            self._shared.plans.moved(moved, now)
        change.guest.connection.send(
            frame(Kind.ORDERED, Ordered(change.n_changed, tuple(change.unknown), tuple(change.damaged)))
        )
        change.took_s += time.monotonic() - began_at

    def _after_withdraw(self, change: WithdrawChange) -> None:
        now = self._shared.clock.now_ms()
        for moved in change.moved:
            self._shared.plans.moved(moved, now)
        change.guest.stored(change.id)
        self._heard[change.guest] = None
        self._answered(change.guest, change.id)

    def _after_pending(self, change: PendingChange) -> None:
        if change.moved is not None:
            self._shared.plans.moved(change.moved, self._shared.clock.now_ms())

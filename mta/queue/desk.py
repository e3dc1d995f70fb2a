"""Where workers and commands are served: their connections, what their frames ask, and the answers.

Rule: a frame becomes a change in the batch, or a word to the plans; what it is answered is said after the commit that
holds it. A connection that breaks the protocol costs itself.

Called by the queue process's loop.
"""

import random
import select
from collections.abc import Callable

import msgspec

from mta.errors import LinkLost
from mta.link import (
    LINK_VERSION,
    READ_OCTETS,
    Closed,
    Connection,
    Greeted,
    Hello,
    Kind,
    Leases,
    Note,
    Order,
    Resolved,
    Settle,
    Welcome,
    decoder,
    frame,
    read_end,
    read_id,
    read_part,
    read_put,
)
from mta.message import ID_OCTETS
from mta.queue.answers import Answers
from mta.queue.batch import MOST_CHANGES, Done
from mta.queue.changes import (
    AbortChange,
    Change,
    OrderChange,
    PartChange,
    PutChange,
    SettleChange,
    WithdrawChange,
)
from mta.queue.guest import Guest
from mta.queue.incoming import orphans
from mta.queue.ordering import Ordering
from mta.queue.retry import next_attempt
from mta.queue.shared import Shared
from mta.queue.workers import Worker
from mta.reply import REPLY_452_STORAGE, Reply
from mta.report import Fault
from mta.store import StorageFull

__all__ = ["Desk"]

SETTLE = Kind.SETTLE
# So many of either kind go with a commit, however much there is of the other.
FEW_CHANGES = 32
# What a settlement takes in a frame, at least; with a notice it is as long as that.
CHANGE_OCTETS = 128
BEFORE_HELLO = (Kind.HELLO, Kind.ASK, Kind.ORDER)
# After an upgrade the workers of the version before live on, until others have taken their places.
SPOKEN = (LINK_VERSION, LINK_VERSION - 1)


class Desk:
    """Every connection to the queue process."""

    def __init__(self, shared: Shared, epoll: select.epoll, commit: Callable[[], None]) -> None:
        """`commit` commits what has been handed in so far."""
        self._shared = shared
        self._epoll = epoll
        self._commit = commit
        self._guests: dict[int, Guest] = {}
        self._n_turns = 0
        self._n_puts = 0
        self._n_octets = 0
        self._change_octets = CHANGE_OCTETS
        self._answers = Answers(shared)
        self._ordering = Ordering(shared.batch)
        self._on: dict[int, Callable[[Guest, bytes], None]] = {
            Kind.HELLO: self._on_hello,
            Kind.READY: self._on_ready,
            Kind.LEAVE: self._on_leave,
            Kind.PUT: self._on_put,
            Kind.PUT_PART: self._on_part,
            Kind.PUT_END: self._on_end,
            Kind.PUT_ABORT: self._on_abort,
            Kind.WITHDRAW: self._on_withdraw,
            Kind.SETTLE: self._on_settle,
            Kind.GREETED: self._on_greeted,
            Kind.CLOSED: self._on_closed,
            Kind.RESOLVED: self._on_resolved,
            Kind.NOTE: self._on_note,
            Kind.ASK: self._on_ask,
            Kind.ORDER: self._on_order,
        }
        self._hello = decoder(Hello).decode
        self._settle = decoder(Settle).decode
        self._greeted = decoder(Greeted).decode
        self._closed = decoder(Closed).decode
        self._resolved = decoder(Resolved).decode
        self._note = decoder(Note).decode
        self._order = decoder(Order).decode

    @property
    def has_workers(self) -> bool:
        """A worker is connected."""
        return any(guest.worker for guest in self._guests.values())

    def committed(self, done: Done) -> None:
        """Answer what is committed, and put what waited for that into the next."""
        self._answers.committed(done)
        self._ordering.committed(done.changes)

    def refuse(self, changes: list[Change]) -> None:
        """A flush failed: tell whose messages are not safe."""
        self._answers.refuse(changes)
        self.flush()

    def end_orders(self) -> None:
        """Take no orders any more: this process is about to end, however many are still to come."""
        self._ordering.end()

    def accept(self, connection: Connection) -> None:
        """Take a new connection."""
        self._guests[connection.fd] = Guest(connection)
        self._epoll.register(connection.fd, select.EPOLLIN)

    def serve(self, fds: list[int]) -> bool:
        """Read what came, *out* first, while there is room in the batch, and say if anything came to *in*.

        A backlog that drains is no reason for new mail to wait: some of that is read in any case, and where little of
        it comes in, batches are small, too. Settlements are read twice as fast as mail all the same.
        """
        batch = self._shared.batch
        guests = [self._guests[fd] for fd in fds if fd in self._guests]
        puts = [guest for guest in guests if guest.role == "in"]
        most = max(FEW_CHANGES, 2 * self._n_puts) if puts or self._n_puts else MOST_CHANGES
        self._n_turns += 1
        n_before = batch.n_changes
        self._read_some([guest for guest in guests if guest.role != "in"], most * self._change_octets, most)
        n_others = batch.n_changes
        if n_others > n_before:
            self._change_octets = max(CHANGE_OCTETS, self._n_octets // (n_others - n_before))
            self._n_octets = 0
        self._read_some(puts, READ_OCTETS, max(MOST_CHANGES, n_others + FEW_CHANGES))
        self._n_puts = batch.n_changes - n_others
        return bool(puts)

    def _read_some(self, guests: list[Guest], octets: int, n_changes: int) -> None:
        """Read up to so many octets from each, another one first in each turn, until the batch has so many changes."""
        for n in range(len(guests)):
            guest = guests[(self._n_turns + n) % len(guests)]
            if self._shared.batch.is_full_of(n_changes):
                break
            if guest.connection.fd in self._guests:
                self._read(guest, octets)

    def _read(self, guest: Guest, most: int) -> None:
        try:
            for kind, payload in guest.connection.read(most):
                if guest.role != "in":
                    self._n_octets += len(payload)
                if guest.worker is None and kind not in BEFORE_HELLO:
                    raise ValueError(f"frame {kind} came before HELLO")
                if guest.hello is not None and kind != SETTLE:
                    self._check_in(guest, guest.hello)
                self._on[kind](guest, payload)
        except (LinkLost, KeyError, ValueError, msgspec.MsgspecError) as problem:
            if not isinstance(problem, LinkLost):
                detail = f"{type(problem).__name__}: {problem}"
                self._shared.tell(Fault(self._shared.clock.now_ms(), b"", "", "link", detail))
            self._drop(guest)

    def flush(self) -> None:
        """Write what was gathered for each connection."""
        for guest in list(self._guests.values()):
            try:
                is_all = guest.connection.flush()
            except LinkLost:
                self._drop(guest)
                continue
            if is_all != guest.is_all:
                guest.is_all = is_all
                mask = select.EPOLLIN if is_all else select.EPOLLIN | select.EPOLLOUT
                self._epoll.modify(guest.connection.fd, mask)

    def _drop(self, guest: Guest) -> None:
        if self._guests.pop(guest.connection.fd, None) is None:
            return
        self._epoll.unregister(guest.connection.fd)
        guest.connection.close()
        self._ordering.forget(guest)
        worker = guest.worker
        if worker is not None and worker.ends.get(guest.role) is guest.connection:
            del worker.ends[guest.role]
            worker.ready_ends.discard(guest.role)
            self.bury()

    def bury(self) -> None:
        """Take everything back from workers that are dead."""
        shared = self._shared
        if shared.workers.dead() and shared.batch.has_changes:
            # What they said last: it must be in the tables before what is theirs there is looked for.
            self._commit()
        for worker in shared.workers.bury():
            shared.plans.died(worker, shared.clock.now_ms())
        self._forget_ids()

    def _forget_ids(self) -> None:
        workers = self._shared.workers
        if workers.have_checked_in:
            for id_ in workers.unrepeatable():
                self._shared.batch.forget(id_)
            for id_ in orphans(self._shared.writer, {worker.incarnation for worker in workers.all()}):
                self._shared.batch.add(AbortChange(None, id_))

    def say_storage(self) -> None:
        """Tell every worker whether there is room for new mail."""
        for guest in self._guests.values():
            if guest.role == "in":
                guest.connection.send(frame(Kind.STORAGE, b"\1" if self._shared.has_room else b"\0"))

    # What workers say

    def _on_hello(self, guest: Guest, payload: bytes) -> None:
        shared = self._shared
        hello = self._hello(payload)
        if hello.version not in SPOKEN:
            raise ValueError(f"worker {hello.worker} speaks link version {hello.version}, not {LINK_VERSION}")
        incarnation = hello.incarnation or self._new_incarnation()
        if self._shared.batch.has_changes:
            # What came over the connection before counts as answered over that one.
            self._commit()
        for old in list(self._guests.values()):
            # What lies unread in a connection that was given up must not be taken after its repeats.
            if old.worker is not None and old.worker.incarnation == incarnation and old.role == hello.role:
                self._drop(old)
        guest.role = hello.role
        guest.worker = shared.workers.connected(incarnation, hello, guest.connection)
        if hello.role == "out":
            # Nothing more until it is ready: what it holds is as of now.
            shared.schedule.worker_leaves(incarnation)
            guest.hello = hello
        guest.connection.send(frame(Kind.WELCOME, Welcome(shared.writer.node, incarnation)))
        if hello.role == "in":
            guest.connection.send(frame(Kind.STORAGE, b"\1" if shared.has_room else b"\0"))

    def _check_in(self, guest: Guest, hello: Hello) -> None:
        """Take in what a worker holds, behind the settlements that it said again: what those are about is over."""
        guest.hello = None
        if self._shared.batch.has_changes:
            self._commit()
        held = tuple(lease for lease in hello.held if lease[1] not in guest.settled_since)
        guest.settled_since.clear()
        self._shared.plans.checked_in(guest.known, hello.sessions, held, self._shared.clock.now_ms())

    def _new_incarnation(self) -> int:
        # Durable before it is used: an id that was made with it must never be made again.
        writer = self._shared.writer
        writer.begin()
        incarnation = writer.new_incarnation()
        try:
            writer.commit()
        except StorageFull as problem:
            writer.abort()
            raise LinkLost("there is no room for a new worker's number") from problem
        return incarnation

    def _on_ready(self, guest: Guest, _payload: bytes) -> None:
        worker = guest.known
        if self._shared.batch.has_changes:
            # What it said again must be in the tables before ids are forgotten.
            self._commit()
        self._shared.workers.ready(worker, guest.role)
        if worker.is_ready:
            if not worker.is_leaving:
                self._shared.schedule.worker_joined(worker.incarnation, worker.credit)
            self._forget_ids()

    def _on_leave(self, guest: Guest, _payload: bytes) -> None:
        self._leaves(guest.known)

    def _leaves(self, worker: Worker) -> None:
        worker.is_leaving = True
        self._shared.schedule.worker_leaves(worker.incarnation)

    def leaving(self, pids: set[int]) -> None:
        """The master has told these workers to leave; they say so, too, but what goes to them now may be too late."""
        for worker in self._shared.workers.all():
            if worker.pid in pids:
                self._leaves(worker)

    def _on_put(self, guest: Guest, payload: bytes) -> None:
        put = read_put(payload)
        self._confirmed(guest.known, put.confirmed)
        # A refusal, too, comes after the answers that wait for the commit.
        self._shared.batch.add(PutChange(guest, put, self._maybe_refuse(put.repeat)))

    def _on_part(self, guest: Guest, payload: bytes) -> None:
        part = read_part(payload)
        self._shared.batch.add(PartChange(guest, part, self._maybe_refuse(part.repeat)))

    def _on_end(self, guest: Guest, payload: bytes) -> None:
        put = read_end(payload)
        self._confirmed(guest.known, put.confirmed)
        self._shared.batch.add(PutChange(guest, put))

    def _on_abort(self, guest: Guest, payload: bytes) -> None:
        self._shared.batch.add(AbortChange(guest, read_id(payload)))

    def _on_withdraw(self, guest: Guest, payload: bytes) -> None:
        self._shared.batch.add(WithdrawChange(guest, read_id(payload)))

    def _maybe_refuse(self, is_repeat: bool) -> Reply | None:
        return None if is_repeat or self._shared.has_room else REPLY_452_STORAGE

    def _on_settle(self, guest: Guest, payload: bytes) -> None:
        shared = self._shared
        settle = self._settle(payload)
        self._confirmed(guest.known, settle.confirmed)
        now = shared.clock.now_ms()
        for settlement in settle.settlements:
            next_at = next_attempt(shared.config.retry, settlement.attempt + 1, now, random.random())
            shared.batch.add(SettleChange(settlement, next_at))
            if guest.hello is not None:
                guest.settled_since.add(settlement.part)
            has_spoken = any(outcome.remote_mta for _, _, outcome in settlement.results)
            shared.schedule.settling(settlement.part, guest.known.incarnation, now, has_spoken=has_spoken)
        self._answers.settling(guest)

    def _confirmed(self, worker: Worker, count: int) -> None:
        for id_ in self._shared.workers.confirmed(worker, count):
            self._shared.batch.forget(id_)

    def _on_greeted(self, _guest: Guest, payload: bytes) -> None:
        self._shared.plans.greeted(self._greeted(payload).session, self._shared.clock.now_ms())

    def _on_closed(self, _guest: Guest, payload: bytes) -> None:
        closed = self._closed(payload)
        self._shared.plans.closed(closed.session, closed.failure, self._shared.clock.now_ms())

    def _on_resolved(self, guest: Guest, payload: bytes) -> None:
        if guest.known.is_leaving:
            # It lives by a configuration that is no more; the question was put to others.
            return
        self._shared.plans.resolved(self._resolved(payload), self._shared.clock.now_ms())

    def _on_note(self, _guest: Guest, payload: bytes) -> None:
        # While nobody takes events, there are no more of those that nobody waits for.
        for event in () if self._shared.is_tight else self._note(payload).events:
            self._shared.batch.note(event)

    # What commands say

    def _on_ask(self, guest: Guest, _payload: bytes) -> None:
        guest.connection.send(frame(Kind.LEASES, Leases(tuple(self._shared.schedule.leased()))))

    def _on_order(self, guest: Guest, payload: bytes) -> None:
        order = self._order(payload)
        if any(len(id_) != ID_OCTETS for id_ in order.ids):
            raise ValueError("an ORDER with an id that is none")
        self._ordering.add(OrderChange(guest, order))

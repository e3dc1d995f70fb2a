"""The queue process: reads what workers hand in, commits it, says so, and leases what is due.

Rule: one turn of the loop is read, commit, answer, lease, write. A commit blocks the loop; what arrives meanwhile makes
the next commit bigger, and that is all the group commit there is. *out* connections are read first, so that settlements
never wait behind mail coming in, and *in* connections not at all while a full batch waits: the workers' sockets fill,
and the clients feel it.

StoreError leaves `run` when a flush failed: everyone in that batch was told to come again, and the master starts the
process again from what is on the disk.
"""

import contextlib
import random
import select
import socket
import time
from collections.abc import Callable
from importlib.metadata import version

import msgspec

from mta.child import BEAT_S, ORPHAN_S, Child
from mta.errors import LinkLost
from mta.link import (
    LINK_VERSION,
    READ_OCTETS,
    Closed,
    Connection,
    Hello,
    Kind,
    Leases,
    Note,
    Resolved,
    Settle,
    Settled,
    Welcome,
    decoder,
    frame,
    read_put,
)
from mta.queue.batch import Batch, Done, Due
from mta.queue.clock import Clock
from mta.queue.guest import Guest
from mta.queue.plans import Plans
from mta.queue.retry import next_attempt
from mta.queue.room import Room
from mta.queue.schedule import Schedule
from mta.queue.workers import Worker, Workers
from mta.reply import REPLY_451_QUEUE_SILENT, REPLY_452_STORAGE
from mta.report import ChildDied, Event, Fault, Started, Stopped
from mta.report import encode as encode_event
from mta.store import StorageFull, StoreError, Writer

__all__ = ["QueueProcess"]

# A settlement need not have a commit of its own: it rides with the next one, this much later at most.
SETTLE_WAIT_S = 0.02
# What nobody waits for at all: notes, events that were taken, queues that went to sleep.
TIDY_WAIT_S = 0.1
# A worker that was there before us and does not check in is hung: it holds leases, and everyone waits for it.
CHECK_IN_S = 5.0
TURN_S = 0.5
BEFORE_HELLO = (Kind.HELLO, Kind.ASK)


class QueueProcess:
    """Everything the queue process does, until a signal is seen on `wakeup`."""

    def __init__(self, child: Child, writer: Writer, wakeup: socket.socket) -> None:
        if child.link is None or child.outbox is None:
            raise StoreError("the queue process was started without its sockets")
        self._child = child
        self._config = child.config
        self._writer = writer
        self._link = child.link
        self._outbox = child.outbox
        self._wakeup = wakeup
        self._clock = Clock()
        self._batch = Batch(writer)
        self._room = Room(self._config.data_dir, self._config.queue.map_octets, self._config.queue.reserve_octets)
        self._workers = Workers({key for key, _ in writer.look("gone", b"", 1_000_000)})
        path = self._config.path
        self._schedule = Schedule(path.connections, path.window_start)
        self._plans = Plans(self._schedule, writer, self._workers)
        self._epoll = select.epoll()
        self._buffer = memoryview(bytearray(READ_OCTETS))
        self._guests: dict[int, Guest] = {}
        self._putters: list[Guest] = []
        self._settlers: list[Guest] = []
        self._work_since = 0.0
        self._beat_at = 0.0
        self._awaited_since = 0.0
        self._stop_at = 0.0
        self._is_stopping = False
        self._on: dict[int, Callable[[Guest, bytes], None]] = {
            Kind.HELLO: self._on_hello,
            Kind.READY: self._on_ready,
            Kind.LEAVE: self._on_leave,
            Kind.PUT: self._on_put,
            Kind.SETTLE: self._on_settle,
            Kind.CLOSED: self._on_closed,
            Kind.RESOLVED: self._on_resolved,
            Kind.NOTE: self._on_note,
            Kind.ASK: self._on_ask,
        }
        self._hello = decoder(Hello).decode
        self._settle = decoder(Settle).decode
        self._closed = decoder(Closed).decode
        self._resolved = decoder(Resolved).decode
        self._note = decoder(Note).decode

    def run(self) -> None:
        """Serve until stopped. Raises StoreError when a flush failed."""
        special = {
            self._link.fileno(): self._accept,
            self._outbox.fileno(): self._hear_report,
            self._child.control.fileno(): self._hear_master,
            self._wakeup.fileno(): self._stop,
        }
        for fd in special:
            self._epoll.register(fd, select.EPOLLIN)
        self._tell(Started(self._clock.now_ms(), b"", "", self._config.hostname, version("posthaste-mta")))
        self._child.tell("ready")
        while not self._is_over():
            waiting: list[Guest] = []
            for fd, _ in self._epoll.poll(self._timeout_s()):
                if fd in special:
                    special[fd]()
                elif fd in self._guests:
                    guest = self._guests[fd]
                    if guest.role == "in":
                        waiting.append(guest)
                    else:
                        self._read(guest)
            for guest in waiting:
                if not self._batch.is_full:
                    self._read(guest)
            self._commit_if_due()
            if self._workers.have_checked_in:
                self._plans.tick(self._batch, self._clock.now_ms())
            self._beat()
            for guest in list(self._guests.values()):
                self._flush(guest)
        self._tell(Stopped(self._clock.now_ms(), b"", "", self._config.hostname))
        self._commit()

    # Turns

    def _is_over(self) -> bool:
        if self._stop_at and (time.monotonic() >= self._stop_at or not any(g.worker for g in self._guests.values())):
            return True
        return self._is_stopping and not self._batch.has_work

    def _stop(self) -> None:
        self._wakeup.recv(64)
        self._is_stopping = True

    def _timeout_s(self) -> float:
        now = time.monotonic()
        if self._batch.has_work:
            if not self._work_since:
                self._work_since = now
            return max(0.0, min(self._work_since + self._wait_s() - now, TURN_S))
        if not self._workers.have_checked_in:
            return TIDY_WAIT_S
        return min(TURN_S, self._plans.wait_ms(self._clock.now_ms()) / 1000)

    def _wait_s(self) -> float:
        if self._batch.has_messages or self._batch.is_full or self._is_stopping:
            return 0.0
        return SETTLE_WAIT_S if self._batch.has_settlements else TIDY_WAIT_S

    def _beat(self) -> None:
        now = time.monotonic()
        if now < self._beat_at:
            return
        self._beat_at = now + BEAT_S
        self._child.tell("beat")
        if self._awaited_since and now > self._awaited_since + CHECK_IN_S:
            self._awaited_since = now
            for pid in self._workers.silent:
                self._child.tell("kill", pid)

    def _commit_if_due(self) -> None:
        if not self._batch.has_work:
            self._work_since = 0.0
            return
        now = time.monotonic()
        if not self._work_since:
            self._work_since = now
        if now >= self._work_since + self._wait_s():
            self._commit()
            self._work_since = now if self._batch.has_work else 0.0

    def _commit(self) -> None:
        """Commit the batch, then say so to everyone whose frames are in it."""
        now = self._clock.now_ms()
        try:
            done = self._batch.commit(now, self._workers.repeatable, keep_all_ids=not self._workers.have_checked_in)
        except StoreError:
            for guest, put in zip(self._putters, self._batch.refuse_all(), strict=True):
                guest.say_refused(put.head.id, REPLY_451_QUEUE_SILENT)
            for guest in list(self._guests.values()):
                self._flush(guest)
            raise
        self._say(done)
        self._workers.gone.update(done.kept_ids)
        self._plans.arrived(done.arrived)
        self._plans.off(done.off, now)
        self._plans.slept(done.wakes)
        for settlement in done.failed:
            if settlement.results:
                self._batch.settle(Due(msgspec.structs.replace(settlement, results=()), 0))
            else:
                # Not even set aside: nobody tries it before the next start, when somebody has looked at the fault.
                self._schedule.settled(settlement.part, 0, now)

    def _say(self, done: Done) -> None:
        """Answer each frame; on one connection in the order in which they came, for workers count the answers."""
        stored: dict[Guest, list[bytes]] = {}
        for guest, (put, reply) in zip(self._putters, done.answers, strict=True):
            if guest.worker is None:
                continue
            if reply is None:
                stored.setdefault(guest, []).append(put.head.id)
            else:
                guest.say_stored(stored.pop(guest, []))
                guest.say_refused(put.head.id, reply)
            self._workers.answered(guest.worker, put.head.id)
        for guest, ids in stored.items():
            guest.say_stored(ids)
        for guest in set(self._settlers):
            guest.connection.send(frame(Kind.SETTLED, Settled(self._settlers.count(guest))))
        self._putters, self._settlers = [], []

    def _tell(self, event: Event) -> None:
        self._batch.note(encode_event(event))

    # What the master and the report process say

    def _hear_master(self) -> None:
        heard = self._child.hear()
        if heard is None:
            # The workers end what is open; their last frames are waited for.
            self._epoll.unregister(self._child.control.fileno())
            self._stop_at = time.monotonic() + ORPHAN_S
            return
        for word, *rest in heard:
            if word == "workers":
                first = not self._awaited_since
                self._workers.listed({pid for _, pid in rest[0]})
                self._awaited_since = time.monotonic() if first else self._awaited_since
                self._bury()
            elif word == "died":
                name, pid, status = rest
                # A reader that died inside a transaction would keep every page freed since.
                self._writer.forget_dead_readers()
                self._tell(ChildDied(self._clock.now_ms(), b"", "", name, pid, status))

    def _hear_report(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._batch.taken(int.from_bytes(self._outbox.recv(8), "big"))

    def _bury(self) -> None:
        """Take everything back from workers that are dead."""
        for worker in self._workers.bury():
            self._schedule.worker_gone(worker.incarnation)
        self._forget_ids()

    def _forget_ids(self) -> None:
        if self._workers.have_checked_in:
            for id_ in self._workers.unrepeatable():
                self._batch.forget(id_)

    # Connections

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                guest = Guest(Connection(self._link.accept()[0], self._buffer))
                self._guests[guest.connection.fd] = guest
                self._epoll.register(guest.connection.fd, select.EPOLLIN)

    def _read(self, guest: Guest) -> None:
        try:
            for kind, payload in guest.connection.read():
                if guest.worker is None and kind not in BEFORE_HELLO:
                    raise ValueError(f"frame {kind} came before HELLO")
                self._on[kind](guest, payload)
        except (LinkLost, KeyError, ValueError, msgspec.MsgspecError) as problem:
            if not isinstance(problem, LinkLost):
                self._tell(Fault(self._clock.now_ms(), b"", "", "link", f"{type(problem).__name__}: {problem}"))
            self._drop(guest)

    def _flush(self, guest: Guest) -> None:
        try:
            is_all = guest.connection.flush()
        except LinkLost:
            self._drop(guest)
            return
        if is_all != guest.is_all:
            guest.is_all = is_all
            self._epoll.modify(guest.connection.fd, select.EPOLLIN if is_all else select.EPOLLIN | select.EPOLLOUT)

    def _drop(self, guest: Guest) -> None:
        del self._guests[guest.connection.fd]
        self._epoll.unregister(guest.connection.fd)
        guest.connection.close()
        worker = guest.worker
        if worker is not None and worker.ends.get(guest.role) is guest.connection:
            del worker.ends[guest.role]
            worker.ready_ends.discard(guest.role)
            self._bury()

    # What workers say

    def _on_hello(self, guest: Guest, payload: bytes) -> None:
        hello = self._hello(payload)
        if hello.version != LINK_VERSION:
            raise ValueError(f"worker {hello.worker} speaks link version {hello.version}, not {LINK_VERSION}")
        incarnation = hello.incarnation
        if not incarnation:
            # Durable before it is used: an id that was made with it must never be made again.
            self._writer.begin()
            incarnation = self._writer.new_incarnation()
            try:
                self._writer.commit()
            except StorageFull as problem:
                self._writer.abort()
                raise LinkLost("there is no room for a new worker's number") from problem
        guest.role = hello.role
        guest.worker = self._workers.connected(incarnation, hello, guest.connection)
        if hello.role == "out":
            now = self._clock.now_ms()
            self._schedule.worker_gone(incarnation)
            self._plans.checked_in(guest.worker, hello.sessions, hello.held, now)
        guest.connection.send(frame(Kind.WELCOME, Welcome(self._writer.node, incarnation)))

    def _on_ready(self, guest: Guest, _payload: bytes) -> None:
        worker = guest.known
        if self._batch.has_messages or self._batch.has_settlements:
            # What it said again must be in the tables before they are read: a part would be delivered twice.
            self._commit()
        self._workers.ready(worker, guest.role)
        if worker.is_ready:
            if not worker.is_leaving:
                self._schedule.worker_joined(worker.incarnation)
            self._forget_ids()

    def _on_leave(self, guest: Guest, _payload: bytes) -> None:
        worker = guest.known
        worker.is_leaving = True
        self._schedule.worker_leaves(worker.incarnation)

    def _on_put(self, guest: Guest, payload: bytes) -> None:
        put = read_put(payload)
        self._confirmed(guest.known, put.confirmed)
        if not put.repeat and not self._room.fits(self._writer.live_octets, self._writer.n_messages):
            # It counts as an answer like any other: it must come after those that wait for the commit.
            self._batch.refuse(put, REPLY_452_STORAGE)
            self._putters.append(guest)
            return
        self._batch.put(put)
        self._putters.append(guest)

    def _on_settle(self, guest: Guest, payload: bytes) -> None:
        settle = self._settle(payload)
        self._confirmed(guest.known, settle.confirmed)
        now = self._clock.now_ms()
        for settlement in settle.settlements:
            next_at = next_attempt(self._config.retry, settlement.attempt + 1, now, random.random())
            self._batch.settle(Due(settlement, next_at))
            self._schedule.settling(settlement.part, now)
        self._settlers.append(guest)

    def _confirmed(self, worker: Worker, count: int) -> None:
        for id_ in self._workers.confirmed(worker, count):
            self._batch.forget(id_)

    def _on_closed(self, _guest: Guest, payload: bytes) -> None:
        self._schedule.closed(self._closed(payload).session)

    def _on_resolved(self, _guest: Guest, payload: bytes) -> None:
        answer = self._resolved(payload)
        until = self._clock.now_ms() + round(answer.ttl_s * 1000)
        self._schedule.resolved(answer.domain, answer.route, answer.site, answer.hosts, until)

    def _on_note(self, _guest: Guest, payload: bytes) -> None:
        for event in self._note(payload).events:
            self._batch.note(event)

    def _on_ask(self, guest: Guest, _payload: bytes) -> None:
        guest.connection.send(frame(Kind.LEASES, Leases(tuple(self._schedule.leased()))))

"""The queue process: reads what workers hand in, commits it, says so, and leases what is due.

Rule: one turn of the loop is read, commit, answer, lease, write. A commit blocks the loop; what arrives meanwhile makes
the next commit bigger, and that is all the group commit there is. *out* connections are read first, so that settlements
never wait behind mail coming in, and *in* connections not at all while a full batch waits: the workers' sockets fill,
and the clients feel it.

StoreError leaves `run` when a flush failed: everyone in that batch was told to come again, and the master starts the
process again from what is on the disk.
"""

import contextlib
import select
import socket
import time
from importlib.metadata import version
from typing import Any

import msgspec

from mta.child import BEAT_S, ORPHAN_S, Child, QueuePart
from mta.link import READ_OCTETS, Connection
from mta.queue.changes import Circumstances
from mta.queue.desk import Desk
from mta.queue.shared import Shared
from mta.report import ChildDied, Fault, Reloaded, ReloadFailed, Started, Stopped
from mta.store import StoreError, Writer

__all__ = ["QueueProcess"]

# A settlement need not have a commit of its own: it rides with the next one, this much later at most.
SETTLE_WAIT_S = 0.02
# What nobody waits for at all: notes, events that were taken, queues that went to sleep.
TIDY_WAIT_S = 0.1
# A worker that was there before us and does not check in is hung: it holds leases, and everyone waits for it.
CHECK_IN_S = 5.0
TURN_S = 0.5
# Longer than this between two turns means that we stood still.
STALL_S = 1.0


class QueueProcess:
    """Everything the queue process does, until a signal is seen on `wakeup`."""

    def __init__(self, child: Child, writer: Writer, wakeup: socket.socket) -> None:
        if child.link is None or child.outbox is None:
            raise StoreError("the queue process was started without its sockets")
        self._child = child
        self._link = child.link
        self._outbox = child.outbox
        self._wakeup = wakeup
        self._shared = Shared(child.config, writer)
        self._epoll = select.epoll()
        self._buffer = memoryview(bytearray(READ_OCTETS))
        self._desk = Desk(self._shared, self._epoll, self._commit)
        self._work_since = 0.0
        self._beat_at = 0.0
        self._awaited_since = 0.0
        self._stop_at = 0.0
        self._turned_at = time.monotonic()
        self._hears_until = 0.0
        self._is_stopping = False
        self._is_followed = False

    def run(self) -> None:
        """Serve until stopped. Raises StoreError when a flush failed."""
        shared, desk = self._shared, self._desk
        hostname = shared.config.hostname
        special = {
            self._link.fileno(): self._accept,
            self._outbox.fileno(): self._hear_report,
            self._child.control.fileno(): self._hear_master,
            self._wakeup.fileno(): self._stop,
        }
        for fd in special:
            self._epoll.register(fd, select.EPOLLIN)
        shared.tell(Started(shared.clock.now_ms(), b"", "", hostname, version("posthaste-mta")))
        self._child.tell("ready")
        while not self._is_over():
            ready = [fd for fd, _ in self._epoll.poll(self._timeout_s())]
            for fd in ready:
                if fd in special:
                    special[fd]()
            self._mind_stall(desk.serve([fd for fd in ready if fd not in special]))
            self._commit_if_due()
            if shared.look_for_room():
                desk.say_storage()
            if shared.workers.have_checked_in:
                shared.plans.tick(shared.clock.now_ms(), may_lease=not self._hears_until and not shared.is_tight)
            self._beat()
            desk.flush()
        if not self._is_followed:
            shared.tell(Stopped(shared.clock.now_ms(), b"", "", hostname))
        self._commit()

    # Turns

    def _mind_stall(self, has_puts: bool) -> None:
        """After a pause of ours, hear everything that was said meanwhile before anything is leased: a client may have
        been told 451, and the word that takes its message back lies behind it."""
        now = time.monotonic()
        if now - self._turned_at > STALL_S:
            self._hears_until = now + STALL_S
        elif not has_puts or now > self._hears_until:
            self._hears_until = 0.0
        self._turned_at = now

    def _is_over(self) -> bool:
        if self._stop_at and (time.monotonic() >= self._stop_at or not self._desk.has_workers):
            return True
        return self._is_stopping and not self._shared.batch.has_news

    def _stop(self) -> None:
        self._wakeup.recv(64)
        self._begin_to_stop()

    def _begin_to_stop(self) -> None:
        self._is_stopping = True
        self._desk.end_orders()

    def _timeout_s(self) -> float:
        shared = self._shared
        now = time.monotonic()
        if shared.batch.has_work:
            if not self._work_since:
                self._work_since = now
            return max(0.0, min(self._work_since + self._wait_s() - now, TURN_S))
        if not shared.workers.have_checked_in:
            return TIDY_WAIT_S
        return min(TURN_S, shared.plans.wait_ms(shared.clock.now_ms()) / 1000)

    def _wait_s(self) -> float:
        batch = self._shared.batch
        if batch.is_awaited or batch.is_full or self._is_stopping:
            return 0.0
        return SETTLE_WAIT_S if batch.has_changes or batch.has_trash else TIDY_WAIT_S

    def _beat(self) -> None:
        now = time.monotonic()
        if now < self._beat_at:
            return
        self._beat_at = now + BEAT_S
        self._child.tell("beat")
        step_ms = self._shared.clock.step_ms()
        if step_ms:
            detail = f"the system clock was moved by {step_ms} ms; nothing expires by that"
            self._shared.tell(Fault(self._shared.clock.now_ms(), b"", "", "clock", detail))
        if self._awaited_since and now > self._awaited_since + CHECK_IN_S:
            self._awaited_since = now
            for pid in self._shared.workers.silent:
                self._child.tell("kill", pid)

    def _commit_if_due(self) -> None:
        batch = self._shared.batch
        if not batch.has_work:
            self._work_since = 0.0
            return
        now = time.monotonic()
        if not self._work_since:
            self._work_since = now
        if now >= self._work_since + self._wait_s():
            self._commit()
            self._work_since = now if batch.has_work else 0.0

    def _commit(self) -> None:
        """Commit the batch, then say so to everyone whose frames are in it."""
        shared = self._shared
        now = Circumstances(shared.clock.now_ms(), shared.schedule.is_leased, shared.workers.is_repeatable)
        try:
            done = shared.batch.commit(now)
        except StoreError:
            self._desk.refuse(shared.batch.changes)
            raise
        self._desk.committed(done)

    # What the master and the report process say

    def _hear_master(self) -> None:
        shared = self._shared
        heard = self._child.hear()
        if heard is None:
            # The workers end what is open; their last frames are waited for.
            self._epoll.unregister(self._child.control.fileno())
            self._stop_at = time.monotonic() + ORPHAN_S
            return
        for word, *rest in heard:
            if word == "workers":
                first = not self._awaited_since
                shared.workers.listed({pid for _, pid in rest[0]})
                self._awaited_since = time.monotonic() if first else self._awaited_since
                self._desk.bury()
            elif word == "died":
                name, pid, status = rest
                # A reader that died inside a transaction would keep every page freed since.
                shared.writer.forget_dead_readers()
                shared.workers.died(pid)
                shared.tell(ChildDied(shared.clock.now_ms(), b"", "", name, pid, status))
            elif word == "leave":
                # Workers keep their sessions, and say again to the next process what this one has not answered.
                self._is_followed = True
                self._begin_to_stop()
            else:
                self._hear_reload(word, rest)

    def _hear_reload(self, word: str, rest: list[Any]) -> None:
        shared = self._shared
        now, hostname = shared.clock.now_ms(), shared.config.hostname
        if word == "config":
            shared.reconfigure(msgspec.convert(rest[0], QueuePart))
            self._desk.leaving(set(rest[1]))
        elif word == "reloaded":
            shared.tell(Reloaded(now, b"", "", hostname, rest[0], version("posthaste-mta")))
        elif word == "reload_failed":
            shared.tell(ReloadFailed(now, b"", "", hostname, rest[0], tuple(rest[1])))

    def _hear_report(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._shared.batch.taken(int.from_bytes(self._outbox.recv(8), "big"))

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._desk.accept(Connection(self._link.accept()[0], self._buffer))

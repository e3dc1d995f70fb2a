"""The master's loop: bear what is due, wait, hear the children, obey signals, reap the dead, kill the hung.

Rule: one turn is one screen, and nothing in it blocks but the wait. Everything else (stopping included) is made of
turns, so a child that dies during a stop is seen like any other.

A child that dies is replaced: at once, or after a growing wait while it keeps dying before it is ready. Until the
server has been ready once, five deaths of one child before its "ready" mean that it cannot start, and end it with exit
code 1.
"""

import contextlib
import os
import select
import signal
import time
from collections import Counter, deque
from collections.abc import Sequence

from mta.config import Process
from mta.master.children import Kid, Nursery, describe_status
from mta.master.notify import READY, STOPPING, notify, say
from mta.master.signals import Signals
from mta.master.sockets import Sockets

__all__ = ["Arbiter"]

TURN_S = 1.0
# Longer than this between two turns means that the machine or the master slept; nobody's silence counts then.
SLEPT_S = 5.0
# A child that came so far as to serve is wanted back soon, for clients wait for it, but not in a tight loop.
YOUNG_S = 10.0
YOUNG_REST_S = 0.2
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 30.0
BOOT_DEATHS = 5
# What workers get beyond `drain_s` to tell the queue and leave; queue and report to write down what they have.
DRAIN_EXTRA_S = 5.0
LEAVE_S = 10.0
QUIT_S = 2.0
# News for a queue process that is down: enough for hours of restarts.
N_NEWS = 1000


class Arbiter:
    """Keeps the family alive until it is told to stop."""

    def __init__(
        self, process: Process, kids: Sequence[Kid], nursery: Nursery, sockets: Sockets, signals: Signals, manager: str
    ) -> None:
        """`kids` are borne in their order; `manager` is NOTIFY_SOCKET's address, "" for none."""
        self._process = process
        self._kids = kids
        self._nursery = nursery
        self._sockets = sockets
        self._signals = signals
        self._manager = manager
        self._wanted = {kid.kind for kid in kids}
        self._order = 0
        self._code = 0
        self._was_ready = False
        self._n_boot_deaths: Counter[str] = Counter()
        self._news: deque[tuple[object, ...]] = deque(maxlen=N_NEWS)
        self._has_workers_changed = True
        self._turned_at = time.monotonic()

    def run(self) -> int:
        """Return the exit code, when every child is gone."""
        while not self._order:
            self._turn()
            self._maybe_announce()
        if self._order != signal.SIGQUIT:
            self._stop()
        if self._order == signal.SIGQUIT:
            self._quit()
        return self._code

    def _turn(self, until: float = float("inf")) -> None:
        self._bear_due()
        self._tell_queue()
        self._wait(until)
        self._hear()
        self._obey()
        self._reap()
        self._kill_hung()

    def _bear_due(self) -> None:
        now = time.monotonic()
        for kid in self._kids:
            if kid.pid or kid.due_at > now or kid.kind not in self._wanted or self._order == signal.SIGQUIT:
                continue
            if kid.kind == "queue":
                # What its forerunner was not told about workers is out of date; who died is not.
                self._news = deque((word for word in self._news if word[0] == "died"), maxlen=N_NEWS)
            try:
                self._nursery.bear(kid, now, self._leave)
            except OSError as error:
                kid.due_at = now + BACKOFF_FIRST_S
                say(f"cannot start {kid.name}: {error.strerror}; trying again")
                continue
            self._has_workers_changed |= kid.kind in ("queue", "worker")

    def _leave(self) -> None:
        """In a new child: close our ends of the others' channels, or their children would never see us die."""
        for kid in self._kids:
            if kid.control is not None:
                kid.control.close()

    def _tell_queue(self) -> None:
        if self._has_workers_changed:
            living = [[kid.number, kid.pid] for kid in self._kids if kid.kind == "worker" and kid.pid]
            self._news.append(("workers", living))
            self._has_workers_changed = False
        for queue in self._kids:
            while queue.kind == "queue" and queue.pid and self._news and queue.tell(self._news[0]):
                self._news.popleft()

    def _wait(self, until: float) -> None:
        now = time.monotonic()
        dues = [kid.due_at for kid in self._kids if not kid.pid and kid.kind in self._wanted]
        timeout_s = max(0.0, min([now + TURN_S, until, *dues]) - now)
        # Made anew each time: a few descriptors a second, and nothing to keep in step with births and deaths.
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        for kid in self._kids:
            if kid.control is not None:
                poll.register(kid.control, select.POLLIN)
        poll.poll(timeout_s * 1000)
        now = time.monotonic()
        if now - self._turned_at > SLEPT_S:
            for kid in self._kids:
                kid.heard_at = now
        self._turned_at = now

    def _hear(self) -> None:
        for kid in self._kids:
            for words in kid.hear():
                kid.heard_at = self._turned_at
                match words:
                    case ["ready"] if not kid.is_ready:
                        kid.is_ready = True
                        if self._was_ready:
                            say(f"{kid.name} is back, pid {kid.pid}")
                    case ["kill", int(pid)] if kid.kind == "queue":
                        self._kill_worker(pid)

    def _kill_worker(self, pid: int) -> None:
        for kid in self._kids:
            if kid.kind == "worker" and kid.pid == pid:
                say(f"{kid.name} (pid {pid}) does not answer the queue, killing it")
                kid.kill(signal.SIGKILL)

    def _obey(self) -> None:
        for number in self._signals.read():
            if number == signal.SIGQUIT or (number in (signal.SIGTERM, signal.SIGINT) and not self._order):
                self._order = number
            elif number == signal.SIGHUP:
                say("SIGHUP: the configuration is read at start only; restart to apply changes")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            # As process 1 of a container we are sent orphans of others, too.
            for kid in self._kids:
                if kid.pid == pid:
                    self._bury(kid, describe_status(status))

    def _bury(self, kid: Kid, status: str) -> None:
        now = time.monotonic()
        pid, kid.pid = kid.pid, 0
        if kid.control is not None:
            kid.control.close()
            kid.control = None
        self._has_workers_changed |= kid.kind == "worker"
        if kid.kind not in self._wanted:
            if status not in ("exit 0", f"signal {signal.SIGTERM:d}"):
                say(f"{kid.name} (pid {pid}) ended with {status}")
            return
        self._news.append(("died", kid.name, pid, status))
        if not self._was_ready and not kid.is_ready:
            self._n_boot_deaths[kid.name] += 1
            if self._n_boot_deaths[kid.name] == BOOT_DEATHS:
                say(f"{kid.name} (pid {pid}) died with {status}")
                say(f"giving up: {kid.name} died {BOOT_DEATHS} times while starting")
                self._wanted.discard(kid.kind)
                self._code, self._order = 1, self._order or signal.SIGTERM
                return
        if kid.is_ready:
            kid.n_stillborn = 0
            kid.n_young = kid.n_young + 1 if now - kid.born_at < YOUNG_S else 0
            pause_s = YOUNG_REST_S if kid.n_young > 1 else 0
        else:
            kid.n_stillborn += 1
            pause_s = min(BACKOFF_FIRST_S * 2.0 ** (kid.n_stillborn - 2), BACKOFF_MOST_S) if kid.n_stillborn > 1 else 0
        kid.due_at = now + pause_s
        say(f"{kid.name} (pid {pid}) died with {status}, starting another {f'in {pause_s:g} s' if pause_s else 'now'}")

    def _kill_hung(self) -> None:
        for kid in self._kids:
            if kid.pid and self._turned_at - kid.heard_at > self._process.hang_s:
                say(f"{kid.name} (pid {kid.pid}) gave no sign of life for {self._process.hang_s:g} s, killing it")
                kid.kill(signal.SIGKILL)
                kid.heard_at = self._turned_at

    def _maybe_announce(self) -> None:
        if not self._was_ready and not self._order and all(kid.is_ready for kid in self._kids):
            self._was_ready = True
            say(f"ready {' '.join(self._sockets.addresses())}")
            notify(self._manager, READY)

    def _stop(self) -> None:
        """End in order: who makes work for others first, who writes down what became of it last."""
        say("stopping" if self._order == signal.SIGTERM else "stopping (interrupted)")
        notify(self._manager, STOPPING)
        self._sockets.close_listeners()
        self._dismiss("worker", self._process.drain_s + DRAIN_EXTRA_S)
        self._dismiss("queue", LEAVE_S)
        self._dismiss("report", LEAVE_S)
        if self._order != signal.SIGQUIT:
            say("stopped")

    def _dismiss(self, kind: str, wait_s: float) -> None:
        self._wanted.discard(kind)
        leaving = [kid for kid in self._kids if kid.kind == kind]
        for kid in leaving:
            kid.kill(signal.SIGTERM)
        self._await(leaving, wait_s)
        late = [kid for kid in leaving if kid.pid and self._order != signal.SIGQUIT]
        for kid in late:
            say(f"{kid.name} (pid {kid.pid}) did not end in {wait_s:g} s, killing it")
            kid.kill(signal.SIGKILL)
        self._await(late, LEAVE_S)

    def _quit(self) -> None:
        self._wanted.clear()
        for number in (signal.SIGQUIT, signal.SIGKILL):
            for kid in self._kids:
                with contextlib.suppress(ProcessLookupError):
                    kid.kill(number)
            end = time.monotonic() + QUIT_S
            while any(kid.pid for kid in self._kids) and time.monotonic() < end:
                self._turn(end)

    def _await(self, kids: Sequence[Kid], wait_s: float) -> None:
        """Turn until these are gone, or `wait_s` is over, or SIGQUIT ends all waiting."""
        end = time.monotonic() + wait_s
        while any(kid.pid for kid in kids) and time.monotonic() < end and self._order != signal.SIGQUIT:
            self._turn(end)

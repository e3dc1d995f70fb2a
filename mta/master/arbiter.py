"""The master's loop: bear what is due, wait, hear the children, obey signals, reap the dead, kill the hung.

Rule: one turn is one screen, and nothing in it blocks but the wait. Everything else (reloads and stops included) is
made of turns, so a child that dies during a stop is seen like any other.

Until the server has been ready once, five deaths of one child before its "ready" mean that it cannot start, and end it
with exit code 1.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Sequence

from mta.master.children import Kid, describe_status
from mta.master.family import LEAVE_S, Family
from mta.master.notify import READY, STOPPING, Watchdog, notify, say, status
from mta.master.succession import Succession
from mta.master.upgrade import Estate

__all__ = ["Arbiter"]

TURN_S = 1.0
# Longer than this between two turns means that the machine or the master slept; nobody's silence counts then.
SLEPT_S = 5.0
# What workers get beyond `drain_s` to tell the queue and leave.
DRAIN_EXTRA_S = 5.0
QUIT_S = 2.0


class Arbiter:
    """Keeps the family alive until it is told to stop."""

    def __init__(self, family: Family, estate: Estate, succession: Succession) -> None:
        self._family = family
        self._sockets = estate.sockets
        self._signals = estate.signals
        self._succession = succession
        self._manager = estate.manager
        self._watchdog = Watchdog(estate.manager, os.environ, os.getpid())
        self._shown = ""
        self._order = 0
        self._code = 0
        self._turned_at = time.monotonic()

    def run(self) -> int:
        """Return the exit code, when every child is gone."""
        while not self._order:
            self._turn()
            self._maybe_announce()
            if self._family.was_ready and not self._order:
                self._succession.step()
        if self._order != signal.SIGQUIT:
            self._stop()
        if self._order == signal.SIGQUIT:
            self._quit()
        return self._code

    def _turn(self, until: float = float("inf")) -> None:
        self._family.bear_due()
        self._family.tell()
        self._wait(until)
        self._watchdog.pet()
        self._family.hear(self._turned_at)
        self._obey()
        self._reap()
        self._family.kill_late(self._turned_at, self._succession.process.hang_s)

    def _wait(self, until: float) -> None:
        now = time.monotonic()
        timeout_s = max(0.0, min([now + TURN_S, until, self._watchdog.due_at, *self._family.dues]) - now)
        # Made anew each time: a few descriptors a second, and nothing to keep in step with births and deaths.
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        for kid in self._family.kids:
            if kid.control is not None:
                poll.register(kid.control, select.POLLIN)
        poll.poll(timeout_s * 1000)
        now = time.monotonic()
        if now - self._turned_at > SLEPT_S:
            for kid in self._family.kids:
                kid.heard_at = now
        self._turned_at = now

    def _obey(self) -> None:
        for number in self._signals.read():
            if number == signal.SIGQUIT or (number in (signal.SIGTERM, signal.SIGINT) and not self._order):
                self._order = number
            elif number in (signal.SIGHUP, signal.SIGUSR2) and not self._order:
                self._succession.want(number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if not self._succession.buried(pid, status) and not self._family.bury(pid, describe_status(status)):
                self._code, self._order = 1, self._order or signal.SIGTERM

    def _maybe_announce(self) -> None:
        family = self._family
        if not family.was_ready and not self._order and all(kid.is_ready for kid in family.kids):
            family.was_ready = True
            say(f"ready {' '.join(self._succession.plan.addresses())}")
            notify(self._manager, READY)
        if family.was_ready and not self._order:
            missing = ", ".join(kid.name for kid in family.kids if not ((kid.is_ready and kid.pid) or kid.is_leaving))
            addresses = " ".join(self._succession.plan.addresses())
            self._show(f"serving {addresses}{missing and f'; starting: {missing}'}")

    def _show(self, text: str) -> None:
        """Have the service manager show `text`, unless it does already."""
        if text != self._shown:
            self._shown = text
            notify(self._manager, status(text))

    def _stop(self) -> None:
        """End in order: who makes work for others first, who writes down what became of it last."""
        say("stopping" if self._order == signal.SIGTERM else "stopping (interrupted)")
        notify(self._manager, STOPPING)
        self._show(f"stopping: open transactions have {self._succession.process.drain_s:g} s to end")
        self._sockets.close_listeners()
        self._dismiss("worker", self._succession.process.drain_s + DRAIN_EXTRA_S)
        self._dismiss("state", LEAVE_S)
        self._dismiss("queue", LEAVE_S)
        self._dismiss("report", LEAVE_S)
        if self._order != signal.SIGQUIT:
            say("stopped")

    def _dismiss(self, kind: str, wait_s: float) -> None:
        self._family.wanted.discard(kind)
        leaving = [kid for kid in self._family.kids if kid.kind == kind]
        for kid in leaving:
            kid.kill(signal.SIGTERM)
        self._await(leaving, wait_s)
        late = [kid for kid in leaving if kid.pid and self._order != signal.SIGQUIT]
        for kid in late:
            say(f"{kid.name} (pid {kid.pid}) did not end in {wait_s:g} s, killing it")
            kid.kill(signal.SIGKILL)
        self._await(late, LEAVE_S)

    def _quit(self) -> None:
        self._family.wanted.clear()
        for number in (signal.SIGQUIT, signal.SIGKILL):
            for kid in self._family.kids:
                with contextlib.suppress(ProcessLookupError):
                    kid.kill(number)
            end = time.monotonic() + QUIT_S
            while any(kid.pid for kid in self._family.kids) and time.monotonic() < end:
                self._turn(end)

    def _await(self, kids: Sequence[Kid], wait_s: float) -> None:
        """Turn until these are gone, or `wait_s` is over, or SIGQUIT ends all waiting."""
        end = time.monotonic() + wait_s
        while any(kid.pid for kid in kids) and time.monotonic() < end and self._order != signal.SIGQUIT:
            self._turn(end)

"""Giving the master's process to another image of the program, on SIGUSR2: first tried, then done.

Rule: what can fail is tried in a process of its own (`trial`), while everything goes on. The exec keeps the pid, the
children and whatever is open; signals are held back over it, so that none is lost.
"""

import os
import sys

from mta.master.family import Family
from mta.master.handover import VARIABLE, Handover, write
from mta.master.signals import Signals
from mta.master.sockets import Lock, Plan, Sockets

__all__ = ["Estate", "Trial"]

MOST_OCTETS = 65_536


class Trial:
    """One trial, in a child process."""

    def __init__(self, file: str, record: Handover) -> None:
        """Begin. Raises OSError."""
        fd = write(record)
        try:
            self._said = os.memfd_create("mta-trial")
            try:
                # Without -P a folder mta where we were started would come before what is installed.
                argv = [sys.executable, "-P", "-m", "mta.master.trial", file, str(fd), sys.argv[0]]
                self.pid = os.posix_spawn(
                    sys.executable, argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, self._said, 2)]
                )
            except BaseException:
                os.close(self._said)
                raise
        finally:
            os.close(fd)
        self.status = -1
        """As from waitpid(2), once it is over."""

    def close(self) -> list[str]:
        """Return the lines that it wrote."""
        try:
            os.lseek(self._said, 0, os.SEEK_SET)
            return os.read(self._said, MOST_OCTETS).decode("utf-8", "replace").splitlines()
        finally:
            os.close(self._said)


class Estate:
    """What the master owns beside its children, and would leave to another image."""

    def __init__(self, lock: Lock, sockets: Sockets, signals: Signals, manager: str) -> None:
        """`manager` is NOTIFY_SOCKET's address, "" for none: the next image finds it by itself."""
        self.sockets = sockets
        self.manager = manager
        self.signals = signals
        self._lock = lock

    def record(self, plan: Plan, family: Family, signals: list[int]) -> Handover:
        """Return all that another image has to know; `signals` are those that had come and were not obeyed."""
        return Handover.of(plan, self._lock, self.sockets, family.kids, family.news, signals)

    def hand_over(self, plan: Plan, family: Family, orders: list[int]) -> None:
        """Become the image that is on the disk now, started as this one was. Returns only by OSError.

        `orders` are signals that are known and wait; what comes from now on waits for the new image.
        """
        with self.signals.held():
            unread = self.signals.read()
            record = self.record(plan, family, [*orders, *unread])
            fd = write(record)
            try:
                for each in record.fds:
                    os.set_inheritable(each, True)
                # A first argument that is looked for in PATH could find another Python.
                os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, VARIABLE: str(fd)})
            finally:
                for each in record.fds:
                    os.set_inheritable(each, False)
                os.close(fd)
                self.signals.again(unread)

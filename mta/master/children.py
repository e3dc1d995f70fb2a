"""One child process, as the master sees it: its birth, its signs of life, its death.

Before the fork: the master's sockets are open, its signals held back, garbage frozen so that collections in the child
do not touch (and so copy) the master's pages. After the fork, in the child: no end of another's control channel stays
open (or nobody would see the master's death), no privilege, and only then the child's own code is imported.
"""

import contextlib
import importlib
import math
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

import msgspec
from setproctitle import setproctitle

from mta.child import PACKET_OCTETS, Child
from mta.master.signals import Signals
from mta.master.sockets import Plan, Sockets, User

__all__ = ["EXIT_FAULT", "MAINS", "RENEWED_FOR", "Kid", "Nursery", "describe_status"]

# EX_SOFTWARE of sysexits.h: the child's code raised what it should not have.
EXIT_FAULT = 70
MAINS: Mapping[str, str] = {
    "queue": "mta.queue.main:main",
    "report": "mta.report.main:main",
    "state": "mta.state.main:main",
    "worker": "mta.worker.main:main",
}


# Of the kinds with one process that hear of a reload by being started anew: the sections that they live by.
RENEWED_FOR: Mapping[str, tuple[str, ...]] = {"report": ("events",)}


class Kid(msgspec.Struct, eq=False):
    """One place in the family: who lives there now, and how the ones before fared."""

    kind: str
    number: int
    plan: Plan
    """What the next one who is born here works by."""
    pid: int = 0
    """0 while nobody lives here."""
    control: socket.socket | None = None
    is_ready: bool = False
    born_at: float = 0.0
    heard_at: float = 0.0
    """Monotonic seconds, like all times here."""
    due_at: float = 0.0
    """When the next one may be born."""
    n_stillborn: int = 0
    """How many in a row died before they were ready."""
    n_young: int = 0
    """How many in a row died soon after."""
    is_missed: bool = False
    """The one before died, and its successor is not ready yet."""
    is_leaving: bool = False
    """It was told to leave, and nobody comes after it in this place."""
    is_renewed: bool = False
    """It was told to leave, and another is wanted in its place."""
    ends_by: float = math.inf
    """When one that was told to leave is killed."""
    farewell: Sequence[object] = ()
    """The word that tells it to leave, until it is sent."""

    @property
    def name(self) -> str:
        """As in the process title: "queue", "worker 2"."""
        return f"{self.kind} {self.number}" if self.number else self.kind

    def hear(self) -> list[list[object]]:
        """Return the packets that wait. A packet that is none of ours is dropped; so is the channel at its end."""
        heard: list[list[object]] = []
        while self.control is not None:
            try:
                packet = self.control.recv(PACKET_OCTETS)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if not packet:
                self.control.close()
                self.control = None
                break
            with contextlib.suppress(msgspec.DecodeError):
                heard.append(msgspec.msgpack.decode(packet, type=list[object]))
        return heard

    def tell(self, words: Iterable[object]) -> bool:
        """Send one packet; False when the channel is full and it has to be sent again."""
        if self.control is None:
            return True
        try:
            self.control.send(msgspec.msgpack.encode(list(words)))
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def kill(self, number: int) -> None:
        """Send a signal. The pid is surely ours: nobody else reaps it."""
        if self.pid:
            os.kill(self.pid, number)


class Nursery:
    """Forks children; knows what all of them are given."""

    def __init__(self, user: User, sockets: Sockets, signals: Signals, mains: Mapping[str, str] = MAINS) -> None:
        self._user = user
        self._sockets = sockets
        self._signals = signals
        self._mains = mains

    def bear(self, kid: Kid, now: float, leave: Callable[[], None]) -> None:
        """Fork the process of `kid`; `leave` closes, in the child, what belongs to the master alone."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        with self._signals.held():
            pid = os.fork()
            if pid == 0:
                # From here on nothing may return or raise into the master's code.
                try:
                    self._signals.become_child()
                    ours.close()
                    leave()
                    self._live(kid, theirs)
                finally:
                    os._exit(EXIT_FAULT)
        theirs.close()
        kid.pid, kid.control, kid.is_ready = pid, ours, False
        kid.born_at = kid.heard_at = now

    def _live(self, kid: Kid, control: socket.socket) -> NoReturn:
        code = EXIT_FAULT
        try:
            setproctitle(f"mta: {kid.name}")
            self._sockets.keep_for(kid.kind, kid.plan.bounds_of(kid.number))
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._drop()
            module, _, function = self._mains[kid.kind].partition(":")
            code = getattr(importlib.import_module(module), function)(self._child(kid, control))
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code if isinstance(code, int) else EXIT_FAULT)

    def _drop(self) -> None:
        if self._user.name and os.geteuid() == 0:
            os.initgroups(self._user.name, self._user.gid)
            os.setgid(self._user.gid)
            os.setuid(self._user.uid)

    def _child(self, kid: Kid, control: socket.socket) -> Child:
        is_queue, is_report = kid.kind == "queue", kid.kind == "report"
        return Child(
            name=kid.name,
            number=kid.number,
            config=kid.plan.config,
            control=control,
            listeners=kid.plan.bounds_of(kid.number),
            link=self._sockets.link if is_queue else self._sockets.state if kid.kind == "state" else None,
            outbox=self._sockets.outbox[0] if is_queue else self._sockets.outbox[1] if is_report else None,
        )


def describe_status(status: int) -> str:
    """Return how a child ended, from its waitpid(2) status: "exit 1" or "signal 9"."""
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit {code}"

"""Starts a server: locks its data, opens its sockets, and gives it to the arbiter. The master's composition root.

Rule: the master stays small. It never imports what children work with (uvloop, lmdb), it reads no mail, and it keeps
its privilege only to bind ports; so a fork is cheap, and there is little in it that can break.
"""

import gc
import os
import select
import signal
import time
from collections.abc import Mapping

from setproctitle import setproctitle

from mta.config import load
from mta.errors import StartError
from mta.master.activation import Inherited
from mta.master.arbiter import Arbiter
from mta.master.children import MAINS, Kid, Nursery
from mta.master.family import LEAVE_S, Family
from mta.master.handover import Handover, take_over
from mta.master.notify import notify, say, status
from mta.master.openfiles import raise_limit
from mta.master.rights import check_rights
from mta.master.signals import Signals
from mta.master.sockets import Lock, Sockets, find_user
from mta.master.succession import Succession
from mta.master.upgrade import Estate

__all__ = ["LOCK_WAIT_S", "serve"]

LOCK_WAIT_S = 10.0
LOCK_RETRY_S = 0.1
# The kinds that have one process. They are borne before the workers, and in this order.
SINGLE = ("queue", "report", "state")


def serve(file: str, mains: Mapping[str, str] = MAINS, lock_wait_s: float = LOCK_WAIT_S) -> int:
    """Run the server that `file` describes in the foreground until a signal ends it; return the exit code.

    `mains` names, for each kind of child, the function it runs as "module:function"; it takes a `mta.child.Child` and
    returns an exit code. `lock_wait_s` is how long to wait for another server to leave the data_dir. Where an older
    image of this process has left a running server, that is taken over.

    Raises:
        ConfigError: the configuration cannot be used.
        StartError: the user, the data_dir, or an address cannot be had.
    """
    setproctitle("mta: master")
    # First of all: whatever is opened before may get the number of a descriptor that was promised and is not there.
    inherited = Inherited(os.environ, os.getpid())
    left = take_over(os.environ)
    manager = os.environ.get("NOTIFY_SOCKET", "")
    signals = Signals()
    try:
        if left is not None:
            return _go_on(file, left, signals, manager, mains)
        return _start(file, inherited, signals, manager, mains, lock_wait_s)
    finally:
        signals.close()
        inherited.close()


def _start(
    file: str, inherited: Inherited, signals: Signals, manager: str, mains: Mapping[str, str], lock_wait_s: float
) -> int:
    config = load(file)
    user = find_user(config.process.user)
    lock = Lock.open(config.data_dir, user)
    try:
        if not _take(lock, signals, lock_wait_s, manager):
            return 0
        check_rights(config, user)
        sockets = Sockets.open(config.data_dir, user, inherited)
        try:
            plan = sockets.plan(config)
            inherited.finish()
            kids = [Kid(kind, 0, plan) for kind in SINGLE]
            kids += [Kid("worker", number, plan) for number in range(1, len(plan.bounds) + 1)]
            family = Family(kids, Nursery(user, sockets, signals, mains))
            raise_limit(config)
            _tidy()
            estate = Estate(lock, sockets, signals, manager)
            return Arbiter(family, estate, Succession(file, plan, family, estate)).run()
        finally:
            sockets.close()
    finally:
        lock.close()


def _go_on(file: str, left: Handover, signals: Signals, manager: str, mains: Mapping[str, str]) -> int:
    """Take over a running server; its children are replaced as if by a reload."""
    config = left.read_config()
    user = find_user(config.process.user)
    lock = Lock(config.data_dir, left.lock)
    sockets = left.sockets(config.data_dir)
    try:
        plan = sockets.plan(config)
        kids = left.family(plan, time.monotonic())
        # What this version has and the one before had not.
        kids[:0] = [Kid(kind, 0, plan) for kind in SINGLE if all(kid.kind != kind for kid in kids)]
        family = Family(kids, Nursery(user, sockets, signals, mains), left.news)
        family.was_ready = True
        for kid in [kid for kid in family.kids if kid.kind not in mains]:
            # The other way round.
            family.dismiss(kid, LEAVE_S)
        signals.again(left.signals)
        raise_limit(config)
        _tidy()
        estate = Estate(lock, sockets, signals, manager)
        return Arbiter(family, estate, Succession(file, plan, family, estate, is_upgraded=True)).run()
    finally:
        sockets.close()
        lock.close()


def _take(lock: Lock, signals: Signals, wait_s: float, manager: str) -> bool:
    """Wait for the lock; False when a signal ended the waiting. Raises StartError when somebody keeps it."""
    end = time.monotonic() + wait_s
    is_told = False
    while not lock.take():
        if time.monotonic() >= end:
            raise StartError(f"another server is running on data_dir {lock.data_dir}")
        if not is_told:
            text = f"another server is running on data_dir {lock.data_dir}, waiting up to {wait_s:g} s for it to end"
            say(text)
            notify(manager, status(text))
            is_told = True
        select.select([signals], [], [], LOCK_RETRY_S)
        if {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT} & set(signals.read()):
            return False
    return True


def _tidy() -> None:
    """Leave no garbage to collect in the pages that all children share."""
    gc.collect()
    gc.freeze()

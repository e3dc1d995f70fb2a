"""Starts a server: locks its data, opens its sockets, and gives it to the arbiter. The master's composition root.

Rule: the master stays small. It never imports what children work with (uvloop, lmdb), it reads no mail, and it keeps
its privilege only to bind ports; so a fork is cheap, and there is little in it that can break.
"""

import gc
import os
import resource
import select
import signal
import time
from collections.abc import Mapping

from setproctitle import setproctitle

from mta.config import Config
from mta.errors import StartError
from mta.master.arbiter import Arbiter
from mta.master.children import MAINS, Kid, Nursery
from mta.master.notify import say
from mta.master.signals import Signals
from mta.master.sockets import Lock, Sockets, find_user

__all__ = ["LOCK_WAIT_S", "serve"]

LOCK_WAIT_S = 10.0
LOCK_RETRY_S = 0.1


def serve(config: Config, mains: Mapping[str, str] = MAINS, lock_wait_s: float = LOCK_WAIT_S) -> int:
    """Run the server in the foreground until a signal ends it; return the exit code.

    `mains` names, for each kind of child, the function it runs as "module:function"; it takes a `mta.child.Child` and
    returns an exit code. `lock_wait_s` is how long to wait for another server to leave the data_dir.

    Raises:
        StartError: the user, the data_dir, or an address cannot be had.
    """
    setproctitle("mta: master")
    user = find_user(config.process.user)
    signals = Signals()
    try:
        lock = Lock(config.data_dir, user)
        try:
            if not _take(lock, signals, lock_wait_s):
                return 0
            sockets = Sockets(config, user)
            try:
                kids = [Kid("queue", 0), Kid("report", 0)]
                kids += [Kid("worker", number) for number in range(1, config.workers.n_processes + 1)]
                nursery = Nursery(config, user, sockets, signals, mains)
                _prepare()
                manager = os.environ.get("NOTIFY_SOCKET", "")
                return Arbiter(config.process, kids, nursery, sockets, signals, manager).run()
            finally:
                sockets.close()
        finally:
            lock.close()
    finally:
        signals.close()


def _take(lock: Lock, signals: Signals, wait_s: float) -> bool:
    """Wait for the lock; False when a signal ended the waiting. Raises StartError when somebody keeps it."""
    end = time.monotonic() + wait_s
    is_told = False
    while not lock.take():
        if time.monotonic() >= end:
            raise StartError(f"another server is running on data_dir {lock.data_dir}")
        if not is_told:
            say(f"another server is running on data_dir {lock.data_dir}, waiting up to {wait_s:g} s for it to end")
            is_told = True
        select.select([signals], [], [], LOCK_RETRY_S)
        if {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT} & set(signals.read()):
            return False
    return True


def _prepare() -> None:
    """Do what all children inherit: as many open files as we may have, and no garbage to collect in shared pages."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.collect()
    gc.freeze()

"""The composition root of a worker: makes the loop, the link, both sides of the mail, and ends them in order.

Rule: everything is made here, after the fork; nothing below knows where its parts come from.
"""

import asyncio
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable

import uvloop

from mta.accept import Service
from mta.child import BEAT_S, ORPHAN_S, Child
from mta.deliver import Courier, MaildirCourier, MaildirWriter, RemoteCourier, RemoteSettings, Router
from mta.link import QueueLink
from mta.message import LOCAL_SITE, Hosts, now_ms
from mta.policy import Mailboxes
from mta.report import Fault, cut
from mta.report import encode as encode_event
from mta.store import READ_ERRORS, Reader
from mta.worker.dispatch import CourierMaker, Dispatch
from mta.worker.notices import Notices

__all__ = ["main"]

RETRY_S = 0.05
# After the drain the last settlements may take this long to be committed.
SETTLE_S = 2.0


def main(child: Child) -> int:
    """Run until stopped; return the exit code: 0 in order, 1 when the queue cannot be read."""
    try:
        return uvloop.run(Worker(child).run())
    except READ_ERRORS as problem:
        print(f"mta: {child.name}: {problem}", file=sys.stderr, flush=True)
        return 1


class Worker:
    """One worker process."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._config = child.config
        self._drain_s = child.config.process.drain_s
        self._stop = asyncio.Event()
        self._each_second: tuple[Callable[[], None], ...] = ()

    async def run(self) -> int:
        """Serve until told to stop; then let open transactions end, for a while."""
        config, child = self._config, self._child
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_reader(child.control.fileno(), self._hear)
        pulse = loop.create_task(self._beat())
        link = self._link = QueueLink(config.data_dir, child.number, os.getpid(), config.queue.grace_s, loop)
        maildirs = MaildirWriter(Mailboxes(config.local), config.hostname)
        boot = loop.create_task(self._boot(maildirs))
        stop = loop.create_task(self._stop.wait())
        await asyncio.wait((boot, stop), return_when=asyncio.FIRST_COMPLETED)
        if not boot.done():
            # The queue process is not there, and with it nothing to end in order.
            boot.cancel()
            return 0
        service, dispatch = boot.result()
        child.tell("ready")
        await self._stop.wait()
        deadline = loop.time() + self._drain_s
        service.drain()
        dispatch.drain()
        await self._wait_for(lambda: not service.n_connections and not dispatch.n_busy, deadline)
        service.abort()
        dispatch.abort()
        await self._wait_for(lambda: not link.n_pending, deadline + SETTLE_S)
        link.close()
        maildirs.close()
        pulse.cancel()
        return 0

    async def _boot(self, maildirs: MaildirWriter) -> tuple[Service, Dispatch]:
        """Make everything, connect, listen."""
        config = self._config
        router = Router(config.local.domains, config.route)
        notices = Notices(config.hostname, self._link, config.retry)
        dispatch = Dispatch(self._link, await self._open_reader(), self._courier_maker(maildirs), router, notices)
        await self._link.start(dispatch)
        service = Service(config, self._link, asyncio.get_running_loop())
        await service.listen(self._child.listeners)
        self._each_second = (self._link.tend, service.sweep)
        # What was made up to here lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        return service, dispatch

    def _courier_maker(self, maildirs: MaildirWriter) -> CourierMaker:
        config = self._config
        loop = asyncio.get_running_loop()
        settings = RemoteSettings(config.hostname, config.deliver, config.path)

        def make(session: int, site: str, hosts: Hosts, report: Dispatch) -> Courier:
            if site == LOCAL_SITE:
                return MaildirCourier(session, maildirs, report, loop, config.path.idle_s)
            return RemoteCourier(session, hosts, report, settings, loop)

        return make

    async def _open_reader(self) -> Reader:
        """Wait for the queue process to make the environment, if this is the first start of all."""
        while True:
            try:
                return Reader(self._config.data_dir, self._config.queue.map_octets)
            except FileNotFoundError:
                await asyncio.sleep(RETRY_S)

    async def _wait_for(self, condition: Callable[[], bool], deadline: float) -> None:
        loop = asyncio.get_running_loop()
        while not condition() and loop.time() < deadline:
            await asyncio.sleep(RETRY_S)

    async def _beat(self) -> None:
        while True:
            self._child.tell("beat")
            await asyncio.sleep(BEAT_S)
            for task in self._each_second:
                try:
                    task()
                except Exception:
                    self._link.fault(encode_event(Fault(now_ms(), b"", "", "worker", cut(traceback.format_exc()))))

    def _hear(self) -> None:
        if self._child.hear() is None:
            # The master is gone: nobody would restart what fails from here on.
            asyncio.get_running_loop().remove_reader(self._child.control.fileno())
            print("mta: worker: the master is gone, stopping", file=sys.stderr, flush=True)
            self._drain_s = min(self._drain_s, ORPHAN_S)
            self._stop.set()

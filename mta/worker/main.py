"""The composition root of a worker: makes the loop, the link, both sides of the mail, and ends them in order.

Rule: everything is made here, after the fork; nothing below knows where its parts come from.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable

import uvloop

from mta.accept import Service
from mta.child import BEAT_S, ORPHAN_S, Child
from mta.deliver import Courier, Hosts, MaildirCourier, MaildirWriter, RemoteCourier, RemoteSettings, Router
from mta.link import QueueLink
from mta.policy import Mailboxes
from mta.store import Reader
from mta.worker.dispatch import CourierMaker, Dispatch, FindSite

__all__ = ["main"]

RETRY_S = 0.05
# After the drain the last settlements may take this long to be committed.
SETTLE_S = 2.0


def main(child: Child) -> int:
    """Run until stopped; return the exit code."""
    return uvloop.run(Worker(child).run())


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
        link = QueueLink(config.data_dir, child.number, os.getpid(), config.queue.grace_s, loop)
        maildirs = MaildirWriter(Mailboxes(config.local), config.hostname)
        dispatch = Dispatch(link, await self._open_reader(), self._courier_maker(maildirs), self._find_site())
        ids = await link.start(dispatch)
        service = Service(config, link, ids, loop)
        await service.listen(child.listeners)
        self._each_second = (link.give_up_old, service.sweep)
        # What was made up to here lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
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

    def _courier_maker(self, maildirs: MaildirWriter) -> CourierMaker:
        config = self._config
        loop = asyncio.get_running_loop()
        settings = RemoteSettings(config.hostname, config.deliver, config.path)

        def make(session: int, site: str, hosts: Hosts, report: Dispatch) -> Courier:
            if site == "local":
                return MaildirCourier(session, maildirs, report, loop, config.path.idle_s)
            return RemoteCourier(session, hosts, report, settings, loop)

        return make

    def _find_site(self) -> FindSite:
        router = Router(self._config.local.domains, self._config.route)

        def find(domain: str, route: str) -> tuple[str, Hosts]:
            site = router.resolve(domain, route)
            return site.name, site.hosts

        return find

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
                task()

    def _hear(self) -> None:
        if self._child.hear() is None:
            # The master is gone: nobody would restart what fails from here on.
            asyncio.get_running_loop().remove_reader(self._child.control.fileno())
            print("mta: worker: the master is gone, stopping", file=sys.stderr, flush=True)
            self._drain_s = min(self._drain_s, ORPHAN_S)
            self._stop.set()

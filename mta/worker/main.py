"""The composition root of a worker: makes the loop, the link, both sides of the mail, and ends them in order.

Rule: everything is made here, after the fork; nothing below knows where its parts come from.
"""

import asyncio
import gc
import os
import signal
import traceback
from collections.abc import Callable

import uvloop

from mta.accept import Service
from mta.child import BEAT_S, ORPHAN_S, STAY_S, Child, say
from mta.config import split_bind
from mta.deliver import (
    Courier,
    Dialer,
    MaildirCourier,
    MaildirWriter,
    Own,
    RemoteCourier,
    RemoteSettings,
    Router,
    Ways,
)
from mta.dns import Resolver, system_nameservers
from mta.link import Lease, QueueLink
from mta.message import LOCAL_SITE, now_ms
from mta.policy import Mailboxes
from mta.report import Fault, cut
from mta.report import encode as encode_event
from mta.state import StateLink
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
        say(f"{child.name}: {problem}")
        return 1


class Worker:
    """One worker process."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._config = child.config
        self._drain_s = child.config.process.drain_s
        # Told to end: to stop, or to leave because another has taken over.
        self._told = asyncio.Event()
        self._is_stopping = False
        self._last_places: frozenset[int] = frozenset()
        self._each_second: tuple[Callable[[], None], ...] = ()

    async def run(self) -> int:
        """Serve until told to stop; then let open transactions end, for a while."""
        config, child = self._config, self._child
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_reader(child.control.fileno(), self._hear)
        pulse = loop.create_task(self._beat())
        link = self._link = QueueLink(config.data_dir, child.number, os.getpid(), config.queue.grace_s, loop)
        state = self._state = StateLink(config, os.getpid(), loop)
        state.start()
        maildirs = MaildirWriter(Mailboxes(config.local), config.hostname)
        boot = loop.create_task(self._boot(maildirs))
        told = loop.create_task(self._told.wait())
        await asyncio.wait((boot, told), return_when=asyncio.FIRST_COMPLETED)
        if not boot.done():
            # The queue process is not there, and with it nothing to end in order.
            boot.cancel()
            return 0
        service, dispatch = boot.result()
        child.tell("ready")
        await self._told.wait()
        dispatch.drain()
        if not self._is_stopping:
            await self._make_room(service, dispatch)
        deadline = loop.time() + self._drain_s
        service.drain()
        await self._wait_for(lambda: not service.is_open and not dispatch.n_busy, deadline)
        service.abort()
        dispatch.abort()
        await self._wait_for(lambda: not link.n_pending, deadline + SETTLE_S)
        link.close()
        state.close()
        maildirs.close()
        pulse.cancel()
        return 0

    async def _make_room(self, service: Service, dispatch: Dispatch) -> None:
        """Leave what comes to the one who has taken over, and stay for what was begun; cut short by a stop."""
        loop = asyncio.get_running_loop()
        service.retire(self._last_places)
        # Who was accepted in this very turn is known in the next.
        await asyncio.sleep(RETRY_S)

        def is_over() -> bool:
            return self._is_stopping or not (service.is_open or dispatch.n_busy)

        await self._wait_for(is_over, loop.time() + self._drain_s)
        # Who has not even begun by now is told; who is in the middle may go on.
        service.end_idle()
        await self._wait_for(is_over, loop.time() + STAY_S)

    async def _boot(self, maildirs: MaildirWriter) -> tuple[Service, Dispatch]:
        """Make everything, connect, listen."""
        config = self._config
        loop = asyncio.get_running_loop()
        own = Own(bound.sock.getsockname()[:2] for bound in self._child.listeners)
        nameservers = [split for text in config.dns.nameservers if (split := split_bind(text)) is not None]
        resolver = Resolver(nameservers or system_nameservers(), config.dns.timeout_s, loop)
        router = Router(config.local.domains, config.route)
        ways = Ways(router, resolver, config.hostname, own, config.deliver.port)
        notices = Notices(config.hostname, self._link, config.retry)
        make_courier = self._courier_maker(maildirs, Dialer(config.deliver, resolver, own, loop))
        dispatch = Dispatch(self._link, await self._open_reader(), make_courier, ways, notices)
        await self._link.start(dispatch)
        service = Service(config, self._link, self._state, loop)
        await service.listen(self._child.listeners)
        self._each_second = (self._link.tend, self._state.tend, service.sweep)
        # What was made up to here lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        return service, dispatch

    def _courier_maker(self, maildirs: MaildirWriter, dialer: Dialer) -> CourierMaker:
        config = self._config
        loop = asyncio.get_running_loop()
        settings = RemoteSettings(config.hostname, config.deliver, config.path)

        def make(lease: Lease, report: Dispatch) -> Courier:
            if lease.site == LOCAL_SITE:
                return MaildirCourier(lease.session, maildirs, report, loop, config.path.idle_s)
            return RemoteCourier(lease.session, dialer.dial(lease.hosts, lease.ranks), report, settings, loop)

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

    def _stop(self) -> None:
        self._is_stopping = True
        self._told.set()

    def _hear(self) -> None:
        heard = self._child.hear()
        for word, *rest in heard or ():
            if word == "leave":
                self._last_places = frozenset(rest[0])
                self._told.set()
        if heard is None:
            # The master is gone: nobody would restart what fails from here on.
            asyncio.get_running_loop().remove_reader(self._child.control.fileno())
            say("worker: the master is gone, stopping")
            self._drain_s = min(self._drain_s, ORPHAN_S)
            self._stop()

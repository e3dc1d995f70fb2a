"""Delivering to another host over SMTP: one connection, kept while there is work, driven by `mta.smtp.Client`.

Rule: each network read ends in one turn: report what happened, take what is new, write once. uvloop does not gather
writes, so a second one in the same callback would cost a system call and a packet.

A large mail is written piece by piece, the next one when the last has left for the kernel: the transport's own limits,
64 KiB and a quarter of it, say when. So a slow peer costs one piece of memory, and the pieces of others go out between.

Hosts are tried in order until one greets us and answers EHLO; from then on the session belongs to that host. A host
that fails before that has said nothing about any mail (RFC 5321 s5.1): when the last one failed, the jobs are left over
and the failure is told with `closed`. Nothing is raised to the dispatch; whatever a peer does ends in one `done` or one
place in `closed` per job.

`closed` is told when the connection is gone, at the peer's end too: whoever opens another for it is then not one too
many.
"""

import asyncio
import ipaddress
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import cast

import msgspec

from mta.config import Deliver, Path
from mta.deliver.contract import Job, Report
from mta.deliver.shares import Shares
from mta.message import Hosts, Outcome
from mta.smtp import Client, Done, Over

__all__ = ["RemoteCourier", "RemoteSettings"]

# Up to here one copy is cheaper than handing the pieces to the kernel one by one.
GATHER_OCTETS = 65_536
# How long a peer may take to answer QUIT.
QUIT_S = 1.0
NO_ROUTE = Outcome("deferred", 451, "4.4.4", "no route to this domain", "", "")


class RemoteSettings(msgspec.Struct, frozen=True):
    """What of the configuration a remote courier needs: our name, how to connect, how long to keep a connection."""

    hostname: str
    deliver: Deliver
    path: Path


class Target(msgspec.Struct, frozen=True):
    """One address to connect to, and what the peer there is called in outcomes."""

    remote_mta: str
    address: str
    port: int


class RemoteCourier(asyncio.Protocol):
    """Serves one session: a `Courier`. Begins to connect as soon as the loop runs."""

    def __init__(
        self, session: int, hosts: Hosts, report: Report, settings: RemoteSettings, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._session = session
        self._report = report
        self._settings = settings
        self._loop = loop
        self._hosts = deque(hosts)
        self._targets: deque[Target] = deque()
        self._target = Target("", "", 0)
        self._jobs: deque[Job] = deque()
        self._n_room = settings.path.messages_per_connection
        self._failure = NO_ROUTE
        self._shares = Shares(settings.path.recipients)
        self._client: Client[Job] | None = None
        self._over: Over[Job] | None = None
        self._transport: asyncio.Transport | None = None
        self._is_ready = False
        self._is_closing = False
        self._is_closed = False
        self._is_turning = False
        self._is_full = False
        self._feed_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_at = 0.0
        self._n_unsent = 0
        self._task: asyncio.Task[None] | None = loop.create_task(self._connect())

    # The courier contract.

    def deliver(self, jobs: Sequence[Job]) -> None:
        """Take more jobs. Once `closed` was reported they are not looked at: they are left over."""
        if not self._is_closed:
            self._jobs.extend(jobs)
            self._turn()

    def close(self) -> None:
        """Finish the job under way (and the next, if it was pipelined behind it), then QUIT."""
        if self._client is None or not self._is_ready:
            self.abort()
            return
        self._is_closing = True
        self._jobs.extendleft(reversed(self._client.withdraw()))
        self._turn()

    def abort(self) -> None:
        """End at once."""
        self._is_closing = True
        if self._client is not None and not self._client.is_over:
            self._client.abort()
            self._turn()
        elif self._transport is not None:
            self._transport.abort()
        elif not self._is_turning:
            self._finish()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the greeting."""
        # uvloop's transports are no subclasses of asyncio.Transport, so isinstance cannot tell.
        self._transport = transport = cast(asyncio.Transport, transport)
        if self._is_closed:
            transport.abort()
            return
        self._client = Client(self._settings.hostname, self._target.remote_mta, self._settings.deliver)
        self._n_unsent = 0
        self._is_full = False
        self._arm(self._client.timeout_s)

    def data_received(self, data: bytes) -> None:
        """Take one network read."""
        if self._client is None:
            return
        if not self._client.is_over:
            self._client.receive(data)
            self._turn()
        elif self._transport is not None:
            # Most likely 221; whatever else it is, nobody wants it any more.
            self._transport.close()

    def pause_writing(self) -> None:
        """The peer takes no more for now."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It has taken what there was."""
        self._is_full = False
        self._feed_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: the session ends, or the next host is tried."""
        self._transport = None
        if self._is_closed or self._client is None:
            return
        if not self._client.is_over:
            self._client.lost("lost connection")
            self._turn()
        elif self._is_ready or self._is_closing:
            self._finish()
        if not self._is_closed:
            self._client = None
            self._task = self._loop.create_task(self._connect())

    # One turn.

    def _turn(self) -> None:
        """Report, take, write. Called from inside a report it does nothing: the turn under way sees what is new."""
        client = self._client
        if client is None or self._is_turning or self._is_closed:
            return
        self._is_turning = True
        try:
            over = self._work(client)
        finally:
            self._is_turning = False
        output = client.output()
        if over is None:
            self._write(output)
            self._arm(client.timeout_s or self._settings.path.idle_s)
            if client.is_sending:
                self._feed_soon()
            return
        self._over, self._failure = over, over.outcome
        self._hang_up(output)
        # Otherwise connection_lost ends it, or goes on to the next host.
        if self._transport is None and (self._is_ready or self._is_closing):
            self._finish()

    def _feed_soon(self) -> None:
        """Write the next piece of a large mail after whatever else is ready to run, unless there is no room."""
        if not self._feed_is_due and not self._is_full:
            self._feed_is_due = True
            self._loop.call_soon(self._feed)

    def _feed(self) -> None:
        self._feed_is_due = False
        client = self._client
        if client is not None and not self._is_full and client.is_sending:
            client.send_more()
            self._turn()

    def _work(self, client: Client[Job]) -> Over[Job] | None:
        """Hand over jobs and report events until there are no more of either; return how the session ended, if so."""
        over: Over[Job] | None = None
        while True:
            if self._is_ready and not client.is_over:
                while self._jobs and self._n_room and not self._is_closing:
                    self._n_room -= 1
                    for letter in self._shares.cut(self._jobs.popleft()):
                        client.deliver(letter)
                if client.is_idle and (self._is_closing or not self._n_room):
                    client.quit()
            events = client.events()
            if not events:
                return over
            for event in events:
                if isinstance(event, Done):
                    self._done(client, event)
                elif isinstance(event, Over):
                    over = event
                else:
                    self._is_ready = True
                    self._report.greeted(self._session)

    def _done(self, client: Client[Job], event: Done[Job]) -> None:
        job, outcomes, rest = self._shares.done(event.letter, event.outcomes)
        if job is not None:
            self._report.done(job, outcomes)
        elif rest is not None and not client.is_over:
            client.deliver(rest)

    def _write(self, output: list[bytes]) -> None:
        if self._transport is None or not output:
            return
        if len(output) == 1 or sum(map(len, output)) <= GATHER_OCTETS:
            self._transport.write(b"".join(output))
        else:
            self._transport.writelines(output)

    def _hang_up(self, output: list[bytes]) -> None:
        """Close the connection, after QUIT if that is what `output` holds."""
        if self._transport is None:
            return
        # A peer that answered without reading the mail would keep a connection that still has octets to send open.
        if output and not self._transport.get_write_buffer_size():
            self._write(output)
            self._arm(QUIT_S)
        else:
            self._transport.abort()

    def _finish(self) -> None:
        """The session is over: tell it, once."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        over = self._over
        is_hosts_fault = over is None or over.is_hosts_fault
        failure = self._failure if is_hosts_fault and not self._is_closing and self._failure is not NO_ROUTE else None
        left, reports = self._shares.left(over.left if over is not None else (), self._failure)
        for job, outcomes in reports:
            self._report.done(job, outcomes)
        rest = (*left, *self._jobs)
        self._jobs.clear()
        self._report.closed(self._session, rest, failure)

    # Time. One timer, which is moved only when it would come too late: most turns cost an addition.

    def _arm(self, timeout_s: float) -> None:
        """Let the peer be silent, or the connection idle, for `timeout_s` from now."""
        self._deadline_at = deadline_at = self._loop.time() + timeout_s
        if self._timer is not None:
            if self._timer.when() <= deadline_at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline_at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        client = self._client
        if client is None or self._transport is None:
            return
        if client.is_over:
            self._transport.close()
            return
        n_unsent = self._transport.get_write_buffer_size()
        if n_unsent != self._n_unsent:
            # The peer is silent because it is still taking a long mail.
            self._n_unsent = n_unsent
            self._arm(client.timeout_s or self._settings.path.idle_s)
        elif self._loop.time() < self._deadline_at:
            self._timer = self._loop.call_at(self._deadline_at, self._ring)
        elif client.timeout_s:
            client.lost("time-out in the conversation")
            self._turn()
        else:
            self._is_closing = True
            self._turn()

    # Connecting.

    async def _connect(self) -> None:
        """Connect to the next address that answers; when there is none, every job is deferred."""
        while not self._is_closed:
            if self._targets:
                self._target = self._targets.popleft()
                if await self._reach(self._target):
                    return
            elif self._hosts:
                await self._resolve(*self._hosts.popleft())
            else:
                break
        self._task = None
        while self._jobs and self._failure is NO_ROUTE:
            job = self._jobs.popleft()
            self._report.done(job, [(number, NO_ROUTE) for number, _ in job.recipients])
        self._finish()

    async def _resolve(self, host: str, port: int) -> None:
        """Add the addresses of `host` to the targets."""
        try:
            self._targets.append(Target(f"[{ipaddress.ip_address(host)}]", host, port))
        except ValueError:
            try:
                async with asyncio.timeout(self._settings.deliver.connect_timeout_s):
                    rows = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            # ValueError: a name that no encoding can carry.
            except (OSError, ValueError) as error:
                self._fail(host, f"cannot resolve {host}: {describe(error)}")
                return
            addresses = dict.fromkeys(str(row[4][0]) for row in rows)
            self._targets.extend(Target(f"{host} [{address}]", address, port) for address in addresses)

    async def _reach(self, target: Target) -> bool:
        """Connect; True when the transport has taken over, even if the connection is lost again by now."""
        settings = self._settings.deliver
        source = settings.source_ipv6 if ":" in target.address else settings.source_ipv4
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                await self._loop.create_connection(
                    lambda: self, target.address, target.port, local_addr=(source, 0) if source else None
                )
        except (OSError, ValueError) as error:
            if self._client is None:
                self._fail(target.remote_mta, f"cannot connect to {target.remote_mta}:{target.port}: {describe(error)}")
        return self._client is not None

    def _fail(self, remote_mta: str, reason: str) -> None:
        self._failure = Outcome("deferred", 451, "4.4.1", reason, remote_mta, "")


def describe(error: Exception) -> str:
    """Return the words for a failed connection, without numbers and addresses."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return str(error)

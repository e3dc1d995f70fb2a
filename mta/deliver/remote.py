"""Delivering to another host over SMTP: one connection, kept while there is work, driven by `mta.smtp.Client`.

Rule: each network read ends in one turn: report what happened, take what is new, write once. uvloop does not gather
writes, so a second one in the same callback would cost a system call and a packet.

A large mail is written piece by piece, the next one when the last has left for the kernel: the transport's own limits,
64 KiB and a quarter of it, say when. So a slow peer costs one piece of memory, and the pieces of others go out between.

Hosts are tried in order until one has done something about a letter (RFC 5321 s5.1). That a host does not greet us,
greets us with 4xx or 5xx, or says 421 is nothing about any mail: when the last one failed so, the jobs are left over
and the failure is told with `closed`. Once a host works the session belongs to it; a letter that it cannot take goes on
to the next host behind the others (`workload`, `detour`). Nothing is raised to the dispatch; whatever a peer does ends
in one `done` or one place in `closed` per job.

`closed` is told when the connection is gone, at the peer's end too: whoever opens another for it is then not one too
many.
"""

import asyncio
import fcntl
import sys
import termios
from collections.abc import Sequence
from typing import cast

import msgspec

from mta.config import Deliver, Path
from mta.deliver.contract import Job, Report
from mta.deliver.dial import Dial
from mta.deliver.workload import Workload
from mta.smtp import Client, Done, Over, TryNext

__all__ = ["RemoteCourier", "RemoteSettings"]

# Up to here one copy is cheaper than handing the pieces to the kernel one by one.
GATHER_OCTETS = 65_536
# How long a peer may take to answer QUIT.
QUIT_S = 1.0


class RemoteSettings(msgspec.Struct, frozen=True):
    """What of the configuration a remote courier needs: our name, how to connect, how long to keep a connection."""

    hostname: str
    deliver: Deliver
    path: Path


class RemoteCourier:
    """Serves one session: a `Courier`. Begins to connect as soon as the loop runs.

    An `asyncio.Protocol` by its methods: a compiled class cannot have a base that is not.
    """

    def __init__(
        self, session: int, dial: Dial, report: Report, settings: RemoteSettings, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._load = Workload(session, report, settings.path)
        self._settings = settings
        self._loop = loop
        self._dial = dial
        self._client: Client | None = None
        self._over: Over[Job] | None = None
        self._transport: asyncio.Transport | None = None
        self._is_made = False
        self._is_ready = False
        self._is_closing = False
        self._is_closed = False
        self._is_turning = False
        self._is_full = False
        self._feed_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_at = 0.0
        self._n_unsent = 0
        self._n_replies = 0
        self._task: asyncio.Task[None] | None = loop.create_task(self._connect())

    # The courier contract.

    def deliver(self, jobs: Sequence[Job]) -> None:
        """Take more jobs. Once `closed` was reported they are not looked at: they are left over."""
        if not self._is_closed:
            self._load.add(jobs)
            self._turn()

    def close(self) -> None:
        """Finish the job under way (and the next, if it was pipelined behind it), then QUIT."""
        if self._client is None or not self._is_ready:
            self.abort()
            return
        self._is_closing = True
        self._load.put_back(self._client.withdraw())
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
        self._is_made = True
        self._note_failure()
        if self._is_closed:
            transport.abort()
            return
        self._client = Client(self._settings.hostname, self._dial.target.remote_mta, self._settings.deliver)
        self._over = None
        self._is_ready = False
        self._n_unsent = self._n_replies = 0
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

    def eof_received(self) -> None:
        """Let the transport close: a peer that says nothing more takes nothing more."""

    def pause_writing(self) -> None:
        """The peer takes no more for now."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It has taken what there was."""
        self._is_full = False
        self._feed_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: the next host is tried, or the session ends."""
        self._transport = None
        if self._is_closed or self._client is None:
            return
        if not self._client.is_over:
            self._client.lost("lost connection")
            self._turn()
        elif self._over is not None:
            self._go_on(self._over)

    def _go_on(self, over: Over[Job]) -> None:
        self._client = None
        if self._load.over(over) and self._dial.has_more and not self._is_closing:
            self._task = self._loop.create_task(self._connect())
        else:
            self._finish()

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
            # RFC 5321 s4.5.3.2: the time is that of a whole reply, or one could come drop by drop for days.
            if output or client.n_replies != self._n_replies:
                self._n_replies = client.n_replies
                self._arm(client.timeout_s or self._settings.path.idle_s)
            if client.is_sending:
                self._feed_soon()
            return
        self._over = over
        if self._transport is None:
            self._go_on(over)
        else:
            # Then connection_lost goes on.
            self._hang_up(output)

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

    def _work(self, client: Client) -> Over[Job] | None:
        """Hand over letters and report events until there are no more of either; return how the session ended."""
        over: Over[Job] | None = None
        while True:
            if self._is_ready and not client.is_over and not self._is_closing:
                for letter in self._load.letters():
                    client.deliver(letter)
            events = client.events()
            for event in events:
                if isinstance(event, TryNext):
                    self._load.try_next(event, has_more=self._dial.has_more)
                elif isinstance(event, Done):
                    rest = self._load.done(event.letter, event.outcomes)
                    if rest is not None and not client.is_over:
                        client.deliver(rest)
                elif isinstance(event, Over):
                    over = event
                else:
                    self._is_ready = True
                    for letter in self._load.greeted():
                        client.deliver(letter)
            if events:
                continue
            if not self._is_ready or client.is_over or not client.is_idle:
                return over
            if not self._is_closing and not self._load.is_spent:
                return over
            client.quit()

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
        self._load.finish(was_ended=self._is_closing)

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
        n_unsent = n_on_the_way(self._transport)
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
        self._is_made = False
        if not await self._dial.connect(cast(asyncio.Protocol, self), lambda: self._is_made):
            self._note_failure()
            self._task = None
            self._finish()

    def _note_failure(self) -> None:
        """Remember that hosts on the way to this one could not be reached."""
        if self._dial.failure is not None:
            self._load.failed(self._dial.failure)


def n_on_the_way(transport: asyncio.Transport) -> int:
    """Return the octets that the peer has not acknowledged yet. The kernel alone may hold some MB, which a slow line
    takes longer for than for the reply."""
    n_octets = bytearray(4)
    # SIOCOUTQ of tcp(7) has the same number.
    fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, n_octets)
    return transport.get_write_buffer_size() + int.from_bytes(n_octets, sys.byteorder)

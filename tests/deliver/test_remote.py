"""Remote delivery over real sockets: scripted peers in the same loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
import uvloop

from mta.config import Deliver, Path
from mta.deliver import Dialer, Job, Own, RemoteCourier, RemoteSettings
from mta.dns import Resolver
from mta.message import Hosts, Outcome

BODY = b"Subject: x\r\n\r\n.dot\r\nend\r\n"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Ledger:
    """A report that remembers, and checks that every job is told once and nothing after the end."""

    def __init__(self) -> None:
        self.fates: dict[bytes, Sequence[tuple[int, Outcome]]] = {}
        self.left: list[bytes] | None = None
        self.failure: Outcome | None = None
        self.n_greeted = 0
        self.ended = asyncio.Event()
        self.on_done: Callable[[], None] | None = None

    def done(self, job: Job, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        assert job.part not in self.fates
        assert self.left is None
        assert [number for number, _ in outcomes] == [number for number, _ in job.recipients]
        self.fates[job.part] = outcomes
        if self.on_done is not None:
            self.on_done()

    def greeted(self, session: int) -> None:
        assert session == 7
        assert self.left is None
        self.n_greeted += 1
        assert self.n_greeted == 1

    def closed(self, session: int, left: Sequence[Job], failure: Outcome | None) -> None:
        assert session == 7
        self.failure = failure
        assert self.left is None
        self.left = [job.part for job in left]
        assert not self.fates.keys() & set(self.left)
        self.ended.set()

    def one(self) -> Outcome:
        """Return the outcome of the only recipient of the only job."""
        ((outcomes),) = self.fates.values()
        ((_, outcome),) = outcomes
        return outcome


class Server:
    """An SMTP server that takes everything; `replies` replaces what it says to a verb, None hangs up.

    After `n_mails` mails it hangs up too.
    """

    def __init__(
        self,
        offers: Sequence[str] = ("PIPELINING",),
        replies: Mapping[str, str | None] | None = None,
        n_mails: int = 1000,
    ) -> None:
        self._n_mails = n_mails
        self.mails: list[bytes] = []
        self.lines: list[bytes] = []
        self.peers: list[str] = []
        self.n_connections = 0
        ehlo = "\r\n".join(f"250-{offer}" for offer in ("x", *offers)) + "\r\n250 HELP"
        self._replies: dict[str, str | None] = {"CONNECT": "220 x", "EHLO": ehlo, "DATA": "354 go", "QUIT": "221 bye"}
        self._replies.update(replies or {})

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        self.peers.append(writer.get_extra_info("peername")[0])
        if not await self._say(writer, "CONNECT"):
            return
        while line := await reader.readline():
            self.lines.append(line.strip())
            verb = line[:4].decode().upper().strip()
            if not await self._say(writer, verb):
                return
            if verb == "DATA" and self._replies["DATA"] == "354 go":
                self.mails.append(await reader.readuntil(b"\r\n.\r\n"))
                if not await self._say(writer, "DOT") or len(self.mails) == self._n_mails:
                    return

    async def _say(self, writer: asyncio.StreamWriter, verb: str) -> bool:
        reply = self._replies.get(verb, "250 ok")
        if reply is not None:
            writer.write(reply.encode() + b"\r\n")
            await writer.drain()
        return reply is not None and verb != "QUIT"


@asynccontextmanager
async def listening(talk: Talk, host: str = "127.0.0.1") -> AsyncIterator[tuple[str, int]]:
    """Run a server; yields (host, port). Each connection is closed when `talk` returns or breaks off."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            tasks.discard(task)

    sock = socket.create_server((host, 0))
    # Small, so that a long mail does not fit into the kernel's buffers.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    server = await asyncio.start_server(serve, sock=sock, limit=1 << 20)
    try:
        yield host, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if tasks:
            await asyncio.wait(tasks, timeout=0.1)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
        await server.wait_closed()


def job(number: int = 0, body: bytes = BODY, n_recipients: int = 1, has_8bit: bool = False) -> Job:
    recipients = tuple((n, f"r{number}.{n}@y.example") for n in range(n_recipients))
    return Job(b"%018d" % number, 0, "a@x.example", recipients, len(body), has_8bit, False, 1, lambda _: body)


def courier(hosts: Hosts, ledger: Ledger, deliver: Deliver | None = None, path: Path | None = None) -> RemoteCourier:
    settings = RemoteSettings("h.example", deliver or Deliver(), path or Path(idle_s=0.05))
    loop = asyncio.get_running_loop()
    dialer = Dialer(settings.deliver, Resolver((), 1.0, loop), Own(()), loop)
    return RemoteCourier(7, dialer.dial(hosts), ledger, settings, loop)


async def run(hosts: Hosts, jobs: Sequence[Job], deliver: Deliver | None = None, path: Path | None = None) -> Ledger:
    """Let a courier deliver `jobs` and return what it reported, once it is closed."""
    ledger = Ledger()
    courier(hosts, ledger, deliver, path).deliver(jobs)
    async with asyncio.timeout(20):
        await ledger.ended.wait()
    return ledger


@pytest.mark.parametrize("offers", [("PIPELINING", "SIZE 9999"), ()], ids=["pipelining", "plain"])
def test_remote_courier_many_jobs_go_over_one_connection_that_quits_when_idle(offers: tuple[str, ...]) -> None:
    async def main() -> None:
        server = Server(offers)
        async with listening(server) as host:
            ledger = await run((host,), [job(n) for n in range(50)])
        assert ledger.left == []
        assert {fate[0][1].status for fate in ledger.fates.values()} == {"delivered"}
        assert server.mails == [BODY.replace(b"\r\n.", b"\r\n..") + b".\r\n"] * 50
        assert server.n_connections == 1
        assert server.lines[-1] == b"QUIT"
        assert ledger.fates[job(0).part][0][1] == Outcome("delivered", 250, "2.0.0", "accepted", "[127.0.0.1]", "ok")

    uvloop.run(main())


@pytest.mark.parametrize(
    ("replies", "status", "enhanced"),
    [
        ({"MAIL": "550 5.1.8 no", "RCPT": "503 x", "DATA": "503 x"}, "bounced", "5.1.8"),
        ({"MAIL": None}, "deferred", "4.4.2"),
        ({"RCPT": "450 4.2.1 no", "DATA": "554 x"}, "deferred", "4.2.1"),
        ({"RCPT": None}, "deferred", "4.4.2"),
        ({"DOT": "552 5.3.4 x"}, "bounced", "5.3.4"),
        ({"DOT": None}, "deferred", "4.4.2"),
        ({"DOT": "garbage"}, "deferred", "4.5.0"),
    ],
)
def test_remote_courier_fault_at_each_stage_becomes_an_outcome(
    replies: dict[str, str | None], status: str, enhanced: str
) -> None:
    async def main() -> None:
        async with listening(Server(replies=replies)) as host:
            ledger = await run((host,), [job()])
        assert ledger.left == []
        assert ledger.failure is None
        assert (ledger.one().status, ledger.one().enhanced) == (status, enhanced)

    uvloop.run(main())


@pytest.mark.parametrize(
    ("replies", "enhanced", "n_greeted"),
    [
        ({"CONNECT": "554 5.7.1 no"}, "5.7.1", 0),
        ({"CONNECT": "421 4.3.2 busy"}, "4.3.2", 0),
        ({"CONNECT": None}, "4.4.2", 0),
        ({"EHLO": None}, "4.4.2", 0),
        ({"EHLO": "421 4.3.2 busy"}, "4.3.2", 0),
        # It said who it is, took us, and then would not have us.
        ({"MAIL": "421 4.3.2 x"}, "4.3.2", 1),
        ({"RCPT": "421 4.3.2 x"}, "4.3.2", 1),
        ({"DATA": "421 4.3.2 x"}, "4.3.2", 1),
    ],
)
def test_remote_courier_failure_of_the_host_leaves_every_job_and_is_told_once(
    replies: dict[str, str | None], enhanced: str, n_greeted: int
) -> None:
    async def main() -> None:
        async with listening(Server(replies=replies)) as host:
            ledger = await run((host,), [job(n) for n in range(3)])
        assert ledger.fates == {}
        assert ledger.left == [job(n).part for n in range(3)]
        assert ledger.failure is not None
        assert (ledger.failure.status, ledger.failure.enhanced) == ("deferred", enhanced)
        assert ledger.failure.remote_mta == "[127.0.0.1]"
        assert ledger.n_greeted == n_greeted

    uvloop.run(main())


@pytest.mark.parametrize(
    ("hosts", "enhanced", "reason"),
    [
        ((("127.0.0.1", 1),), "4.4.1", "cannot connect to [127.0.0.1]:1: Connection refused"),
        ((("name..invalid", 25),), "4.4.3", "cannot resolve name..invalid: "),
    ],
)
def test_remote_courier_no_host_reachable_leaves_every_job(hosts: Hosts, enhanced: str, reason: str) -> None:
    async def main() -> None:
        ledger = await run(hosts, [job(0), job(1, n_recipients=2)])
        assert ledger.fates == {}
        assert ledger.left == [job(0).part, job(1).part]
        assert ledger.failure is not None
        assert (ledger.failure.status, ledger.failure.enhanced) == ("deferred", enhanced)
        assert ledger.failure.reason.startswith(reason)
        assert ledger.n_greeted == 0

    uvloop.run(main())


def test_remote_courier_no_host_at_all_defers_every_job() -> None:
    async def main() -> None:
        ledger = await run((), [job(0), job(1, n_recipients=2)])
        assert (ledger.left, ledger.failure) == ([], None)
        assert len(ledger.fates) == 2
        outcome = ledger.fates[job(0).part][0][1]
        assert (outcome.status, outcome.enhanced, outcome.reason) == ("deferred", "4.4.4", "no route to this domain")

    uvloop.run(main())


def test_remote_courier_host_that_does_not_welcome_us_is_followed_by_the_next() -> None:
    async def main() -> None:
        good = Server()
        async with (
            listening(Server(replies={"CONNECT": "421 4.3.2 busy"})) as busy,
            listening(Server(replies={"EHLO": None})) as broken,
            listening(good) as host,
        ):
            ledger = await run((("127.0.0.1", 1), busy, broken, host), [job(0), job(1)])
        assert len(good.mails) == 2
        assert (ledger.n_greeted, ledger.failure) == (1, None)
        assert {fate[0][1].status for fate in ledger.fates.values()} == {"delivered"}

    uvloop.run(main())


def test_remote_courier_name_is_resolved_and_shown_with_its_address() -> None:
    async def main() -> None:
        async with listening(Server()) as (_, port):
            ledger = await run((("localhost", port),), [job()])
        assert ledger.one().status == "delivered"
        assert ledger.one().remote_mta == "localhost [127.0.0.1]"

    uvloop.run(main())


def test_remote_courier_source_address_is_bound() -> None:
    async def main() -> None:
        server = Server()
        async with listening(server) as host:
            await run((host,), [job()], Deliver(source_ipv4="127.0.0.9"))
        assert server.peers == ["127.0.0.9"]

    uvloop.run(main())


def test_remote_courier_full_connection_quits_and_leaves_the_rest() -> None:
    async def main() -> None:
        server = Server()
        async with listening(server) as host:
            ledger = await run((host,), [job(n) for n in range(5)], path=Path(messages_per_connection=3))
        assert sorted(ledger.fates) == [job(n).part for n in range(3)]
        assert ledger.left == [job(3).part, job(4).part]

    uvloop.run(main())


@pytest.mark.parametrize("offers", [("PIPELINING",), ()], ids=["pipelining", "plain"])
def test_remote_courier_peer_that_ends_after_each_mail_leaves_the_rest(offers: tuple[str, ...]) -> None:
    async def main() -> None:
        async with listening(Server(offers, n_mails=1)) as host:
            ledger = await run((host,), [job(n) for n in range(4)])
        assert [fate[0][1].status for fate in ledger.fates.values()] == ["delivered"]
        assert ledger.left == [job(n).part for n in range(1, 4)]

    uvloop.run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_remote_courier_ended_from_inside_a_report_reports_every_job(how: str) -> None:
    async def main() -> None:
        server = Server()
        async with listening(server) as host:
            ledger = Ledger()
            ours = courier((host,), ledger)
            ledger.on_done = ours.close if how == "close" else ours.abort
            ours.deliver([job(n) for n in range(6)])
            async with asyncio.timeout(5):
                await ledger.ended.wait()
            ours.deliver([job(9)])
        assert ledger.left is not None
        assert len(ledger.fates) + len(ledger.left) == 6
        assert (server.lines[-1] == b"QUIT") == (how == "close")

    uvloop.run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_remote_courier_ended_before_it_is_connected_leaves_all(how: str) -> None:
    async def main() -> None:
        async with listening(Server()) as host:
            ledger = Ledger()
            ours = courier((host,), ledger)
            ours.deliver([job(0), job(1)])
            getattr(ours, how)()
            assert ledger.left == [job(0).part, job(1).part]
            await asyncio.sleep(0.05)
        assert ledger.fates == {}

    uvloop.run(main())


def test_remote_courier_report_that_gives_a_new_job_keeps_the_connection_busy() -> None:
    async def main() -> None:
        server = Server()
        async with listening(server) as host:
            ledger = Ledger()
            ours = courier((host,), ledger)
            more = [job(n) for n in range(1, 30)]
            ledger.on_done = lambda: ours.deliver([more.pop()]) if more else ours.close()
            ours.deliver([job(0)])
            async with asyncio.timeout(5):
                await ledger.ended.wait()
        assert len(ledger.fates) == 30
        assert server.n_connections == 1

    uvloop.run(main())

"""Remote delivery of mails that come in pieces: to slow peers, to impatient ones, and with what follows behind."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
import uvloop

from mta.config import Deliver
from mta.deliver import Job
from tests.deliver.test_remote import Ledger, Server, courier, job, listening, run

PIECE = (b"x" * 62 + b"\r\n") * 16_384
N_PIECES = 8
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class Large:
    """A mail in pieces that knows how far it was read."""

    def __init__(self, n_pieces: int = N_PIECES) -> None:
        self.n_read = 0
        self.job: Job = msgspec.structs.replace(job(0), octets=len(PIECE) * n_pieces, n_pieces=n_pieces, read=self.read)

    def read(self, number: int) -> bytes:
        assert number == self.n_read
        self.n_read += 1
        return PIECE


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Give what runs a scenario on one of the event loops."""

    def go(scenario: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(scenario, 30))

    return go


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, ready: bool = True) -> None:
    """Take a transaction up to the 354."""
    writer.write(b"220 x\r\n")
    await reader.readline()
    writer.write(b"250-x\r\n250 PIPELINING\r\n")
    for _ in range(3):
        await reader.readline()
    writer.write(b"250 a\r\n250 b\r\n354 go\r\n")


def test_remote_courier_slow_peer_is_not_read_ahead_of(play: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    large = Large()
    most_ahead = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most_ahead
        await greet(reader, writer)
        n_got, end = 0, b""
        while not end.endswith(b"\r\n.\r\n"):
            data = await reader.read(65_536)
            n_got += len(data)
            end = (end + data)[-5:]
            most_ahead = max(most_ahead, large.n_read * len(PIECE) - n_got)
            await asyncio.sleep(0.001)
        assert n_got == len(PIECE) * N_PIECES + 3
        writer.write(b"250 ok\r\n")
        await reader.read()

    async def main() -> None:
        async with listening(talk) as host:
            ledger = await run((host,), [large.job])
        assert ledger.one().status == "delivered"
        assert large.n_read == N_PIECES
        # What both kernels and the peer's own reader hold is beyond us; most of the mail has to wait all the same.
        assert most_ahead < (N_PIECES - 2) * len(PIECE)

    play(main())


def test_remote_courier_large_mails_and_small_ones_take_turns(
    play: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    async def main() -> None:
        larges = [Large(3), Large(2)]
        jobs = [job(1), larges[0].job, job(2), msgspec.structs.replace(larges[1].job, part=job(3).part), job(4)]
        server = Server()
        sizes: list[int] = []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reader._limit = 1 << 26  # type: ignore[attr-defined]
            await server(reader, writer)

        async with listening(talk) as host:
            ledger = await run((host,), jobs)
        sizes = [len(mail) for mail in server.mails]
        assert [size > 1000 for size in sizes] == [False, True, False, True, False]
        assert (sizes[1], sizes[3]) == (3 * len(PIECE) + 3, 2 * len(PIECE) + 3)
        assert {outcome.status for fates in ledger.fates.values() for _, outcome in fates} == {"delivered"}

    play(main())


def test_remote_courier_early_refusal_ends_the_session_and_leaves_the_next_mail(
    play: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    large = Large(64)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await reader.readexactly(len(PIECE))
        writer.write(b"552 5.3.4 enough\r\n")
        # It reads on, as it should: we must not.
        while await reader.read(65_536):
            pass

    async def main() -> None:
        async with listening(talk) as host:
            ledger = await run((host,), [large.job, job(1)])
        assert (ledger.one().status, ledger.one().enhanced) == ("bounced", "5.3.4")
        assert ledger.left == [job(1).part]
        assert large.n_read < 64

    play(main())


def test_remote_courier_slow_but_steady_peer_is_given_time(play: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        end = b""
        while not end.endswith(b"\r\n.\r\n"):
            end = (end + await reader.read(65_536))[-5:]
            # All of it takes longer than the time-out, no part of it does.
            await asyncio.sleep(0.01)
        writer.write(b"250 ok\r\n")
        await reader.read()

    async def main() -> None:
        async with listening(talk) as host:
            limits = Deliver(command_timeout_s=0.5, data_done_timeout_s=0.5)
            ledger = await run((host,), [Large(12).job], limits)
        assert ledger.one().status == "delivered"

    play(main())


def test_remote_courier_peer_that_stops_reading_is_timed_out(
    play: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(5)

    async def main() -> None:
        async with listening(talk) as host:
            ledger = Ledger()
            courier((host,), ledger, Deliver(command_timeout_s=0.3)).deliver([Large(64).job])
            async with asyncio.timeout(5):
                await ledger.ended.wait()
        assert ledger.one().status == "deferred"
        assert "time-out" in ledger.one().reason

    play(main())

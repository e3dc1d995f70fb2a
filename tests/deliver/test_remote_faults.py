"""Remote delivery to peers that are slow, silent or hostile: every job is reported once, whatever they do."""

import asyncio
import random

import pytest
import uvloop

from mta.config import Deliver
from mta.deliver import Job
from mta.smtp import POSSIBLE_REPEAT
from tests.deliver.test_remote import Server, job, listening, run
from tests.harness import BODY, HELLO, MAIL, SILENCE, C, Drip, Pause, Peer, Read, Step


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "RCPT", "DOT"])
def test_remote_courier_silent_peer_times_out(verb: str) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = Server((), {verb: None})
        await server(reader, writer)
        await asyncio.sleep(30)

    async def main() -> None:
        async with listening(silent) as host:
            limits = Deliver(command_timeout_s=0.1, data_done_timeout_s=0.2)
            ledger = await run((host,), [job()], limits)
        is_hosts_fault = verb in ("CONNECT", "EHLO")
        assert (ledger.left == [job().part], ledger.failure is not None) == (is_hosts_fault, is_hosts_fault)
        outcome = ledger.failure or ledger.one()
        assert (outcome.status, outcome.enhanced) == ("deferred", "4.4.2")
        reason = outcome.reason.removeprefix(POSSIBLE_REPEAT)
        assert (reason != outcome.reason) == (verb == "DOT")
        assert reason.startswith("time-out in the conversation with [127.0.0.1] while ")

    uvloop.run(main())


def test_remote_courier_peer_that_takes_a_long_mail_slowly_does_not_time_out() -> None:
    body = (b"y" * 1022 + b"\r\n") * 16_000

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        await reader.readline()
        writer.write(b"250-x\r\n250 PIPELINING\r\n")
        for _ in range(3):
            await reader.readline()
        writer.write(b"250 a\r\n250 b\r\n354 c\r\n")
        n_read = 0
        while n_read < len(body) + 3:
            n_read += len(await reader.read(1 << 20))
            await asyncio.sleep(0.03)
        writer.write(b"250 took it\r\n")
        await reader.read()

    async def main() -> None:
        async with listening(slow) as host:
            ledger = await run((host,), [job(0, body)], Deliver(command_timeout_s=5, data_done_timeout_s=0.2))
        assert ledger.one().status == "delivered"

    uvloop.run(main())


@pytest.mark.parametrize("problem", [LookupError("gone"), OSError(5, "no")])
@pytest.mark.parametrize("offers", [(), ("PIPELINING",)])
def test_remote_courier_body_that_cannot_be_read_defers_that_job_and_sends_nothing(
    problem: Exception, offers: tuple[str, ...]
) -> None:
    def missing(_: int) -> bytes:
        raise problem

    async def main() -> None:
        faults: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        gone = Job(job(0).part, 0, "a@x.example", job(0).recipients, 9, False, False, 1, missing)
        server = Server(offers)
        async with listening(server) as host:
            ledger = await run((host,), [gone, job(1)])
        assert (ledger.one().status, ledger.one().enhanced) == ("deferred", "4.3.0")
        assert ledger.one().reason.startswith("the message cannot be read")
        assert ledger.left == [job(1).part]
        assert server.mails == []
        assert faults == []

    uvloop.run(main())


WORDS = [
    b"220 x",
    b"250 x",
    b"250-PIPELINING\r\n250 8BITMIME",
    b"354 x",
    b"421 x",
    b"450 4.1.1 x",
    b"550 x",
    b"xx",
    b"",
]


@pytest.mark.parametrize("seed", range(60))
def test_remote_courier_peer_that_says_anything_ends_in_one_report_per_job(seed: int) -> None:
    chance = random.Random(seed)

    async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        if seed % 2:
            await reader.read(100)
            writer.write(b"250-x\r\n250 PIPELINING\r\n")
        for _ in range(chance.randrange(12)):
            await reader.read(chance.choice([100, 65536]))
            weights = [1, 9, 2, 5, 1, 2, 2, 1, 1]
            for word in chance.choices(WORDS, weights, k=chance.randrange(1, 4)):
                writer.write(word + b"\r\n")

    async def main() -> None:
        faults: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        async with listening(hostile) as host:
            jobs = [job(n, n_recipients=1 + n % 3, has_8bit=n == 4) for n in range(6)]
            ledger = await run((host,), jobs, Deliver(command_timeout_s=0.2, data_done_timeout_s=0.2))
        assert ledger.left is not None
        assert sorted([*ledger.fates, *ledger.left]) == [job.part for job in jobs]
        assert faults == []

    uvloop.run(main())


# Time: RFC 5321 s4.5.3.2.


@pytest.mark.parametrize("begin", [[], HELLO[:2], [*HELLO, C("MAIL")], [*HELLO, *MAIL[:-1]]], ids=range(4))
def test_remote_courier_reply_that_never_ends_times_out(begin: list[Step]) -> None:
    """Drop by drop, each in time: it is the whole reply that has a time."""
    code = b"220" if not begin else b"250"
    drops = Drip((code + b"-" + b"x" * 20 + b"\r\n") * 90, 0.02)
    limits = Deliver(command_timeout_s=0.4, data_done_timeout_s=0.4)

    async def main() -> None:
        ledger = await run((peer.host,), [job()], limits)
        outcome = ledger.failure or ledger.one()
        assert (outcome.status, outcome.enhanced) == ("deferred", "4.4.2")
        assert "time-out in the conversation" in outcome.reason

    with Peer([*begin, drops, SILENCE]) as peer:
        uvloop.run(main())


def test_remote_courier_peer_that_answers_octet_by_octet_is_understood() -> None:
    def slowly(step: Step) -> Step:
        return Drip(step.replace("\n", "\r\n").encode() + b"\r\n", 0.001) if isinstance(step, str) else step

    async def main() -> None:
        ledger = await run((peer.host,), [job(0), job(1)], Deliver(command_timeout_s=5))
        assert [rows[0][1].status for rows in ledger.fates.values()] == ["delivered"] * 2

    with Peer([slowly(step) for step in [*HELLO, *MAIL, *MAIL]]) as peer:
        uvloop.run(main())
    assert len(peer.mails) == 2


def test_remote_courier_peer_that_reads_octet_by_octet_gets_its_mail() -> None:
    slow: list[Step] = [*HELLO, C("MAIL"), "250 ok", C("RCPT"), "250 ok", C("DATA"), "354 go"]
    for _ in range(150):
        slow += [Read(1), Pause(0.01)]
    body = b"x" * 62 + b"\r\n"

    async def main() -> None:
        ledger = await run((peer.host,), [job(0, body * 3000)], Deliver(command_timeout_s=1, data_done_timeout_s=5))
        assert ledger.one().status == "delivered"

    with Peer([*slow, BODY, "250 ok"]) as peer:
        uvloop.run(main())
    assert len(peer.mails[0]) == 64 * 3000 + 3 - 150


def test_remote_courier_final_reply_has_a_time_of_its_own() -> None:
    async def main() -> None:
        ledger = await run((peer.host,), [job()], Deliver(command_timeout_s=0.6, data_done_timeout_s=9))
        assert ledger.one().status == "delivered"

    with Peer([*HELLO, *MAIL[:-1], Pause(1.2), "250 at last"]) as peer:
        uvloop.run(main())


def test_remote_courier_time_for_the_final_reply_begins_when_the_peer_has_the_mail() -> None:
    """Until then the kernel has it, which takes more at once than a slow peer does in the time for a reply."""
    slow: list[Step] = [*HELLO, C("MAIL"), "250 ok", C("RCPT"), "250 ok", C("DATA"), "354 go"]
    for _ in range(32):
        slow += [Read(65_536), Pause(0.06)]
    body = b"x" * 62 + b"\r\n"

    async def main() -> None:
        limits = Deliver(command_timeout_s=1, data_done_timeout_s=1)
        ledger = await run((peer.host,), [job(0, body * 35_000)], limits)
        assert ledger.one().status == "delivered"

    with Peer([*slow, BODY, "250 ok"]) as peer:
        uvloop.run(main())

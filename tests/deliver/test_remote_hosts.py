"""Remote delivery to a site of several hosts, some of which are odd: scripted peers, one courier."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack

import msgspec
import pytest
import uvloop

from mta.config import Deliver, Path
from mta.deliver import Job
from mta.smtp import POSSIBLE_REPEAT
from tests.deliver.test_remote import Ledger, courier, job, run
from tests.harness import BODY, CLOSE, HELLO, MAIL, RESET, SILENCE, C, Peer, Step

DEAD = ("127.0.0.1", 1)
ONLY_HELO: list[Step] = ["220 old", C("EHLO"), "502 what", C("HELO"), "250 old"]
QUIT: list[Step] = [C("QUIT"), "221 bye"]
SHORT = Deliver(command_timeout_s=1, data_done_timeout_s=1)


def deliver(
    jobs: Sequence[Job], *scripts: Sequence[Step] | None, limits: Deliver | None = None, path: Path | None = None
) -> tuple[Ledger, list[Peer]]:
    """Run a courier with a host for each script, None for one that is not there; return what it told, and the peers."""
    with ExitStack() as stack:
        peers = [None if script is None else stack.enter_context(Peer(script)) for script in scripts]
        hosts = tuple(DEAD if peer is None else peer.host for peer in peers)
        ledgers: list[Ledger] = []

        async def main() -> None:
            ledgers.append(await run(hosts, jobs, limits, path))

        uvloop.run(main())
    assert ledgers[0].left is not None
    return ledgers[0], [peer for peer in peers if peer is not None]


def fates(ledger: Ledger) -> dict[bytes, list[tuple[str, int, str]]]:
    return {part: [(o.status, o.code, o.enhanced) for _, o in rows] for part, rows in ledger.fates.items()}


DELIVERED = [("delivered", 250, "2.0.0")]


@pytest.mark.parametrize(
    "script",
    [
        # Before a greeting, and instead of one. RFC 5321 s3.1, RFC 7504 s4.
        [CLOSE],
        [RESET],
        [SILENCE],
        ["554 5.7.1 no", SILENCE],
        ["521 5.3.2 never", SILENCE],
        ["450 4.3.2 later", SILENCE],
        ["421 4.3.2 busy", CLOSE],
        ["354 what", SILENCE],
        [b"HTTP/1.1 400 Bad Request\r\n\r\n", SILENCE],
        [b"220-x\r\n" * 200, SILENCE],
        [b"220-" + b"x" * 100_000, SILENCE],
        # Before EHLO was answered, and instead of that.
        ["220 x", C("EHLO"), CLOSE],
        ["220 x", C("EHLO"), RESET],
        ["220 x", C("EHLO"), SILENCE],
        ["220 x", C("EHLO"), "421 4.3.2 busy", SILENCE],
        ["220 x", C("EHLO"), "450 later", SILENCE],
        ["220 x", C("EHLO"), "502 what", C("HELO"), "502 what", SILENCE],
        ["220 x", C("EHLO"), "502 what", C("HELO"), RESET],
        [b"220 x\r\n250 too early\r\n", SILENCE],
        # It greeted us, and then it did not take anything.
        [*HELLO, C("MAIL"), "421 4.3.2 busy", SILENCE],
        [*HELLO, C("MAIL"), CLOSE],
        [*HELLO, C("MAIL"), RESET],
        [*HELLO, C("MAIL"), SILENCE],
        [*HELLO, C("MAIL"), "354 what", SILENCE],
        [*HELLO, C("MAIL"), "250 ok", C("RCPT"), RESET],
        [*HELLO, C("MAIL"), "250 ok", C("RCPT"), "421 4.3.2 busy", SILENCE],
        [*HELLO, C("MAIL"), "250 ok", C("RCPT"), "354 what", SILENCE],
        [*HELLO, C("MAIL"), "250 ok", C("RCPT"), "250 ok", C("DATA"), RESET],
        [*HELLO, C("MAIL"), "250 ok", C("RCPT"), "250 ok", C("DATA"), "250 what", SILENCE],
        [*HELLO, C("MAIL"), "250 ok", C("RCPT"), "250 ok", C("DATA"), "421 4.3.2 busy", SILENCE],
        [*HELLO, C("MAIL"), "250 ok", C("RCPT"), "250 ok", C("DATA"), "nonsense", SILENCE],
    ],
    ids=range(31),
)
def test_remote_courier_host_that_does_nothing_is_followed_by_the_next(script: list[Step]) -> None:
    ledger, (_, good) = deliver([job(0), job(1)], script, [*HELLO, *MAIL, *MAIL], limits=SHORT)
    assert fates(ledger) == {job(0).part: DELIVERED, job(1).part: DELIVERED}
    assert (ledger.left, ledger.failure, ledger.n_greeted) == ([], None, 1)
    assert (good.n_connections, len(good.mails)) == (1, 2)


def test_remote_courier_lost_in_the_body_goes_on_with_the_next_host() -> None:
    body = b"x" * 62 + b"\r\n"
    large = msgspec.structs.replace(job(0), octets=64 * 80_000, n_pieces=5, read=lambda _: body * 16_000)
    broken: list[Step] = [*HELLO, C("MAIL"), "250 ok", C("RCPT"), "250 ok", C("DATA"), "354 go", RESET]
    ledger, (_, good) = deliver([large], broken, [*HELLO, *MAIL])
    assert fates(ledger) == {job(0).part: DELIVERED}
    assert len(good.mails[0]) == 64 * 80_000 + 3


@pytest.mark.parametrize("end", [RESET, CLOSE, SILENCE, "nonsense"])
def test_remote_courier_lost_after_the_final_dot_is_a_possible_repeat_and_not_sent_to_the_next_host(end: Step) -> None:
    ledger, (_, good) = deliver([job(0), job(1)], [*HELLO, *MAIL[:-1], end, SILENCE], [*HELLO, *MAIL], limits=SHORT)
    outcome = ledger.fates[job(0).part][0][1]
    assert outcome.status == "deferred"
    assert outcome.reason.startswith(POSSIBLE_REPEAT)
    # The other was not begun: it comes back as it is.
    assert (ledger.left, good.n_connections) == ([job(1).part], 0)


def test_remote_courier_421_after_the_final_dot_is_a_plain_no() -> None:
    ledger, (_, good) = deliver([job(0)], [*HELLO, *MAIL[:-1], "421 4.3.2 busy", SILENCE], [*HELLO])
    outcome = ledger.fates[job(0).part][0][1]
    assert (outcome.status, outcome.code, outcome.reason) == ("deferred", 421, "the peer ended the session")
    assert good.n_connections == 0


def test_remote_courier_all_hosts_fail_leaves_every_job_and_tells_the_last_failure() -> None:
    ledger, _ = deliver([job(0), job(1)], ["554 5.7.1 no", SILENCE], None, ["521 5.3.2 never", SILENCE])
    assert (ledger.fates, ledger.left) == ({}, [job(0).part, job(1).part])
    assert ledger.failure is not None
    # Never a bounce: what a host says about itself says nothing about the mail.
    assert (ledger.failure.status, ledger.failure.code, ledger.failure.enhanced) == ("deferred", 521, "5.3.2")


def test_remote_courier_letter_that_breaks_every_host_is_deferred_and_blames_no_path() -> None:
    broken: list[Step] = [*HELLO, C("MAIL"), "250 ok", C("RCPT"), RESET]
    ledger, peers = deliver([job(0), job(1)], broken, None, broken, None)
    # The second was not begun anywhere: it is not counted against it.
    assert (fates(ledger), ledger.left) == ({job(0).part: [("deferred", 451, "4.4.2")]}, [job(1).part])
    assert (ledger.failure, ledger.n_greeted) == (None, 1)
    assert [peer.n_connections for peer in peers] == [1, 1]


# What a host lacks: RFC 1870 s5, RFC 6152 s3, RFC 6531 s3.2.

SMALL: list[Step] = ["220 x", C("EHLO"), "250-x\n250-PIPELINING\n250 SIZE 10"]
EIGHT = job(1, has_8bit=True)
UTF8 = msgspec.structs.replace(job(1), recipients=((0, "\u00e4@y.example"),))
MISFITS = pytest.mark.parametrize(
    ("misfit", "poor", "code", "enhanced"),
    [
        (EIGHT, ONLY_HELO, 554, "6.3"),
        (UTF8, ONLY_HELO, 553, "6.7"),
        (msgspec.structs.replace(job(1), octets=11), SMALL, 552, "3.4"),
    ],
    ids=["8bit", "utf8", "size"],
)
RICH: list[Step] = [*HELLO]


@MISFITS
def test_remote_courier_letter_that_a_host_lacks_something_for_goes_to_the_next(
    misfit: Job, poor: list[Step], code: int, enhanced: str
) -> None:
    """Behind the others, which stay on the first connection."""
    small = [msgspec.structs.replace(job(n), octets=9) for n in (0, 2)]
    ledger, (first, second) = deliver([small[0], misfit, small[1]], [*poor, *MAIL, *MAIL], [*RICH, *MAIL])
    assert fates(ledger) == {job(n).part: DELIVERED for n in range(3)}
    assert (ledger.left, ledger.failure) == ([], None)
    assert (first.n_connections, len(first.mails), first.lines[-1]) == (1, 2, b"QUIT")
    assert (second.n_connections, len(second.mails), second.lines[-1]) == (1, 1, b"QUIT")


@MISFITS
def test_remote_courier_letter_that_every_host_lacks_something_for_bounces(
    misfit: Job, poor: list[Step], code: int, enhanced: str
) -> None:
    ledger, peers = deliver([misfit], poor, poor, poor)
    assert fates(ledger) == {misfit.part: [("bounced", code, f"5.{enhanced}")]}
    assert [peer.n_connections for peer in peers] == [1, 1, 1]
    assert ledger.failure is None


@MISFITS
@pytest.mark.parametrize("where", [0, 1, 2])
def test_remote_courier_letter_that_a_host_might_take_that_is_away_is_deferred(
    misfit: Job, poor: list[Step], code: int, enhanced: str, where: int
) -> None:
    scripts: list[list[Step] | None] = [poor, poor]
    scripts.insert(where, None)
    ledger, _ = deliver([misfit], *scripts)
    assert fates(ledger) == {misfit.part: [("deferred", 451, f"4.{enhanced}")]}
    # One host at least works: no reason for the path to rest.
    assert (ledger.left, ledger.failure) == ([], None)
    assert "another host could not be asked" in ledger.one().reason


def test_remote_courier_misfit_that_a_worse_host_fails_is_counted_and_not_tried_at_once_for_ever() -> None:
    busy: list[Step] = [*RICH, C("MAIL"), "421 4.3.2 busy", SILENCE]
    ledger, _ = deliver([EIGHT], ONLY_HELO, busy)
    assert (fates(ledger), ledger.left) == ({EIGHT.part: [("deferred", 451, "4.6.3")]}, [])


def test_remote_courier_misfit_lost_behind_another_on_the_second_host_goes_to_the_third() -> None:
    letters = [EIGHT, msgspec.structs.replace(EIGHT, part=job(2).part)]
    ledger, (_, second, third) = deliver(letters, ONLY_HELO, [*RICH, *MAIL, RESET], [*RICH, *MAIL])
    assert fates(ledger) == {job(1).part: DELIVERED, job(2).part: DELIVERED}
    assert (len(second.mails), len(third.mails)) == (1, 1)


def test_remote_courier_misfit_bounces_at_once_where_there_is_no_other_host() -> None:
    ledger, (only,) = deliver([EIGHT, job(0)], [*ONLY_HELO, *MAIL])
    assert fates(ledger) == {EIGHT.part: [("bounced", 554, "5.6.3")], job(0).part: DELIVERED}
    assert only.n_connections == 1


def test_remote_courier_on_its_way_to_the_next_host_leaves_new_jobs_over() -> None:
    """What this host could have is not sent to a worse one: RFC 5321 s5.1."""
    with Peer([*ONLY_HELO, *MAIL, *QUIT, CLOSE]) as first, Peer([*RICH, *MAIL]) as second:

        async def main() -> Ledger:
            ledger = Ledger()
            ours = courier((first.host, second.host), ledger)
            more = [job(7)]
            ledger.on_done = lambda: ours.deliver([more.pop()]) if more and second.n_connections else None
            ours.deliver([EIGHT, job(0)])
            async with asyncio.timeout(20):
                await ledger.ended.wait()
            return ledger

        ledger = uvloop.run(main())
    assert fates(ledger) == {EIGHT.part: DELIVERED, job(0).part: DELIVERED}
    assert ledger.left == [job(7).part]


@pytest.mark.parametrize("how", ["close", "abort"])
def test_remote_courier_ended_with_a_misfit_waiting_leaves_it(how: str) -> None:
    with Peer([*ONLY_HELO, *MAIL[:-1], SILENCE]) as first, Peer(RICH) as second:

        async def main() -> Ledger:
            ledger = Ledger()
            ours = courier((first.host, second.host), ledger)
            ours.deliver([EIGHT, job(0)])
            while not first.mails:
                await asyncio.sleep(0.01)
            getattr(ours, how)()
            await asyncio.sleep(0)
            ours.abort()
            async with asyncio.timeout(20):
                await ledger.ended.wait()
            return ledger

        ledger = uvloop.run(main())
    assert ledger.left == [EIGHT.part]
    assert ledger.fates[job(0).part][0][1].reason.startswith(POSSIBLE_REPEAT)
    assert second.n_connections == 0


# Recipients.


def many(n_recipients: int) -> Job:
    return job(0, n_recipients=n_recipients)


@pytest.mark.parametrize("said", ["452 4.5.3 enough", "452 too many recipients", "552 too many recipients"])
def test_remote_courier_peer_that_takes_one_recipient_at_a_time_gets_a_hundred(said: str) -> None:
    script: list[Step] = [*HELLO]
    for n_left in range(100, 0, -1):
        refused: list[Step] = []
        for _ in range(n_left - 1):
            refused += [C("RCPT"), said]
        script += [C("MAIL"), "250 ok", C("RCPT"), "250 ok", *refused, C("DATA"), "354 go", BODY, "250 ok"]
    ledger, (peer,) = deliver([many(100)], script)
    assert fates(ledger) == {job(0).part: DELIVERED * 100}
    assert (peer.n_connections, len(peer.mails)) == (1, 100)


@pytest.mark.parametrize("is_last", [False, True], ids=["room", "last"])
def test_remote_courier_rest_goes_out_though_the_connection_is_full(is_last: bool) -> None:
    rest: list[Step] = [C("MAIL"), "250 ok", C("RCPT"), "250 ok", C("RCPT"), "452 4.5.3 x", C("DATA"), "354 go", BODY]
    path = Path(messages_per_connection=1 if is_last else 9, idle_s=0.05)
    ledger, (peer,) = deliver([many(2)], [*HELLO, *rest, "250 ok", *MAIL], path=path)
    assert fates(ledger) == {job(0).part: DELIVERED * 2}
    assert len(peer.mails) == 2


def test_remote_courier_peer_that_takes_no_recipient_at_all_defers_them() -> None:
    script: list[Step] = [*HELLO, C("MAIL"), "250 ok", C("RCPT"), "452 4.5.3 x", C("RCPT"), "452 4.5.3 x", C("DATA")]
    ledger, (peer,) = deliver([many(2)], [*script, "554 none"])
    assert fates(ledger) == {job(0).part: [("deferred", 452, "4.5.3")] * 2}
    assert peer.mails == []


def test_remote_courier_354_after_all_were_refused_ends_the_empty_mail_and_goes_on() -> None:
    none: list[Step] = [C("MAIL"), "250 ok", C("RCPT"), "550 5.1.1 no", C("DATA"), "354 go", BODY, "554 nobody"]
    ledger, (peer,) = deliver([job(0), job(1), job(2)], [*HELLO, *none, *none, *MAIL])
    assert fates(ledger) == {
        job(0).part: [("bounced", 550, "5.1.1")],
        job(1).part: [("bounced", 550, "5.1.1")],
        job(2).part: DELIVERED,
    }
    assert peer.mails[:2] == [b".\r\n"] * 2
    assert peer.n_connections == 1


def test_remote_courier_mixed_recipients_have_each_their_own_fate() -> None:
    script: list[Step] = [*HELLO, C("MAIL"), "250 ok"]
    for said in ("250 ok", "550 5.1.1 no", "450 4.2.1 later", "251 elsewhere", "452 4.2.2 full"):
        script += [C("RCPT"), said]
    ledger, _ = deliver([many(5)], [*script, C("DATA"), "354 go", BODY, "250 ok"])
    assert fates(ledger)[job(0).part] == [
        *DELIVERED,
        ("bounced", 550, "5.1.1"),
        ("deferred", 450, "4.2.1"),
        *DELIVERED,
        ("deferred", 452, "4.2.2"),
    ]

"""Leases to couriers and outcomes to settlements, with a real link and a real queue; the queue process is played."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from mta.config import Retry, Route
from mta.deliver import Courier, Job, Own, Report, Router, Way, Ways
from mta.dns import Resolver
from mta.link import Closed, Greeted, Kind, Lease, QueueLink, Resolve, Resolved, Settle, Settlement, decoder
from mta.link import Report as LinkReport
from mta.linkpath import bind_link
from mta.message import Hosts, Outcome
from mta.queue.apply import put_message
from mta.reply import Reply
from mta.store import Reader, Writer
from mta.worker.dispatch import Dispatch
from mta.worker.notices import Notices
from tests.link.peer import Peer, until
from tests.queue.samples import T0, part_of, put

HOSTS: Hosts = (("mx.sink.test", 25),)
MAP_OCTETS = 1 << 26
FIRST = put(1, ("a@sink.test", "b@sink.test"), ("c@other.test",), content=b"first\r\n")
SECOND = put(2, ("d@sink.test",), content=b"second\r\n")
GONE = put(3, ("e@sink.test",))


class Session:
    """A courier that does nothing by itself and remembers what it was told."""

    def __init__(self, number: int, site: str, hosts: Hosts, report: Report) -> None:
        self.opened = (number, site, hosts)
        self.report = report
        self.jobs: list[Job] = []
        self.told: list[str] = []

    def deliver(self, jobs: Sequence[Job]) -> None:
        """Take more jobs."""
        self.jobs.extend(jobs)

    def close(self) -> None:
        """Finish what is under way."""
        self.told.append("close")

    def abort(self) -> None:
        """End at once."""
        self.told.append("abort")


class Bench:
    """Everything a talk needs."""

    def __init__(self, peer: Peer, link: QueueLink, dispatch: Dispatch, sessions: list[Session]) -> None:
        self.peer = peer
        self.link = link
        self.dispatch = dispatch
        self.sessions = sessions

    def lease(self, session: int, *parts: bytes, opens: bool = True, new: bytes = b"") -> None:
        """Send a lease to the worker."""
        self.peer.say("out", Kind.LEASE, Lease(session, opens, "site", HOSTS, parts, (), new))

    async def settlements(self, n_settled: int) -> list[Settlement]:
        """Wait for that many settlements."""
        decode = decoder(Settle).decode

        def all_() -> list[Settlement]:
            return [each for payload in self.peer.of(Kind.SETTLE) for each in decode(payload).settlements]

        await until(lambda: len(all_()) >= n_settled)
        return all_()

    def reports(self, report: LinkReport) -> None:
        """Send a report lease to the worker."""
        self.peer.say("out", Kind.REPORT, report)

    async def closed(self, n_closed: int) -> list[int]:
        """Wait until that many sessions are said to be over."""
        await until(lambda: len(self.peer.of(Kind.CLOSED)) >= n_closed)
        return [decoder(Closed).decode(payload).session for payload in self.peer.of(Kind.CLOSED)]


Talk = Callable[[Bench], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Talk], None]:
    """Give what runs a talk with a dispatch whose queue holds FIRST and SECOND."""

    async def connected(talk: Talk) -> None:
        writer = Writer(str(tmp_path), MAP_OCTETS)
        writer.begin()
        for each in (FIRST, SECOND):
            put_message(writer, each.head, each.content, T0, repeat=False)
        writer.commit()
        writer.close()
        reader = Reader(str(tmp_path), MAP_OCTETS)
        sessions: list[Session] = []

        def make(lease: Lease, report: Report) -> Courier:
            sessions.append(Session(lease.session, lease.site, lease.hosts, report))
            return sessions[-1]

        async with Peer(bind_link(str(tmp_path))) as peer:
            link = QueueLink(str(tmp_path), 1, 4321, 5.0, asyncio.get_running_loop())
            router = Router((), [Route("sink.test", "[192.0.2.1]:25")])
            # Without a name server nothing is known of the others.
            resolver = Resolver((), 1.0, asyncio.get_running_loop())
            ways = Ways(router, resolver, "mx.test", Own(()), 25)
            dispatch = Dispatch(link, reader, make, ways, Notices("mx.test", link, Retry()))
            await link.start(dispatch)
            await peer.ready()
            try:
                await talk(Bench(peer, link, dispatch, sessions))
            finally:
                link.close()
                await asyncio.sleep(0.01)
        reader.close()

    return lambda talk: asyncio.run(connected(talk))


def outcome(words: str = "") -> Outcome:
    """Return an outcome in which the peer said much or nothing."""
    return Outcome("delivered", 250, "2.0.0", words, words, words)


class Putter:
    """Waits for the answer to a PUT that nobody gives."""

    def stored(self) -> None:
        """It is committed."""

    def refused(self, reply: Reply) -> None:
        """It is not."""


def test_lease_of_a_new_message_of_our_own_is_not_read_from_the_queue(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        # It is in no table here: only what was put can be what is delivered.
        own = put(9, ("x@sink.test", "y@sink.test"), content=b"own\r\n")
        bench.link.put(own.head, (b"ow", b"n\r\n"), Putter())
        bench.lease(7, part_of(own), part_of(SECOND), new=b"\1\1")
        await until(lambda: bench.sessions and len(bench.sessions[0].jobs) == 2)
        job, other = bench.sessions[0].jobs
        assert (job.part, job.attempt, job.sender) == (part_of(own), 0, own.head.sender)
        assert (job.recipients, job.octets, job.n_pieces) == (((0, "x@sink.test"), (1, "y@sink.test")), 5, 1)
        assert (job.read(0), other.read(0)) == (b"own\r\n", b"second\r\n")
        bench.dispatch.done(job, [(0, outcome()), (1, outcome())])
        [settled] = await bench.settlements(1)
        assert (settled.part, settled.attempt, settled.received_at) == (job.part, 0, own.head.received_at)
        assert settled.tenant == own.head.tenant
        assert bench.link.recent.find(own.head.id) is None

    run(talk)


def test_lease_of_our_own_message_that_is_not_new_is_read(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        # One of its recipients was delivered meanwhile, say: RAM knows nothing of that.
        stale = put(2, ("d@sink.test", "gone@sink.test"), content=b"stale\r\n")
        bench.link.put(stale.head, (b"stale\r\n",), Putter())
        bench.lease(7, part_of(SECOND), new=b"\0")
        await until(lambda: bench.sessions and bench.sessions[0].jobs)
        [job] = bench.sessions[0].jobs
        assert (job.recipients, job.read(0)) == (((0, "d@sink.test"),), b"second\r\n")

    run(talk)


def test_read_of_our_own_message_that_had_to_make_room(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        bench.link.put(SECOND.head, (bytes(SECOND.content),), Putter())
        lost = put(9, ("x@sink.test",))
        bench.link.put(lost.head, (b"",), Putter())
        bench.lease(7, part_of(SECOND), part_of(lost), new=b"\1\1")
        await until(lambda: bench.sessions and len(bench.sessions[0].jobs) == 2)
        for each in (SECOND, lost):
            bench.link.recent.drop(each.head.id)
        there, gone = bench.sessions[0].jobs
        assert there.read(0) == b"second\r\n"
        with pytest.raises(LookupError):
            gone.read(0)

    run(talk)


# Deletes the content of the first two messages.
LOSE = """
import sys
from mta.store import Writer
writer = Writer(sys.argv[1], int(sys.argv[2]))
writer.begin()
for extent in (1, 2):
    writer.remove_chunks(extent, 1, 1)
writer.commit()
"""


def test_content_that_is_lost_is_set_aside_from_whichever_thread_it_is_read(
    run: Callable[[Talk], None], tmp_path: Path
) -> None:
    async def talk(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        bench.lease(7, part_of(FIRST), part_of(SECOND))
        await until(lambda: bench.sessions and len(bench.sessions[0].jobs) == 2)
        # LMDB opens a file once in a process.
        subprocess.run([sys.executable, "-c", LOSE, str(tmp_path), str(MAP_OCTETS)], check=True)
        first, second = bench.sessions[0].jobs
        with pytest.raises(LookupError, match="not where they should be"):
            await loop.run_in_executor(None, first.read, 0)
        with pytest.raises(LookupError, match="not where they should be"):
            second.read(0)
        settled = await bench.settlements(2)
        assert {each.part: each.results for each in settled} == {part_of(FIRST): (), part_of(SECOND): ()}

    run(talk)


def test_lease_becomes_jobs_in_their_order_with_content_and_recipients(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        bench.lease(7, part_of(SECOND), part_of(FIRST), part_of(FIRST, 1))
        await until(lambda: bench.sessions and len(bench.sessions[0].jobs) == 3)
        (session,) = bench.sessions
        assert session.opened == (7, "site", HOSTS)
        assert [job.recipients for job in session.jobs] == [
            ((0, "d@sink.test"),),
            ((0, "a@sink.test"), (1, "b@sink.test")),
            ((2, "c@other.test"),),
        ]
        assert [job.read(0) for job in session.jobs] == [b"second\r\n", b"first\r\n", b"first\r\n"]
        # A second lease goes to the session that is there.
        bench.lease(7, part_of(SECOND), opens=False)
        await until(lambda: len(session.jobs) == 4)
        assert bench.dispatch.n_busy == len(bench.sessions) == 1

    run(talk)


def test_done_settles_each_recipient_once_and_held_forgets_it(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        bench.lease(7, part_of(FIRST), part_of(SECOND))
        await until(lambda: bench.sessions and len(bench.sessions[0].jobs) == 2)
        (session,) = bench.sessions
        assert bench.dispatch.held() == (((7, "site", False),), ((7, part_of(FIRST)), (7, part_of(SECOND))))
        for _ in range(2):
            session.report.done(session.jobs[0], [(0, outcome()), (1, outcome("no"))])
        (settled,) = await bench.settlements(1)
        assert (settled.part, settled.attempt, settled.received_at) == (part_of(FIRST), 0, T0)
        assert [(number, address) for number, address, _ in settled.results] == [(0, "a@sink.test"), (1, "b@sink.test")]
        assert bench.dispatch.held() == (((7, "site", False),), ((7, part_of(SECOND)),))
        session.report.closed(7, session.jobs[1:], None)
        assert await bench.closed(1) == [7]
        assert bench.dispatch.held() == ((), ())
        assert bench.dispatch.n_busy == 0
        assert len(await bench.settlements(1)) == 1

    run(talk)


def test_lease_part_that_is_gone_is_settled_with_nothing(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        bench.lease(7, part_of(GONE), part_of(SECOND))
        assert await bench.settlements(1) == [Settlement(part_of(GONE), 0, 0, "", ())]
        assert [job.part for job in bench.sessions[0].jobs] == [part_of(SECOND)]

    run(talk)


def test_lease_that_crosses_the_end_of_its_session_is_ignored(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        bench.lease(7, part_of(FIRST))
        await until(lambda: bench.sessions)
        bench.sessions[0].report.closed(7, bench.sessions[0].jobs, None)
        bench.lease(7, part_of(SECOND), opens=False)
        bench.lease(8, part_of(SECOND))
        await until(lambda: len(bench.sessions) == 2)
        assert bench.sessions[1].opened[0] == 8
        assert bench.dispatch.held() == (((8, "site", False),), ((8, part_of(SECOND)),))
        assert bench.peer.of(Kind.SETTLE) == []

    run(talk)


def test_lease_while_draining_goes_back_and_couriers_are_told(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        bench.lease(7, part_of(FIRST))
        await until(lambda: bench.sessions)
        bench.dispatch.drain()
        bench.lease(8, part_of(SECOND))
        assert await bench.closed(1) == [8]
        assert len(bench.sessions) == 1
        assert bench.dispatch.held() == (((7, "site", False),), ((7, part_of(FIRST)),))
        bench.dispatch.abort()
        assert bench.sessions[0].told == ["close", "abort"]

    run(talk)


def test_held_is_what_the_worker_says_after_a_lost_link(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        bench.lease(7, part_of(FIRST))
        await until(lambda: bench.sessions)
        since = bench.peer.n_connections
        bench.peer.drop()
        await bench.peer.ready(since)
        hello = next(payload for payload in bench.peer.of(Kind.HELLO, since) if b"site" in payload)
        assert part_of(FIRST) in hello

    run(talk)


def test_greeted_and_a_failure_are_passed_on_and_the_greeting_is_held(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        bench.lease(7, part_of(FIRST))
        await until(lambda: bench.sessions)
        bench.dispatch.greeted(7)
        await until(lambda: bench.peer.of(Kind.GREETED))
        assert decoder(Greeted).decode(bench.peer.of(Kind.GREETED)[0]) == Greeted(7)
        assert bench.dispatch.held()[0] == ((7, "site", True),)
        failure = Outcome("deferred", 421, "4.3.2", "the peer ended the session", "mx", "busy")
        bench.sessions[0].report.closed(7, bench.sessions[0].jobs, failure)
        await bench.closed(1)
        assert decoder(Closed).decode(bench.peer.of(Kind.CLOSED)[0]) == Closed(7, failure)
        assert bench.peer.of(Kind.SETTLE) == []
        # Another session of that number would have to be greeted anew.
        bench.lease(7, part_of(FIRST))
        await until(lambda: len(bench.sessions) == 2)
        assert bench.dispatch.held()[0] == ((7, "site", False),)

    run(talk)


def test_done_with_a_bounce_settles_with_one_notice_about_all_that_failed(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        bench.lease(7, part_of(FIRST), part_of(SECOND))
        await until(lambda: bench.sessions and len(bench.sessions[0].jobs) == 2)
        (session,) = bench.sessions
        no = Outcome("bounced", 550, "5.1.1", "refused at RCPT", "mx.sink.test", "no such user")
        session.report.done(session.jobs[0], [(0, no), (1, no)])
        session.report.done(session.jobs[1], [(0, Outcome("deferred", 450, "4.2.1", "later", "", ""))])
        bounced, deferred = await bench.settlements(2)
        assert bounced.notice is not None
        head = bounced.notice.head
        assert (head.sender, head.tenant, head.parts[0].recipients) == ("", "default", ("s@a.test",))
        assert head.parts[0].queue.domain == "a.test"
        assert head.id[6:12] == bytes([0, 9, 0, 0, 0, 77])
        assert head.lifetime_ms == round(Retry().bounce_give_up_s * 1000)
        assert b"a@sink.test" in bounced.notice.content
        assert b"b@sink.test" in bounced.notice.content
        assert not bounced.is_report
        assert deferred.notice is None

    run(talk)


@pytest.mark.parametrize(
    ("report", "fate"),
    [
        # Never tried, and nothing is known of its hosts; known; an operator's word counts more.
        (LinkReport("expired", None, (part_of(FIRST),)), ("expired", 451, "4.4.7")),
        (
            LinkReport("expired", Outcome("deferred", 451, "4.4.1", "cannot connect", "mx", ""), (part_of(FIRST),)),
            ("expired", 451, "4.4.1"),
        ),
        (
            LinkReport("bounced", Outcome("deferred", 451, "4.4.1", "cannot connect", "mx", ""), (part_of(FIRST),)),
            ("bounced", 554, "5.7.1"),
        ),
    ],
)
def test_report_settles_every_recipient_with_a_notice_and_without_a_session(
    run: Callable[[Talk], None], report: LinkReport, fate: tuple[str, int, str]
) -> None:
    async def talk(bench: Bench) -> None:
        bench.reports(report)
        (told,) = await bench.settlements(1)
        assert bench.sessions == []
        assert [(n, outcome.status, outcome.code, outcome.enhanced) for n, _, outcome in told.results] == [
            (0, *fate),
            (1, *fate),
        ]
        assert told.notice is not None
        assert told.is_report
        assert bench.dispatch.held() == ((), ())

    run(talk)


def test_report_on_a_part_that_is_gone_is_settled_with_nothing(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        bench.reports(LinkReport("expired", None, (part_of(GONE), part_of(SECOND))))
        gone, there = await bench.settlements(2)
        assert gone == Settlement(part_of(GONE), 0, 0, "", ())
        assert [outcome.status for _, _, outcome in there.results] == ["expired"]

    run(talk)


def test_resolve_is_answered_with_the_site(run: Callable[[Talk], None]) -> None:
    async def talk(bench: Bench) -> None:
        bench.peer.say("out", Kind.RESOLVE, Resolve("sink.test", ""))
        await until(lambda: bench.peer.of(Kind.RESOLVED))
        answer = decoder(Resolved).decode(bench.peer.of(Kind.RESOLVED)[0])
        assert (answer.domain, answer.site, answer.hosts) == ("sink.test", "[192.0.2.1]:25", (("192.0.2.1", 25),))
        assert answer.ttl_s > 0

    run(talk)


def test_resolve_that_goes_wrong_is_a_fault_and_the_next_is_answered(
    run: Callable[[Talk], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Ways.find

    async def broken(self: Ways, domain: str, route: str) -> Way:
        if domain == "odd.test":
            raise RuntimeError("what nobody thought of")
        return await find(self, domain, route)

    monkeypatch.setattr(Ways, "find", broken)

    async def talk(bench: Bench) -> None:
        bench.peer.say("out", Kind.RESOLVE, Resolve("odd.test", ""))
        bench.peer.say("out", Kind.RESOLVE, Resolve("sink.test", ""))
        await until(lambda: bench.peer.of(Kind.RESOLVED) and bench.peer.of(Kind.NOTE))
        assert decoder(Resolved).decode(bench.peer.of(Kind.RESOLVED)[0]).domain == "sink.test"
        assert b"what nobody thought of" in bench.peer.of(Kind.NOTE)[0]

    run(talk)

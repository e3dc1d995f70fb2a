"""The worker's end against a queue process played by hand: what is said, and said again when the link is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from mta.link import (
    Closed,
    Greeted,
    Hello,
    Kind,
    Lease,
    Note,
    PutHead,
    QueueLink,
    Refused,
    Report,
    Resolve,
    Resolved,
    Settle,
    Settled,
    Settlement,
    decoder,
    read_put,
)
from mta.linkpath import bind_link
from mta.message import Outcome

from .peer import Answer, Orders, Peer, until

Talk = Callable[[Peer, QueueLink, Orders], Awaitable[None]]
Run = Callable[[Talk], None]
PART = bytes(18)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Give what runs a talk between both ends, connected, on one of the event loops."""

    async def connected(talk: Talk) -> None:
        async with Peer(bind_link(str(tmp_path))) as peer:
            link = QueueLink(str(tmp_path), 3, 4321, 0.05, asyncio.get_running_loop())
            orders = Orders()
            await link.start(orders)
            assert link.ids.make()[6:12] == bytes([0, 9, 0, 0, 0, 77])
            await peer.ready()
            try:
                await talk(peer, link, orders)
            finally:
                link.close()
                await asyncio.sleep(0.01)

    def go(talk: Talk) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(connected(talk))

    return go


def head(number: int) -> PutHead:
    return PutHead(number.to_bytes(16, "big"), "s@a.test", 1, 2, "t", "", 0, (), b"")


def settlement(number: int) -> Settlement:
    return Settlement(number.to_bytes(18, "big"), 0, 1, "t", ())


def settled(payloads: list[bytes]) -> list[int]:
    return [int.from_bytes(s.part, "big") for p in payloads for s in decoder(Settle).decode(p).settlements]


def puts(payloads: list[bytes]) -> list[tuple[int, int, bool]]:
    found = [read_put(payload) for payload in payloads]
    return [(int.from_bytes(put.head.id, "big"), put.confirmed, put.repeat) for put in found]


def test_link_start_says_hello_and_ready_on_both_ends(run: Run) -> None:
    async def talk(peer: Peer, _link: QueueLink, _orders: Orders) -> None:
        assert peer.kinds("out") == [Kind.HELLO, Kind.READY]
        assert peer.kinds("in") == [Kind.HELLO, Kind.READY]
        hellos = [decoder(Hello).decode(payload) for payload in peer.of(Kind.HELLO)]
        assert [(h.role, h.worker, h.pid, h.incarnation) for h in hellos] == [("out", 3, 4321, 0), ("in", 3, 4321, 77)]

    run(talk)


def test_link_put_is_answered_stored_or_refused_once(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        answers = [Answer() for _ in range(4)]
        for number, answer in enumerate(answers[:3]):
            link.put(head(number), [b"con", b"tent"], answer)
        await until(lambda: len(peer.of(Kind.PUT)) == 3)
        assert puts(peer.of(Kind.PUT)) == [(0, 0, False), (1, 0, False), (2, 0, False)]
        assert read_put(peer.of(Kind.PUT)[0]).content == b"content"
        assert all(not answer.heard for answer in answers)
        peer.say("in", Kind.STORED, head(0).id + head(1).id)
        peer.say("in", Kind.REFUSED, Refused(head(2).id, 452, "4.3.1", "full"))
        await until(lambda: answers[2].heard)
        assert [answer.heard for answer in answers[:2]] == [[None], [None]]
        assert [(r.code, r.enhanced, r.text) for r in answers[2].heard if r] == [(452, "4.3.1", "full")]
        assert link.n_pending == 0
        # The next message confirms the three answers.
        link.put(head(3), [], answers[3])
        await until(lambda: len(peer.of(Kind.PUT)) == 4)
        assert puts(peer.of(Kind.PUT))[3] == (3, 3, False)

    run(talk)


def test_link_orders_reach_the_tasks(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, orders: Orders) -> None:
        lease = Lease(5, True, "site", (("127.0.0.1", 25),), (PART,))
        peer.say("out", Kind.LEASE, lease)
        report = Report("expired", None, (PART, PART))
        peer.say("out", Kind.REPORT, report)
        peer.say("out", Kind.RESOLVE, Resolve("b.test", ""))
        await until(lambda: orders.questions)
        assert orders.leases == [lease]
        assert orders.reports == [report]
        assert orders.questions == [Resolve("b.test", "")]
        answer = Resolved("b.test", "", "site", (), 5.0)
        link.resolved(answer)
        await until(lambda: peer.of(Kind.RESOLVED))
        assert decoder(Resolved).decode(peer.of(Kind.RESOLVED)[0]) == answer

    run(talk)


def test_link_settlements_are_there_before_the_word_that_the_session_is_over(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        link.settle(settlement(1))
        link.settle(settlement(2))
        link.closed(5, None)
        link.settle(settlement(3))
        await until(lambda: len(peer.of(Kind.SETTLE)) == 2)
        assert peer.kinds("out")[2:] == [Kind.SETTLE, Kind.CLOSED, Kind.SETTLE]
        assert settled(peer.of(Kind.SETTLE)) == [1, 2, 3]
        peer.say("out", Kind.SETTLED, Settled(2))
        await until(lambda: link.n_pending == 0)

    run(talk)


def test_link_lost_says_everything_again_in_order_before_ready(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, orders: Orders) -> None:
        answers = [Answer() for _ in range(5)]
        for number in range(3):
            link.put(head(number), [b"content"], answers[number])
            link.settle(settlement(number))
            # Each settlement in a frame of its own.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await until(lambda: len(peer.of(Kind.SETTLE)) == 3)
        peer.say("in", Kind.STORED, head(0).id)
        peer.say("out", Kind.SETTLED, Settled(1))
        await until(lambda: link.n_pending == 4)
        orders.sessions, orders.parts = ((5, "site", True),), ((5, PART),)
        peer.welcomes = False
        peer.drop()
        await until(lambda: peer.of(Kind.HELLO, 2))
        # What happens while the link is down waits in its place.
        link.put(head(3), [b"content"], answers[3])
        link.settle(settlement(3))
        peer.welcomes = True
        peer.welcome("out")
        await peer.ready(since=2)
        assert peer.kinds("out", 2) == [Kind.HELLO, Kind.SETTLE, Kind.SETTLE, Kind.SETTLE, Kind.READY]
        assert peer.kinds("in", 2) == [Kind.HELLO, Kind.PUT, Kind.PUT, Kind.PUT, Kind.READY]
        assert settled(peer.of(Kind.SETTLE, 2)) == [1, 2, 3]
        assert puts(peer.of(Kind.PUT, 2)) == [(1, 0, True), (2, 0, True), (3, 0, True)]
        hello = decoder(Hello).decode(peer.of(Kind.HELLO, 2)[0])
        assert (hello.incarnation, hello.sessions, hello.held) == (77, ((5, "site", True),), ((5, PART),))
        # Answers are counted from the start.
        peer.say("in", Kind.STORED, head(1).id)
        await until(lambda: answers[1].heard)
        link.put(head(4), [], answers[4])
        await until(lambda: len(peer.of(Kind.PUT, 2)) == 4)
        assert puts(peer.of(Kind.PUT, 2))[3] == (4, 1, False)
        assert [answer.heard for answer in answers] == [[None], [None], [], [], []]

    run(talk)


def test_link_session_that_ends_while_the_link_is_made_again_is_told_before_ready(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, orders: Orders) -> None:
        orders.sessions = ((5, "site", True),)
        peer.welcomes = False
        peer.drop()
        await until(lambda: peer.of(Kind.HELLO, 2))
        # HELLO said that the session is open; now it is not any more.
        link.settle(settlement(1))
        link.closed(5, None)
        peer.welcomes = True
        peer.welcome("out")
        await peer.ready(since=2)
        assert peer.kinds("out", 2) == [Kind.HELLO, Kind.SETTLE, Kind.CLOSED, Kind.READY]
        # What a later HELLO does not name any more need not be said.
        orders.sessions = ()
        peer.drop()
        link.closed(6, None)
        await peer.ready(since=4)
        assert peer.kinds("out", 4) == [Kind.HELLO, Kind.SETTLE, Kind.READY]

    run(talk)


def test_link_tend_answers_451_takes_the_message_back_and_a_late_answer_is_harmless(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        old, new, last = Answer(), Answer(), Answer()
        link.put(head(1), [b"content"], old)
        await asyncio.sleep(0.06)
        link.put(head(2), [b"content"], new)
        link.tend()
        assert [reply.code for reply in old.heard if reply] == [451]
        assert not new.heard
        await until(lambda: peer.of(Kind.WITHDRAW))
        assert peer.of(Kind.WITHDRAW) == [head(1).id]
        assert peer.kinds("in")[2:] in ([Kind.PUT, Kind.PUT, Kind.WITHDRAW], [Kind.PUT, Kind.WITHDRAW, Kind.PUT])
        # One answer to the PUT, one to the WITHDRAW: both are confirmed, and neither is told.
        peer.say("in", Kind.STORED, head(1).id + head(2).id + head(1).id)
        await until(lambda: new.heard)
        assert len(old.heard) == 1
        await until(lambda: not link.n_pending)
        link.tend()
        assert new.heard == [None]
        link.put(head(3), [b"content"], last)
        await until(lambda: len(peer.of(Kind.PUT)) == 3)
        assert puts(peer.of(Kind.PUT))[2] == (3, 3, False)

    run(talk)


def test_link_lost_says_withdrawals_again_before_puts_and_never_what_was_withdrawn(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        answers = [Answer() for _ in range(3)]
        link.put(head(0), [b"content"], answers[0])
        await asyncio.sleep(0.06)
        link.put(head(1), [b"content"], answers[1])
        link.tend()
        await until(lambda: peer.of(Kind.WITHDRAW))
        peer.welcomes = False
        peer.drop()
        await until(lambda: peer.of(Kind.HELLO, 2))
        await asyncio.sleep(0.06)
        # The next one waits too long while there is no link at all.
        link.tend()
        assert [reply.code for answer in answers for reply in answer.heard if reply] == [451, 451]
        link.put(head(2), [b"content"], answers[2])
        peer.welcomes = True
        peer.welcome("out")
        await peer.ready(since=2)
        assert peer.kinds("in", 2) == [Kind.HELLO, Kind.WITHDRAW, Kind.WITHDRAW, Kind.PUT, Kind.READY]
        assert peer.of(Kind.WITHDRAW, 2) == [head(0).id, head(1).id]
        assert puts(peer.of(Kind.PUT, 2)) == [(2, 0, True)]
        assert link.n_pending == 3
        peer.say("in", Kind.STORED, head(0).id + head(1).id + head(2).id)
        await until(lambda: answers[2].heard)
        assert link.n_pending == 0
        # Answered, it is not said a third time.
        peer.drop()
        await peer.ready(since=4)
        assert peer.kinds("in", 4) == [Kind.HELLO, Kind.READY]

    run(talk)


def test_link_put_refused_after_it_was_withdrawn_is_answered_once(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        answer = Answer()
        link.put(head(1), [b"content"], answer)
        await asyncio.sleep(0.06)
        link.tend()
        await until(lambda: peer.of(Kind.WITHDRAW))
        peer.say("in", Kind.REFUSED, Refused(head(1).id, 452, "4.3.1", "full"))
        await asyncio.sleep(0.01)
        assert link.n_pending == 1
        peer.say("in", Kind.STORED, head(1).id)
        await until(lambda: link.n_pending == 0)
        assert [reply.code for reply in answer.heard if reply] == [451]

    run(talk)


def test_link_storage_is_as_the_queue_process_says(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        assert link.has_storage
        peer.say("in", Kind.STORAGE, b"\0")
        await until(lambda: not link.has_storage)
        peer.say("in", Kind.STORAGE, b"\1")
        await until(lambda: link.has_storage)

    run(talk)


def test_link_greeting_and_a_failure_are_said_in_their_order(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        failure = Outcome("deferred", 421, "4.3.2", "the peer ended the session", "mx", "busy")
        link.greeted(5)
        link.settle(settlement(1))
        link.closed(5, failure)
        await until(lambda: peer.of(Kind.CLOSED))
        assert peer.kinds("out")[2:] == [Kind.GREETED, Kind.SETTLE, Kind.CLOSED]
        assert decoder(Closed).decode(peer.of(Kind.CLOSED)[0]) == Closed(5, failure)
        assert decoder(Greeted).decode(peer.of(Kind.GREETED)[0]) == Greeted(5)

    run(talk)


def test_link_notes_past_a_thousand_a_second_are_dropped(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() % 1 > 0.9:
            # Not across the turn of a second.
            await asyncio.sleep(0.11)
        for n in range(1500):
            link.note(b"%d" % n)
        await until(lambda: peer.of(Kind.NOTE))
        assert decoder(Note).decode(peer.of(Kind.NOTE)[0]).events == tuple(b"%d" % n for n in range(1000))

    run(talk)


def test_link_frame_that_goes_wrong_is_told_and_costs_nothing_else(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        answer = Answer()
        link.put(head(1), [], answer)
        await until(lambda: peer.of(Kind.PUT))
        peer.say("in", Kind.ASK, b"")
        peer.say("out", Kind.LEASE, b"\xc1")
        peer.say("in", Kind.STORED, head(1).id)
        await until(lambda: answer.heard)
        assert answer.heard == [None]
        await until(lambda: len([e for note in peer.of(Kind.NOTE) for e in decoder(Note).decode(note).events]) == 2)

    run(talk)

"""Messages in parts at the worker's end: what is kept, what is said again and in which order, what is told to whom."""

import asyncio

from mta.link import Kind, QueueLink, Refused, read_end, read_part
from mta.link.parts import Part
from mta.reply import Reply

from .peer import Answer, Orders, Peer, until
from .test_client import Run, head, run

__all__ = ["run"]


class Sender(Answer):
    """A PartWaiter that remembers what it heard."""

    def __init__(self) -> None:
        super().__init__()
        self.n_stored = 0

    def part_stored(self) -> None:
        """The oldest part is on the disk."""
        self.n_stored += 1


def part(link: QueueLink, message: int, number: int, sender: Sender) -> bytes:
    """Hand over a part that is unlike any other; return its octets."""
    octets = b"%d.%d " % (message, number) * 1000
    link.part(head(message).id, number, memoryview(octets), sender)
    return octets


def said(peer: Peer, since: int = 0) -> list[tuple[int, int, bool, bytes]]:
    """Return (message, number, repeat, octets) of each part that came."""
    parts = [read_part(payload) for payload in peer.of(Kind.PUT_PART, since)]
    return [(int.from_bytes(p.id, "big"), p.number, p.repeat, bytes(p.octets)) for p in parts]


def stored(peer: Peer, message: int, number: int) -> None:
    peer.say("in", Kind.PART_STORED, Part(head(message).id, number, False, memoryview(b"")).stored)


def test_link_parts_are_answered_one_by_one_and_the_end_like_a_put(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        sender = Sender()
        octets = [part(link, 1, number, sender) for number in range(2)]
        link.put(head(1), [b"front"], sender, 2, 5 + sum(map(len, octets)))
        await until(lambda: peer.of(Kind.PUT_END))
        assert peer.kinds("in")[2:] == [Kind.PUT_PART, Kind.PUT_PART, Kind.PUT_END]
        assert said(peer) == [(1, 0, False, octets[0]), (1, 1, False, octets[1])]
        end = read_end(peer.of(Kind.PUT_END)[0])
        assert (end.head, end.content, end.n_parts, end.octets) == (head(1), b"front", 2, 5 + 2 * len(octets[0]))
        assert link.n_pending == 3
        stored(peer, 1, 0)
        await until(lambda: sender.n_stored == 1)
        stored(peer, 1, 1)
        peer.say("in", Kind.STORED, head(1).id)
        await until(lambda: sender.heard)
        assert (sender.n_stored, sender.heard, link.n_pending) == (2, [None], 0)
        # Only the end counts as an answer that may be confirmed.
        link.put(head(2), [b"content"], Answer(), 1, 100)
        await until(lambda: len(peer.of(Kind.PUT_END)) == 2)
        assert read_end(peer.of(Kind.PUT_END)[1]).confirmed == 1

    run(talk)


def test_link_lost_says_unanswered_parts_then_ends_then_aborts_again(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        senders = [Sender() for _ in range(4)]
        octets = [part(link, 1, number, senders[1]) for number in range(3)]
        link.put(head(1), [b"front"], senders[1], 3, 100_000)
        part(link, 2, 0, senders[2])
        link.abort(head(2).id)
        await until(lambda: peer.of(Kind.PUT_ABORT))
        stored(peer, 1, 0)
        await until(lambda: senders[1].n_stored)
        peer.welcomes = False
        peer.drop()
        await until(lambda: peer.of(Kind.HELLO, 2))
        # What is handed over while the link is down is said once it is up, in its place.
        late = part(link, 3, 0, senders[3])
        peer.welcomes = True
        peer.welcome("out")
        await peer.ready(since=2)
        assert peer.kinds("in", 2) == [
            Kind.HELLO,
            Kind.PUT_PART,
            Kind.PUT_PART,
            Kind.PUT_PART,
            Kind.PUT_END,
            Kind.PUT_ABORT,
            Kind.READY,
        ]
        assert said(peer, 2) == [(1, 1, True, octets[1]), (1, 2, True, octets[2]), (3, 0, True, late)]
        assert read_end(peer.of(Kind.PUT_END, 2)[0]).repeat
        assert peer.of(Kind.PUT_ABORT, 2) == [head(2).id]
        # It is repeated until it is answered.
        peer.say("in", Kind.ABORTED, head(2).id)
        await until(lambda: link.n_pending == 4)
        peer.drop()
        await peer.ready(since=4)
        assert peer.of(Kind.PUT_ABORT, 4) == []

    run(talk)


def test_link_part_refused_is_told_once_and_late_answers_are_harmless(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        sender = Sender()
        for number in range(2):
            part(link, 1, number, sender)
        await until(lambda: len(peer.of(Kind.PUT_PART)) == 2)
        for _ in range(2):
            peer.say("in", Kind.PART_REFUSED, Refused(head(1).id, 452, "4.3.1", "full"))
        stored(peer, 1, 1)
        peer.say("in", Kind.ABORTED, head(1).id)
        await until(lambda: sender.heard)
        await asyncio.sleep(0.01)
        assert sender.heard == [Reply(452, "4.3.1", "full")]
        assert (sender.n_stored, link.n_pending) == (0, 0)
        assert peer.of(Kind.NOTE) == []

    run(talk)


def test_link_tend_refuses_parts_that_wait_too_long_and_their_end_is_taken_back(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        old, new = Sender(), Sender()
        part(link, 1, 0, old)
        await asyncio.sleep(0.06)
        part(link, 2, 0, new)
        link.tend()
        assert [reply.code for reply in old.heard if reply] == [451]
        assert new.heard == []
        link.put(head(1), [], old, 1, 100)
        link.abort(head(1).id)
        assert link.n_pending == 3
        peer.drop()
        await peer.ready(since=2)
        assert peer.kinds("in", 2) == [Kind.HELLO, Kind.WITHDRAW, Kind.PUT_PART, Kind.PUT_ABORT, Kind.READY]

    run(talk)


def test_link_settlements_and_notes_of_any_size_fit_their_frames(run: Run) -> None:
    async def talk(peer: Peer, link: QueueLink, _orders: Orders) -> None:
        for number in range(500):
            link.fault(b"%04d" % number * 2500)
        await until(lambda: sum(len(payload) for payload in peer.of(Kind.NOTE)) > 5_000_000)
        assert len(peer.of(Kind.NOTE)) == 5
        assert max(map(len, peer.of(Kind.NOTE))) < 1_010_000

    run(talk)

"""Messages in parts: what each commit holds, what a repeat changes, what is left of those that broke off."""

from collections.abc import Iterator
from typing import NamedTuple, cast

import msgspec
import pytest

from mta.link import Kind, Part, Put
from mta.message import Status
from mta.queue.apply import Arrived
from mta.queue.batch import Batch
from mta.queue.changes import AbortChange, Circumstances, PartChange, PutChange, SettleChange
from mta.queue.guest import Guest
from mta.queue.incoming import orphans
from mta.reply import REPLY_452_STORAGE, Reply
from mta.report import Fault
from mta.store import Writer, decode_extents, decode_message

from .samples import T0, events, n_rows, part_of, put, settlement

PART_OCTETS = 300_000


class Done(NamedTuple):
    """What a commit answered: PUTs with the reply that refuses them, and what arrived."""

    answers: list[tuple[Put, Reply | None]]
    arrived: list[Arrived]


class Queue:
    """A worker of incarnation 7 before a Batch."""

    guest: Guest = cast(Guest, object())

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.batch = Batch(writer)
        self._heard: list[tuple[Kind, bytes]] = []

    def take(self) -> list[tuple[Kind, bytes]]:
        """Return (kind, id) of what was answered since."""
        heard, self._heard = self._heard, []
        return heard

    def part(
        self,
        message: int,
        number: int,
        *,
        repeat: bool = False,
        octets: int = PART_OCTETS,
        incarnation: int = 7,
        reply: Reply | None = None,
    ) -> None:
        part = Part(id_of(message, incarnation), number, repeat, memoryview(bytes([number]) * octets))
        self.batch.add(PartChange(self.guest, part, reply))

    def end(self, message: int, n_parts: int, *, repeat: bool = False, octets: int = 0) -> Put:
        put_ = end(message, n_parts, repeat=repeat, octets=octets)
        self.batch.add(PutChange(self.guest, put_))
        return put_

    def abort(self, id_: bytes) -> None:
        self.batch.add(AbortChange(self.guest, id_))

    def settle(self, message: Put, *fates: Status) -> None:
        self.batch.add(SettleChange(settlement(message, 0, *fates), T0))

    def sweep(self, living: set[int]) -> None:
        for id_ in orphans(self.writer, living):
            self.batch.add(AbortChange(None, id_))

    def commit(self, repeatable: set[bytes] | None = None) -> Done:
        changes = self.batch.commit(
            Circumstances(T0, lambda _: False, lambda id_: id_ in (repeatable or set()))
        ).changes
        done = Done([], [])
        for change in changes:
            if isinstance(change, PartChange):
                kind = Kind.PART_STORED if change.reply is None else Kind.PART_REFUSED
                self._heard.append((kind, change.part.id))
            elif isinstance(change, AbortChange) and change.guest is not None:
                self._heard.append((Kind.ABORTED, change.id))
            elif isinstance(change, PutChange):
                done.answers.append((change.put, change.reply))
                done.arrived.extend(change.arrived or ())
        return done

    def empty_trash(self) -> int:
        """Commit until it is empty; return how often that took."""
        n_commits = 0
        while self.batch.has_trash:
            self.commit()
            n_commits += 1
        return n_commits

    def rows(self) -> dict[str, int]:
        """Return how many rows there are of what may be left over."""
        return n_rows(self.writer, "incoming", "trash", "message", "body")


def id_of(message: int, incarnation: int = 7) -> bytes:
    return bytes(8) + incarnation.to_bytes(4, "big") + message.to_bytes(4, "big")


def end(message: int, n_parts: int, *, repeat: bool = False, octets: int = 0) -> Put:
    """Return the PUT_END of a message."""
    made = put(message, ("a@b.test",), content=b"front", repeat=repeat)
    head = msgspec.structs.replace(made.head, id=id_of(message))
    return Put(head, b"front", 0, repeat, n_parts, octets or 5 + n_parts * PART_OCTETS)


@pytest.fixture
def queue(writer: Writer) -> Iterator[Queue]:
    made = Queue(writer)
    yield made
    assert [event for event in events(writer) if isinstance(event, Fault)] == []


def test_parts_are_committed_one_by_one_and_the_end_makes_them_a_message(queue: Queue) -> None:
    for number in range(3):
        queue.part(1, number)
        assert queue.batch.is_awaited
        queue.commit()
        assert queue.take() == [(Kind.PART_STORED, id_of(1))]
        ((_, value),) = queue.writer.look("incoming", b"", 9)
        assert [octets for _, octets in decode_extents(value)] == [PART_OCTETS] * (number + 1)
    assert queue.writer.live_octets == 3 * PART_OCTETS
    queue.end(1, 3)
    ((_, reply),) = queue.commit().answers
    assert reply is None
    assert n_rows(queue.writer, "incoming", "message") == {"incoming": 0, "message": 1}
    row = decode_message(queue.writer.look_up("message", id_of(1)) or b"")
    assert row.octets == queue.writer.live_octets == 5 + 3 * PART_OCTETS
    # What goes in front is the first extent, although it was the last to come.
    assert [octets for _, octets in row.extents] == [5, *[PART_OCTETS] * 3]
    assert row.extents[0][0] > row.extents[1][0]


def test_parts_and_end_in_one_commit_are_a_message(queue: Queue) -> None:
    queue.part(1, 0)
    queue.part(1, 1, octets=7)
    queue.end(1, 2, octets=5 + PART_OCTETS + 7)
    ((_, reply),) = queue.commit().answers
    assert reply is None
    assert n_rows(queue.writer, "incoming", "message") == {"incoming": 0, "message": 1}


def test_part_of_the_full_size_fills_a_batch(queue: Queue) -> None:
    queue.part(1, 0, octets=(1 << 20) - 1)
    assert not queue.batch.is_full
    queue.part(2, 0, octets=1)
    assert queue.batch.is_full
    queue.commit()
    assert not queue.batch.is_full


def test_everything_said_again_at_any_stage_changes_nothing(queue: Queue) -> None:
    queue.part(1, 0)
    queue.commit()
    # The link was lost: its last answer did not arrive, and more of it was in the batch.
    queue.part(1, 1)
    queue.part(1, 0, repeat=True)
    queue.part(1, 1, repeat=True)
    queue.commit()
    assert queue.writer.live_octets == 2 * PART_OCTETS
    queue.end(1, 2)
    queue.part(1, 1, repeat=True)
    queue.end(1, 2, repeat=True)
    done = queue.commit()
    assert [reply for _, reply in done.answers] == [None, None]
    assert len(done.arrived) == 1
    for _ in range(2):
        queue.part(1, 1, repeat=True)
        queue.end(1, 2, repeat=True)
        assert [reply for _, reply in queue.commit().answers] == [None]
    assert {kind for kind, _ in queue.take()} == {Kind.PART_STORED}
    assert queue.writer.live_octets == 5 + 2 * PART_OCTETS
    # It was delivered meanwhile.
    whole = end(1, 2)
    queue.settle(whole, "delivered")
    queue.commit({id_of(1)})
    queue.part(1, 1, repeat=True)
    queue.end(1, 2, repeat=True)
    assert [reply for _, reply in queue.commit().answers] == [None]
    assert queue.take() == [(Kind.PART_STORED, id_of(1))]
    queue.empty_trash()
    assert queue.rows() == dict.fromkeys(("incoming", "trash", "message", "body"), 0)
    assert queue.writer.live_octets == 0


def test_abort_at_any_stage_leaves_nothing(queue: Queue) -> None:
    # Nothing had come, or something, or it comes in the same commit.
    queue.abort(id_of(1))
    queue.part(2, 0)
    queue.commit()
    queue.abort(id_of(2))
    queue.part(3, 0)
    queue.abort(id_of(3))
    queue.commit()
    assert [id_ for kind, id_ in queue.take() if kind == Kind.ABORTED] == [id_of(1), id_of(2), id_of(3)]
    # Said again, because the answer was lost.
    queue.abort(id_of(2))
    queue.commit()
    assert queue.take() == [(Kind.ABORTED, id_of(2))]
    queue.empty_trash()
    assert queue.rows() == dict.fromkeys(("incoming", "trash", "message", "body"), 0)
    assert queue.writer.live_octets == 0


def test_abort_of_a_message_that_is_stored_changes_nothing(queue: Queue) -> None:
    queue.part(1, 0)
    queue.end(1, 1)
    queue.abort(id_of(1))
    queue.commit()
    assert queue.rows()["message"] == 1
    assert queue.writer.live_octets == 5 + PART_OCTETS


def test_sweep_takes_what_no_living_worker_made(queue: Queue) -> None:
    for incarnation in (6, 7, 8):
        queue.part(1, 0, octets=1, incarnation=incarnation)
    queue.commit()
    queue.sweep({7})
    queue.commit()
    assert [id_ for id_, _ in queue.writer.look("incoming", b"", 9)] == [id_of(1, 7)]
    queue.empty_trash()
    assert queue.writer.live_octets == 1
    queue.sweep({7})
    assert not queue.batch.has_work


@pytest.mark.parametrize("n_parts", [1, 3])
def test_end_with_other_parts_than_came_is_refused_and_no_fault(queue: Queue, n_parts: int) -> None:
    queue.part(1, 0)
    queue.part(1, 1)
    queue.end(1, n_parts)
    queue.end(2, 1)
    assert [reply.code if reply else 250 for _, reply in queue.commit().answers] == [451, 451]
    assert queue.rows()["message"] == 0


def test_part_behind_a_gap_is_refused_and_costs_nobody_else(queue: Queue) -> None:
    queue.part(1, 1)
    queue.part(2, 0)
    queue.commit()
    assert queue.take() == [(Kind.PART_REFUSED, id_of(1)), (Kind.PART_STORED, id_of(2))]
    assert queue.writer.live_octets == PART_OCTETS


def test_part_without_room_is_refused_unless_it_is_a_repeat(queue: Queue) -> None:
    # Whether there is room is for the desk to say.
    queue.part(1, 0, octets=1, reply=REPLY_452_STORAGE)
    queue.part(1, 1, octets=1)
    queue.part(2, 0, octets=1, repeat=True)
    queue.commit()
    refused, missing, stored = queue.take()
    assert (refused, missing) == ((Kind.PART_REFUSED, id_of(1)), (Kind.PART_REFUSED, id_of(1)))
    assert stored == (Kind.PART_STORED, id_of(2))


def test_part_that_cannot_be_applied_costs_nobody_else(writer: Writer) -> None:
    queue = Queue(writer)
    queue.part(1, 0)
    queue.part(1, 0, octets=3)
    queue.part(2, 0)
    queue.commit()
    assert queue.take() == [
        (Kind.PART_STORED, id_of(1)),
        (Kind.PART_REFUSED, id_of(1)),
        (Kind.PART_STORED, id_of(2)),
    ]
    queue.commit()
    (fault,) = [event for event in events(writer) if isinstance(event, Fault)]
    assert "different content" in fault.detail


def test_end_whose_parts_are_not_its_octets_is_refused(writer: Writer) -> None:
    queue = Queue(writer)
    queue.part(1, 0)
    queue.end(1, 1, octets=77)
    assert [reply.code if reply else 250 for _, reply in queue.commit().answers] == [451]
    assert queue.rows()["incoming"] == 1


# Removal in slices


def test_large_message_settled_goes_in_slices_that_a_restart_does_not_stop(queue: Queue) -> None:
    for number in range(10):
        queue.part(1, number)
        queue.commit()
    whole = queue.end(1, 10)
    queue.commit()
    n_chunks = queue.rows()["body"]
    assert n_chunks == 10 * 149 + 1
    queue.settle(whole, "delivered")
    queue.commit()
    # The message is gone with its settlement; its content goes from the next commit on.
    assert queue.rows() == {"incoming": 0, "trash": 1, "message": 0, "body": n_chunks}
    assert queue.writer.live_octets == 5 + 10 * PART_OCTETS
    queue.commit()
    assert queue.rows() == {"incoming": 0, "trash": 1, "message": 0, "body": n_chunks - 500}
    assert queue.writer.live_octets == 5 + 10 * PART_OCTETS - (3 * PART_OCTETS + 53 * 2016 - (149 * 2016 - PART_OCTETS))
    queue.batch = Batch(queue.writer)
    assert queue.batch.has_trash
    assert queue.batch.has_work
    assert not queue.batch.has_news
    queue.commit()
    assert queue.rows()["body"] == n_chunks - 1000
    assert queue.empty_trash() == 1
    assert queue.rows() == dict.fromkeys(("incoming", "trash", "message", "body"), 0)
    assert queue.writer.live_octets == 0
    assert part_of(whole).startswith(id_of(1))


def test_small_message_settled_goes_at_once(queue: Queue) -> None:
    small = put(1, ("a@b.test",), content=bytes(262_144))
    queue.batch.add(PutChange(queue.guest, small))
    queue.commit()
    queue.settle(small, "delivered")
    queue.commit()
    assert queue.rows() == dict.fromkeys(("incoming", "trash", "message", "body"), 0)
    assert not queue.batch.has_trash


def test_trash_leaves_alone_what_others_share(queue: Queue) -> None:
    queue.part(1, 0)
    queue.part(1, 1)
    whole = queue.end(1, 2)
    queue.commit()
    extents = decode_message(queue.writer.look_up("message", id_of(1)) or b"").extents
    queue.writer.begin()
    queue.writer.share_extent(extents[1][0])
    queue.writer.commit()
    queue.settle(whole, "delivered")
    queue.commit()
    queue.empty_trash()
    assert queue.writer.live_octets == PART_OCTETS
    assert n_rows(queue.writer, "extent", "trash", "body") == {"extent": 0, "trash": 0, "body": 149}
    queue.writer.begin()
    queue.writer.remove_extent(*extents[1])
    queue.writer.commit()
    assert queue.writer.live_octets == 0


def test_trash_that_cannot_be_deleted_is_passed_over_and_told(writer: Writer) -> None:
    writer.begin()
    assert writer.add("trash", bytes(16), b"\xc1")
    writer.commit()
    queue = Queue(writer)
    for message in (1, 2):
        queue.part(message, 0)
        queue.commit()
        queue.abort(id_of(message))
    queue.commit()
    queue.empty_trash()
    assert queue.rows() == {"incoming": 0, "trash": 1, "message": 0, "body": 0}
    queue.commit()
    assert len([event for event in events(writer) if isinstance(event, Fault)]) == 1

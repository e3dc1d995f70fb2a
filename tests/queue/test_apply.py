"""What a PUT and a settlement change in the tables."""

import msgspec
import pytest

from mta.link import Put, Settlement
from mta.message import Outcome
from mta.queue.apply import LATE_MS, put_message, settle_part
from mta.report import Bounced, Deferred, Delivered, Expired, Fault, Received
from mta.store import (
    EXPIRE,
    Writer,
    decode_part,
    due_key,
    message_of,
    part_name,
    recipient_key,
    timer_key,
    timer_of,
    turn,
)
from mta.store.codec import decode_counter

from .samples import T0, Teller, events, n_rows, notice, part_of, put, settlement

FIRST = ("x@b.test", "y@b.test", "z@b.test")
TABLES = ("message", "part", "recipient", "body", "due", "timer")


def test_put_message_of_two_parts_has_all_its_rows(writer: Writer) -> None:
    message = put(1, FIRST, ("q@c.test",), content=bytes(3000))
    writer.begin()
    arrived = put_message(writer, message.head, message.content, T0, repeat=False)
    writer.commit()
    assert arrived is not None
    assert [(a.name.domain, a.part) for a in arrived] == [
        ("b.test", part_of(message, 0)),
        ("c.test", part_of(message, 1)),
    ]
    assert n_rows(writer, *TABLES, "wake") == {
        "message": 1, "part": 2, "recipient": 4, "body": 2, "due": 2, "timer": 2, "wake": 2,
    }  # fmt: skip
    for arrival, cost in zip(arrived, (3, 1), strict=True):
        assert arrival.cost == cost
        assert writer.look_up("due", due_key(arrival.queue, T0, arrival.part)) == turn(cost)
        assert writer.look_up("timer", timer_key(T0 + 1_000_000, arrival.part, EXPIRE)) == b""
    assert [type(event) for event in events(writer)] == [Received]


def test_put_message_repeated_is_not_stored_twice(writer: Writer) -> None:
    message = put(1, FIRST)
    for repeat in (False, True):
        writer.begin()
        arrived = put_message(writer, message.head, message.content, T0, repeat=repeat)
        writer.commit()
        assert (arrived is None) == repeat
    assert n_rows(writer, "message", "recipient", "event") == {"message": 1, "recipient": 3, "event": 1}


def test_put_message_repeated_after_it_went_is_not_stored_again(writer: Writer) -> None:
    message = put(1, ("x@b.test",))
    writer.begin()
    put_message(writer, message.head, message.content, T0, repeat=False)
    writer.commit()
    writer.begin()
    off = settle_part(writer, settlement(message, 0, "delivered"), T0 + 1, T0 + 2, keep_id=True)
    assert off.removed == message.head.id
    assert put_message(writer, message.head, message.content, T0, repeat=True) is None
    writer.commit()
    assert n_rows(writer, *TABLES) == dict.fromkeys(TABLES, 0)


@pytest.mark.parametrize("repeat", [False, True])
def test_put_message_other_content_under_one_id_is_refused(writer: Writer, repeat: bool) -> None:
    message = put(1, FIRST)
    writer.begin()
    put_message(writer, message.head, message.content, T0, repeat=False)
    with pytest.raises(ValueError, match="twice"):
        put_message(writer, message.head, b"something else", T0, repeat=repeat)
    writer.abort()


def test_settle_part_that_is_gone_is_off_for_good(writer: Writer) -> None:
    writer.begin()
    message = put(1, ("x@b.test",))
    off = settle_part(writer, settlement(message, 0, "delivered"), T0, T0 + 1, keep_id=True)
    assert (off.part, off.due, off.removed) == (part_of(message), 0, b"")
    writer.commit()
    assert n_rows(writer, "event", "counter", "gone") == {"event": 0, "counter": 0, "gone": 0}


@pytest.mark.parametrize(
    ("attempt", "keeps"),
    [
        # An attempt that is over, one that has not begun.
        (0, True),
        (2, True),
        (1, False),
    ],
)
def test_settle_part_of_another_attempt_changes_nothing(writer: Writer, attempt: int, keeps: bool) -> None:
    message = put(1, ("x@b.test",))
    writer.begin()
    put_message(writer, message.head, message.content, T0, repeat=False)
    settle_part(writer, settlement(message, 0, "deferred"), T0 + 1, T0 + 500, keep_id=False)
    off = settle_part(writer, settlement(message, attempt, "deferred"), T0 + 2, T0 + 600, keep_id=False)
    # Either way the part is told when it is due.
    assert off.due == T0 + (500 if keeps else 600)
    writer.commit()
    assert n_rows(writer, "due", "recipient") == {"due": 1, "recipient": 1}


def test_settle_part_two_delivered_one_deferred_leaves_one(writer: Writer) -> None:
    message = put(1, FIRST)
    writer.begin()
    arrived = put_message(writer, message.head, message.content, T0, repeat=False)
    writer.commit()
    assert arrived is not None
    writer.begin()
    told = settlement(message, 0, "delivered", "deferred", "delivered")
    off = settle_part(writer, told, T0 + 2_000, T0 + 9_000, keep_id=False)
    writer.commit()
    assert (off.due, off.removed) == (T0 + 9_000, b"")
    assert n_rows(writer, "message", "part", "recipient", "due") == {"message": 1, "part": 1, "recipient": 1, "due": 1}
    assert writer.look_up("recipient", recipient_key(off.part, 1)) is not None
    assert writer.look_up("due", due_key(arrived[0].queue, T0 + 9_000, off.part)) is not None
    part = decode_part(writer.look_up("part", off.part) or b"")
    assert (part.attempt, part.n_open, part.due) == (1, 1, T0 + 9_000)
    counters = decode_counter(writer.look("counter", b"", 1)[0][1])
    assert (counters.received, counters.delivered) == (3, 2)
    _, *fates = events(writer)
    assert [(type(f), f.number, f.attempts, f.next_at) for f in fates if isinstance(f, Delivered | Deferred)] == [
        (Delivered, 0, 1, 0),
        (Deferred, 1, 1, T0 + 9_000),
        (Delivered, 2, 1, 0),
    ]
    assert {f.queued_s for f in fates if isinstance(f, Delivered | Deferred)} == {2.0}
    # The rest: the message goes with its last recipient.
    rest = msgspec.structs.replace(told, attempt=1, results=((1, "y@b.test", told.results[0][2]),))
    writer.begin()
    assert settle_part(writer, rest, T0 + 9_001, 0, keep_id=False).removed == message.head.id
    writer.commit()
    assert n_rows(writer, *TABLES) == dict.fromkeys(TABLES, 0)
    assert writer.live_octets == 0


@pytest.mark.parametrize("now", [T0 + 99, T0 + 100, T0 + 101])
def test_settle_part_deferred_as_old_as_it_may_get_waits_for_its_timer(writer: Writer, now: int) -> None:
    message = put(1, ("x@b.test",), lifetime_ms=100)
    writer.begin()
    put_message(writer, message.head, message.content, T0, repeat=False)
    writer.commit()
    writer.begin()
    off = settle_part(writer, settlement(message, 0, "deferred"), now, now + 1000, keep_id=False)
    writer.commit()
    # It is not tried again, and told so: the report that its timer asks for ends it, however late that comes.
    assert off.due == max(T0 + 100, now) + LATE_MS
    assert events(writer)[1].next_at == T0 + 100  # type: ignore[union-attr]
    assert isinstance(events(writer)[1], Deferred)
    assert writer.look_up("timer", timer_key(T0 + 100, off.part, EXPIRE)) == b""


def test_settle_part_deferred_to_the_past_is_due_now(writer: Writer) -> None:
    # The schedule may have read its queue further than that already.
    message = put(1, ("x@b.test",))
    writer.begin()
    put_message(writer, message.head, message.content, T0, repeat=False)
    off = settle_part(writer, settlement(message, 0, "deferred"), T0 + 50, T0 + 10, keep_id=False)
    writer.commit()
    assert off.due == T0 + 50


# Notices


def bounced(message: Put, attempt: int = 0) -> Settlement:
    return msgspec.structs.replace(settlement(message, attempt, "bounced"), notice=notice(900, message))


def test_settle_part_with_a_notice_stores_it_with_the_failure(writer: Writer) -> None:
    message = put(1, ("x@b.test",), tenant="acme")
    writer.begin()
    put_message(writer, message.head, message.content, T0, repeat=False)
    writer.commit()
    writer.begin()
    off = settle_part(writer, bounced(message), T0 + 5, 0, keep_id=False)
    writer.commit()
    assert (off.due, off.removed) == (0, message.head.id)
    ((key, _),) = writer.look("message", b"", 9)
    assert int.from_bytes(key, "big") == 900
    assert [(arrived.part, arrived.name.domain) for arrived in off.arrived] == [(part_name(key, 0), "a.test")]
    ((timer, _),) = writer.look("timer", b"", 9)
    assert timer_of(timer) == (T0 + 5 + 500_000, part_name(key, 0), EXPIRE)
    row = decode_counter(writer.look("counter", b"", 1)[0][1])
    assert (row.tenant, row.received, row.bounced) == ("acme", 2, 1)
    assert [type(event) for event in events(writer)] == [Received, Bounced, Received]


def test_settle_part_of_another_attempt_stores_nothing_of_its_notice(writer: Writer) -> None:
    message = put(1, ("x@b.test",))
    writer.begin()
    put_message(writer, message.head, message.content, T0, repeat=False)
    settle_part(writer, settlement(message, 0, "deferred"), T0 + 1, T0 + 500, keep_id=False)
    assert settle_part(writer, bounced(message), T0 + 5, 0, keep_id=False).arrived == ()
    writer.commit()
    assert n_rows(writer, "message", "body") == {"message": 1, "body": 1}
    assert writer.n_messages == 1
    assert len(events(writer)) == 2


def test_settle_part_said_twice_stores_one_notice(writer: Writer) -> None:
    message = put(1, ("x@b.test",))
    writer.begin()
    put_message(writer, message.head, message.content, T0, repeat=False)
    writer.commit()
    writer.begin()
    for _ in range(2):
        settle_part(writer, bounced(message), T0 + 5, 0, keep_id=False)
    writer.commit()
    assert n_rows(writer, "message", "counter") == {"message": 1, "counter": 1}


def test_settle_part_whose_notice_cannot_be_stored_is_not_settled_either(writer: Writer) -> None:
    message, other = put(1, ("x@b.test",)), put(900, ("y@b.test",))
    teller = Teller(writer)
    teller.put(message)
    teller.put(other)
    teller.commit()
    teller.settle(bounced(message), 0)
    told = teller.commit()
    assert [failed.part for failed in told.failed] == [part_of(message)]
    assert n_rows(writer, "message", "recipient") == {"message": 2, "recipient": 2}
    assert [type(event) for event in events(writer)] == [Received, Received, Fault]


@pytest.mark.parametrize(("is_report", "attempts"), [(False, 2), (True, 1)])
def test_settle_part_counts_attempts_and_no_reports(writer: Writer, is_report: bool, attempts: int) -> None:
    message = put(1, ("x@b.test",))
    writer.begin()
    put_message(writer, message.head, message.content, T0, repeat=False)
    writer.commit()
    writer.begin()
    settle_part(writer, settlement(message, 0, "deferred"), T0 + 1, T0 + 500, keep_id=False)
    told = msgspec.structs.replace(settlement(message, 1, "expired"), is_report=is_report)
    settle_part(writer, told, T0 + 600, 0, keep_id=False)
    writer.commit()
    expired = events(writer)[-1]
    assert isinstance(expired, Expired)
    assert expired.attempts == attempts
    assert n_rows(writer, *TABLES) == dict.fromkeys(TABLES, 0)


DEFERRED = Outcome("deferred", 450, "", "", "", "")


@pytest.mark.parametrize(
    "numbers",
    [
        # One that is not there, too few, too many, one of them twice.
        (0, 1, 7),
        (0, 1),
        (0, 1, 2, 3),
        (0, 1, 1),
        (0, 1, 1, 2),
    ],
)
@pytest.mark.parametrize("status", ["delivered", "deferred"])
def test_settle_part_that_names_other_recipients_is_an_error(
    writer: Writer, numbers: tuple[int, ...], status: str
) -> None:
    message = put(1, FIRST)
    writer.begin()
    put_message(writer, message.head, message.content, T0, repeat=False)
    outcome = msgspec.structs.replace(DEFERRED, status=status)
    results = tuple((n, "a@b.test", outcome) for n in numbers)
    told = msgspec.structs.replace(settlement(message, 0, "delivered", "delivered", "delivered"), results=results)
    with pytest.raises(Exception, match=r"recipient|is not there"):
        settle_part(writer, told, T0 + 1, T0 + 2, keep_id=False)
    writer.abort()
    assert message_of(told.part) == message.head.id

"""Operators' orders on parts in every state, given twice, with the books in balance; withdrawals and deaths."""

import msgspec
import pytest

from mta.link import Order, OrderName
from mta.queue.apply import LATE_MS
from mta.queue.changes import DeathChange, WithdrawChange
from mta.report import Deferred, Dropped, SetAside
from mta.store import (
    BOUNCE,
    EXPIRE,
    NEVER_MS,
    SUSPECT_DEATHS,
    PartRow,
    Writer,
    decode_part,
    decode_queue,
    due_of,
    move_wake,
    number,
    number_key,
    timer_of,
    turn_of,
)
from mta.store.codec import decode_counter

from .samples import NOBODY, T0, Teller, events, n_rows, part_of, put, settlement

MESSAGE = put(1, ("x@b.test", "y@b.test"))
PART = part_of(MESSAGE)
LATER = T0 + 60_000
NOW = T0 + 1_000
ORDERS: tuple[OrderName, ...] = ("retry", "hold", "release", "remove", "bounce")
STATES = ("waiting", "deferred", "held", "aside", "leased")


def stands(writer: Writer) -> tuple[str, int, str, int]:
    """Return (state, due, order, kind of timer) of the part, and check that its rows agree; "gone" if it is."""
    row = writer.look_up("part", PART)
    if row is None:
        tables = ("message", "part", "recipient", "body", "due", "timer", "gone")
        assert n_rows(writer, *tables) == dict.fromkeys(tables, 0)
        assert writer.live_octets == writer.n_messages == 0
        return "gone", 0, "", 0
    part = decode_part(row)
    ((due, value),) = writer.look("due", b"", 9)
    ((timer, _),) = writer.look("timer", b"", 9)
    assert due_of(due) == (part.due, PART)
    assert turn_of(value) == (part.cost, part.deaths >= SUSPECT_DEATHS)
    assert timer_of(timer)[:2] == (part.expires, PART)
    if part.due < NEVER_MS:
        # The queue is looked at by then, even after a kill.
        assert decode_queue(writer.look_up("queue", number_key(part.queue)) or b"").wake <= part.due
    return part.state, part.due, part.order, timer_of(timer)[2]


def balance(writer: Writer) -> tuple[int, int]:
    """Return (queued, dropped) recipients, and check that nothing is lost."""
    row = decode_counter(writer.look("counter", b"", 1)[0][1])
    queued = n_rows(writer, "recipient")["recipient"]
    assert row.received == row.delivered + row.bounced + row.expired + row.dropped + queued
    assert row.dropped == sum(isinstance(event, Dropped) for event in events(writer))
    return queued, row.dropped


def made(writer: Writer, state: str) -> Teller:
    """Return a batch over a queue in which the message is in that state."""
    teller = Teller(writer)
    teller.put(MESSAGE)
    (arrived,) = teller.commit().arrived
    if state == "deferred":
        teller.settle(settlement(MESSAGE, 0, "deferred", "deferred"), LATER)
    elif state == "held":
        teller.order(Order("hold", (MESSAGE.head.id,)))
    elif state == "aside":
        teller.settle(msgspec.structs.replace(settlement(MESSAGE, 0, "delivered", "delivered"), results=()), 0)
    elif state == "leased":
        teller.leased.add(PART)
    teller.commit()
    if state != "leased":
        # Its queue went to sleep until then.
        row = decode_queue(writer.look_up("queue", number_key(arrived.queue)) or b"")
        ((due, _),) = writer.look("due", b"", 9)
        writer.begin()
        move_wake(writer, arrived.queue, row, due_of(due)[0])
        writer.commit()
    return teller


def row_of(state: str) -> tuple[str, int, str, int]:
    due = {"deferred": LATER, "held": NEVER_MS, "aside": NEVER_MS}.get(state, T0)
    return (state if state in ("held", "aside") else ""), due, "", EXPIRE


EXPECTED: dict[tuple[str, str], tuple[str, int, str, int]] = {
    **{("retry", state): ("", NOW, "", EXPIRE) for state in ("waiting", "deferred")},
    **{("retry", state): row_of(state) for state in ("held", "aside")},
    ("retry", "leased"): ("", T0, "retry", EXPIRE),
    **{("hold", state): ("held", NEVER_MS, "", EXPIRE) for state in ("waiting", "deferred", "held")},
    ("hold", "aside"): row_of("aside"),
    ("hold", "leased"): ("", T0, "hold", EXPIRE),
    **{("release", state): row_of(state) for state in ("waiting", "deferred", "leased")},
    **{("release", state): ("", NOW, "", EXPIRE) for state in ("held", "aside")},
    **{("remove", state): ("gone", 0, "", 0) for state in ("waiting", "deferred", "held", "aside")},
    ("remove", "leased"): ("", T0, "remove", EXPIRE),
    **{("bounce", state): (*row_of(state)[:2], "bounce", BOUNCE) for state in STATES},
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("order", ORDERS)
def test_order_given_twice_on_a_part_in_each_state_does_it_once(writer: Writer, order: OrderName, state: str) -> None:
    teller = made(writer, state)
    assert stands(writer) == row_of(state)
    expected = EXPECTED[order, state]
    is_change = expected != row_of(state)
    first = teller.order(Order(order, (MESSAGE.head.id,)))
    teller.commit(NOW)
    assert stands(writer) == expected
    assert (first.n_changed, len(first.moved)) == (is_change, is_change)
    if is_change:
        (moved,) = first.moved
        assert (moved.part, moved.due, moved.is_up) == (PART, expected[1], order == "bounce")
    is_gone = expected[0] == "gone"
    assert balance(writer) == ((0, 2) if is_gone else (2, 0))
    again = teller.order(Order(order, (MESSAGE.head.id,)))
    teller.commit(NOW)
    # To try at once what is tried at once is no change to the rows, but a path that rests goes on again.
    is_again = order == "retry" and state in ("waiting", "deferred")
    assert (again.n_changed, again.unknown) == (is_again, [MESSAGE.head.id] if is_gone else [])
    assert stands(writer) == expected
    assert balance(writer) == ((0, 2) if is_gone else (2, 0))


@pytest.mark.parametrize(
    ("order", "after"),
    [
        ("retry", ("", NOW, "", EXPIRE)),
        ("hold", ("held", NEVER_MS, "", EXPIRE)),
        ("remove", ("gone", 0, "", 0)),
        ("bounce", ("", NOW + LATE_MS, "bounce", BOUNCE)),
        ("release", ("", LATER, "", EXPIRE)),
    ],
)
def test_order_on_a_leased_part_is_carried_out_when_it_is_settled(
    writer: Writer, order: OrderName, after: tuple[str, int, str, int]
) -> None:
    teller = made(writer, "leased")
    teller.order(Order(order, (MESSAGE.head.id,)))
    teller.commit(NOW)
    teller.settle(settlement(MESSAGE, 0, "deferred", "delivered"), LATER)
    teller.commit(NOW)
    assert stands(writer) == after
    assert balance(writer) == ((0, 1) if order == "remove" else (1, 0))


def test_order_on_a_leased_part_another_one_takes_its_place_and_release_takes_it_back(writer: Writer) -> None:
    teller = made(writer, "leased")
    wanted: tuple[tuple[OrderName, str], ...] = (("hold", "hold"), ("retry", "retry"), ("release", ""))
    for order, written in wanted:
        teller.order(Order(order, (MESSAGE.head.id,)))
        teller.commit(NOW)
        assert stands(writer)[2] == written
    teller.settle(settlement(MESSAGE, 0, "deferred", "deferred"), LATER)
    teller.commit(NOW)
    assert stands(writer) == ("", LATER, "", EXPIRE)


@pytest.mark.parametrize("order", ["hold", "remove"])
def test_order_in_one_commit_with_the_parts_settlement_is_carried_out(writer: Writer, order: OrderName) -> None:
    teller = made(writer, "leased")
    # The settlement came first: this attempt is over, and the next one must not be made.
    teller.settle(settlement(MESSAGE, 0, "deferred", "deferred"), LATER)
    teller.order(Order(order, (MESSAGE.head.id,)))
    teller.commit(NOW)
    assert stands(writer)[0] == {"hold": "held", "remove": "gone"}[order]


def test_order_on_unknown_messages_names_them_and_does_the_others(writer: Writer) -> None:
    teller = made(writer, "waiting")
    change = teller.order(Order("hold", (bytes(16), MESSAGE.head.id, bytes(15) + b"\7")))
    teller.commit(NOW)
    assert change.unknown == [bytes(16), bytes(15) + b"\7"]
    assert change.n_changed == 1
    assert stands(writer)[0] == "held"


def test_order_remove_of_one_part_leased_and_one_waiting_ends_with_the_last(writer: Writer) -> None:
    teller = Teller(writer)
    message = put(1, ("x@b.test",), ("y@c.test",))
    teller.put(message)
    teller.commit()
    teller.leased.add(part_of(message, 1))
    change = teller.order(Order("remove", (message.head.id,)))
    teller.commit(NOW)
    assert change.n_changed == 1
    assert n_rows(writer, "message", "part", "body") == {"message": 1, "part": 1, "body": 1}
    teller.settle(settlement(message, 0, "delivered", number=1), 0)
    assert [off.removed for off in teller.commit(NOW).off] == [message.head.id]
    assert balance(writer) == (0, 1)
    assert writer.live_octets == 0


def test_release_forgives_the_deaths(writer: Writer) -> None:
    teller = made(writer, "waiting")
    for _ in range(SUSPECT_DEATHS + 1):
        teller.add(DeathChange(PART, "default"))
        teller.commit(NOW)
    assert stands(writer)[0] == "aside"
    teller.order(Order("release", (MESSAGE.head.id,)))
    teller.commit(NOW)
    assert stands(writer) == ("", NOW, "", EXPIRE)
    assert part(writer).deaths == 0


def part(writer: Writer) -> PartRow:
    return decode_part(writer.look_up("part", PART) or b"")


# Deaths


def test_deaths_are_counted_make_a_suspect_and_set_aside_with_an_event(writer: Writer) -> None:
    teller = made(writer, "waiting")
    for n_deaths in range(1, SUSPECT_DEATHS + 1):
        teller.add(DeathChange(PART, "default"))
        teller.commit(NOW)
        assert (part(writer).deaths, part(writer).state, part(writer).attempt) == (n_deaths, "", 0)
        assert stands(writer)[1] == T0
    teller.add(DeathChange(PART, "default"))
    teller.commit(NOW)
    assert stands(writer) == ("aside", NEVER_MS, "", EXPIRE)
    (told,) = [event for event in events(writer) if isinstance(event, SetAside)]
    assert (told.id, told.part, told.reason) == (MESSAGE.head.id, 0, "3 workers died while they had it")
    # One that is gone is nobody's concern.
    teller.order(Order("remove", (MESSAGE.head.id,)))
    teller.add(DeathChange(PART, "default"))
    teller.commit(NOW)
    assert stands(writer)[0] == "gone"


# Withdrawals


def withdrawn(teller: Teller) -> list[bytes]:
    change = WithdrawChange(NOBODY, MESSAGE.head.id)
    teller.add(change)
    teller.commit(NOW)
    return [moved.part for moved in change.moved]


def test_withdraw_of_what_nobody_tried_drops_it_once(writer: Writer) -> None:
    teller = made(writer, "waiting")
    assert withdrawn(teller) == [PART]
    assert stands(writer)[0] == "gone"
    assert balance(writer) == (0, 2)
    assert withdrawn(teller) == []
    assert balance(writer) == (0, 2)


@pytest.mark.parametrize("state", ["deferred", "leased"])
def test_withdraw_of_what_was_tried_leaves_it(writer: Writer, state: str) -> None:
    teller = made(writer, state)
    assert withdrawn(teller) == []
    assert stands(writer) == row_of(state)
    assert balance(writer) == (2, 0)


def test_withdraw_in_one_commit_with_its_message_drops_it(writer: Writer) -> None:
    teller = Teller(writer)
    teller.put(MESSAGE)
    assert withdrawn(teller) == [PART]
    assert stands(writer)[0] == "gone"
    assert balance(writer) == (0, 2)


def test_withdraw_of_one_part_tried_and_another_not_leaves_both(writer: Writer) -> None:
    teller = Teller(writer)
    message = put(1, ("x@b.test",), ("y@c.test",))
    teller.put(message)
    teller.commit()
    teller.settle(settlement(message, 0, "delivered", number=1), 0)
    teller.commit(NOW)
    change = WithdrawChange(NOBODY, message.head.id)
    teller.add(change)
    teller.commit(NOW)
    assert change.moved == []
    assert n_rows(writer, "part") == {"part": 1}
    assert not any(isinstance(event, Deferred | Dropped) for event in events(writer))


def test_wake_rows_are_moved_up_for_what_is_due_now(writer: Writer) -> None:
    teller = made(writer, "held")
    teller.order(Order("release", (MESSAGE.head.id,)))
    teller.commit(NOW)
    ((wake, _),) = writer.look("wake", b"", 9)
    assert number(wake) == NOW

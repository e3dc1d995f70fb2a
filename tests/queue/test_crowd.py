"""More queues and parts than RAM has room for: what of them is there is bounded, and none of the rest is forgotten."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from mta.link import Order, Put
from mta.message import Outcome
from mta.queue import granting as granting_module
from mta.queue import schedule as schedule_module
from mta.queue import waiting as waiting_module
from mta.queue.waiting import FEW_PARTS, NAP_MS
from mta.store import Writer

from .samples import T0, name, part_of, put, settlement, settling
from .test_plans import Desk
from .test_schedule import awake, greet, made, parts, rows, settle

AWAKE = 3
FAILURE = Outcome("deferred", 451, "4.4.1", "cannot connect", "mx", "")


@pytest.fixture
def small() -> Iterator[None]:
    """Have room for few queues."""
    with (
        patch.object(schedule_module, "MOST_AWAKE", AWAKE),
        patch.multiple(granting_module, MOST_AWAKE=AWAKE, LONG_LINE=AWAKE),
        patch.multiple(waiting_module, MOST_RESTING=AWAKE, MOST_KNOWN=20),
    ):
        yield


@pytest.fixture
def desk(writer: Writer) -> Iterator[Desk]:
    """Give a desk."""
    opened = Desk(writer)
    yield opened
    opened.ours.close()
    opened.theirs.close()


def deliver(desk: Desk, messages: list[Put], n_turns: int, attempt: int = 0) -> list[bytes]:
    """Let the schedule act so many times; deliver what is leased, and return it."""
    delivered: list[bytes] = []
    for _ in range(n_turns):
        desk.now += 5
        for part in desk.tick():
            delivered.append(part)
            settling(desk.schedule, part, desk.now)
            desk.teller.settle(settlement(messages[int.from_bytes(part[:16], "big")], attempt, "delivered"), 0)
        desk.commit()
        assert desk.schedule.n_awake <= 3 * AWAKE
    return delivered


@pytest.mark.usefixtures("small")
def test_crowd_new_mail_for_more_queues_than_may_be_awake_waits_in_the_tables(desk: Desk) -> None:
    messages = [put(n, (f"x@d{n}.test",)) for n in range(60)]
    # Nobody sleeps: the table is looked at again in a second.
    assert desk.tick() == []
    for message in messages:
        desk.put(message)
    assert desk.schedule.n_awake == 2 * AWAKE
    assert desk.schedule.n_free == 0
    with patch.object(granting_module, "LONG_LINE", len(messages)):
        assert sorted(deliver(desk, messages, 60)) == [part_of(message) for message in messages]


@pytest.mark.usefixtures("small")
def test_crowd_order_that_has_to_wait_for_room_still_ends_the_rest_of_a_path(desk: Desk) -> None:
    messages = [put(n, (f"x@d{n}.test",)) for n in range(AWAKE + 1)]
    desk.put(messages[0])
    desk.now += 1
    assert desk.tick() == [part_of(messages[0])]
    desk.plans.closed(desk.opened.pop(), FAILURE, desk.now)
    desk.until_asleep()
    # Where these lead is not known before the next tick.
    for message in messages[1:]:
        desk.put(message)
    assert desk.schedule.n_free == 0
    desk.teller.order(Order("retry", (messages[0].head.id,)))
    desk.commit()
    assert desk.schedule.find(1) is None
    assert sorted(deliver(desk, messages, 5)) == list(map(part_of, messages))


@pytest.mark.usefixtures("small")
def test_crowd_order_for_more_queues_than_may_be_awake_is_carried_out_for_all(desk: Desk) -> None:
    messages = [put(n, (f"x@d{n}.test",)) for n in range(20)]
    for message in messages:
        desk.put(message)
        desk.now += 1
        assert desk.tick() == [part_of(message)]
        desk.settle(message, 0, "deferred", desk.now + 500_000)
    desk.until_asleep()
    change = desk.teller.order(Order("retry", tuple(message.head.id for message in messages)))
    desk.commit()
    assert change.n_changed == 20
    assert desk.schedule.n_awake == AWAKE
    assert sorted(deliver(desk, messages, 60, attempt=1)) == list(map(part_of, messages))


@pytest.mark.usefixtures("small")
def test_crowd_queue_sleeps_at_once_while_too_many_rest() -> None:
    schedule = made()
    queues = [awake(schedule, number, f"d{number}.test", "site") for number in range(1, 2 * AWAKE + 1)]
    assert schedule.sleepers(T0 + 1) == queues[:AWAKE]
    assert schedule.sleepers(T0 + 1) == []
    assert schedule.sleepers(T0 + NAP_MS) == queues[AWAKE:]


@pytest.mark.usefixtures("small")
def test_crowd_long_line_of_one_path_leaves_room_for_the_queues_of_others() -> None:
    # One session, on a path that is slow.
    schedule = made(connections=1, window_start=1)
    for number in range(1, 30):
        schedule.arrived(awake(schedule, number, f"d{number}.test", "slow"), parts(1, number)[0], 1)
        schedule.grants(T0)
        schedule.sleepers(T0)
    assert schedule.n_awake < 3 * AWAKE
    assert not schedule.is_overfull
    # What stepped back has its parts in the table, and is read from the start when it wakes.
    again = awake(schedule, 29, "d29.test", "slow")
    assert again.read_from == b""
    other = awake(schedule, 50, "other.test", "quick")
    schedule.arrived(other, parts(1, 50)[0], 1)
    assert [grant.parts for grant in schedule.grants(T0)] == [(parts(1, 50)[0],)]


@pytest.mark.usefixtures("small")
def test_crowd_queue_is_read_in_small_pieces_while_many_parts_are_known() -> None:
    schedule = made()
    bulk = schedule.awake(1, name("bulk.test"))
    schedule.hungry()
    schedule.read(bulk, rows(1, parts(30)), schedule.piece(), T0)
    assert schedule.piece() == FEW_PARTS
    queue = awake(schedule, 2, "a.test", "site")
    names = parts(4 * FEW_PARTS, 100)
    table = rows(2, names)
    for part in names:
        schedule.arrived(queue, part, 1)
    assert queue.ready == names[:FEW_PARTS]
    leased: list[bytes] = []
    for n in range(len(names)):
        for hungry in schedule.hungry():
            left = [row for row in table if row[0] > hungry.read_from and row[2] not in leased]
            schedule.read(hungry, left[: schedule.piece()], schedule.piece(), T0 + n)
        assert len(queue.ready) <= 2 * FEW_PARTS
        grants = schedule.grants(T0 + n)
        leased += [part for grant in grants for part in grant.parts]
        greet(schedule, grants, T0 + n)
        settle(schedule, grants, T0 + n)
    assert sorted(leased) == names

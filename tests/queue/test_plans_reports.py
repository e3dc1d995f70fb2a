"""Timers, orders and deaths carried out on real tables: who is told what, and that nothing is forgotten."""

from collections.abc import Iterator

import pytest

from mta.link import Order, OrderName, Report
from mta.message import Outcome
from mta.queue.changes import WithdrawChange
from mta.queue.waiting import NAP_MS
from mta.report import PathPaused, PathResumed, SetAside
from mta.store import Writer

from .samples import NOBODY, T0, events, n_rows, part_of, put, settlement
from .test_plans import Desk

FAILURE = Outcome("deferred", 451, "4.4.1", "cannot connect", "mx", "")
LIFE_MS = 100_000
PAUSE_MS = 60_000


@pytest.fixture
def desk(writer: Writer) -> Iterator[Desk]:
    """Give a desk."""
    made = Desk(writer)
    yield made
    made.ours.close()
    made.theirs.close()


def order(desk: Desk, name: OrderName, number: int = 1) -> None:
    desk.teller.order(Order(name, (put(number, ("x@b.test",)).head.id,)))
    desk.commit()


def test_plans_part_is_reported_when_it_expires_and_not_before(desk: Desk) -> None:
    message = put(1, ("x@b.test",), lifetime_ms=LIFE_MS)
    desk.put(message)
    desk.now += 1
    desk.tick()
    desk.settle(message, 0, "deferred", T0 + 2 * LIFE_MS)
    desk.until_asleep()
    desk.now = T0 + LIFE_MS
    desk.tick()
    assert desk.reports == []
    assert desk.plans.wait_ms(desk.now) <= 1
    desk.now += 1
    # Expired, it is not tried once more first.
    assert desk.tick() == []
    assert desk.reports == [Report("expired", None, (part_of(message),))]
    desk.settle(message, 1, "expired")
    desk.now += 5_000
    desk.tick()
    assert len(desk.reports) == 1
    assert n_rows(desk.writer, "message", "timer", "due") == {"message": 0, "timer": 0, "due": 0}


def test_plans_part_on_a_paused_path_expires_in_time_with_the_failure(desk: Desk) -> None:
    message = put(1, ("x@b.test",), lifetime_ms=PAUSE_MS // 2)
    desk.put(message)
    desk.now += 1
    desk.tick()
    desk.plans.closed(desk.opened[-1], FAILURE, desk.now)
    desk.commit()
    desk.now = T0 + PAUSE_MS // 2 + 1
    assert desk.tick() == []
    (report,) = desk.reports
    assert report.parts == (part_of(message),)
    # Its queue has gone to sleep meanwhile, and with it the path: then nobody knows why any more.
    assert report.failure in (None, FAILURE)


def test_plans_report_that_was_out_is_handed_out_again_after_a_kill(desk: Desk) -> None:
    message = put(1, ("x@b.test",), lifetime_ms=LIFE_MS)
    desk.put(message)
    order(desk, "hold")
    desk.now = T0 + LIFE_MS + 1
    desk.tick()
    assert [report.parts for report in desk.reports] == [(part_of(message),)]
    desk.start()
    desk.now += 1
    assert desk.tick() == []
    assert [report.parts for report in desk.reports] == [(part_of(message),)] * 2


def test_plans_many_that_expire_at_once_are_all_reported(desk: Desk) -> None:
    messages = [put(n, (f"x@d{n % 7}.test",), lifetime_ms=LIFE_MS) for n in range(500)]
    for message in messages:
        desk.teller.put(message)
    # What is held is not tried once more before all the timers were heard.
    desk.teller.order(Order("hold", tuple(message.head.id for message in messages)))
    desk.commit()
    desk.now = T0 + LIFE_MS + 1
    done: set[bytes] = set()
    for _ in range(60):
        assert desk.tick() == []
        for report in desk.reports:
            for part in report.parts:
                assert part not in done
                done.add(part)
                desk.teller.settle(settlement(messages[int.from_bytes(part[:16], "big")], 0, "expired"), 0)
        desk.reports.clear()
        desk.commit()
        desk.now += 20
    assert done == {part_of(message) for message in messages}
    # Every queue goes, too, once it has slept.
    for _ in range(3 * NAP_MS // 1000):
        desk.now += 1000
        desk.tick()
        desk.commit()
    assert n_rows(desk.writer, "queue", "wake", "part") == {"queue": 0, "wake": 0, "part": 0}


def test_plans_queue_that_slept_while_it_was_reported_on_goes_in_the_end(desk: Desk) -> None:
    message = put(1, ("x@b.test",), lifetime_ms=1000)
    desk.put(message)
    desk.schedule.worker_leaves(7)
    desk.now += 1
    desk.tick()
    desk.now += 1001
    desk.tick()
    assert len(desk.reports) == 1
    # The worker takes longer over it than the queue stays awake.
    desk.until_asleep()
    desk.settle(message, 0, "expired")
    for _ in range(60):
        desk.now += 1000
        desk.tick()
        desk.commit()
    assert n_rows(desk.writer, "part", "queue", "queue_name", "wake") == {
        "part": 0, "queue": 0, "queue_name": 0, "wake": 0,
    }  # fmt: skip


# Orders


def test_plans_held_part_is_not_leased_until_it_is_released(desk: Desk) -> None:
    message = put(1, ("x@b.test",))
    desk.put(message)
    order(desk, "hold")
    desk.now += 1
    assert desk.tick() == []
    desk.until_asleep()
    order(desk, "release")
    desk.now += 1
    assert desk.tick() == [part_of(message)]


def test_plans_retry_wakes_a_sleeping_queue_and_leases_at_once(desk: Desk) -> None:
    message = put(1, ("x@b.test",))
    desk.put(message)
    desk.now += 1
    desk.tick()
    desk.settle(message, 0, "deferred", desk.now + 500_000)
    desk.until_asleep()
    order(desk, "retry")
    desk.now += 1
    assert desk.tick() == [part_of(message)]


def test_plans_retry_tries_a_paused_path_at_once_and_hold_does_not(desk: Desk) -> None:
    for number in (1, 2):
        desk.put(put(number, ("x@b.test",)))
    desk.now += 1
    desk.tick()
    for session in desk.opened:
        desk.plans.closed(session, FAILURE, desk.now)
    assert any(isinstance(event, PathPaused) for event in told(desk))
    order(desk, "hold", 2)
    desk.now += 1
    assert desk.tick() == []
    order(desk, "retry", 1)
    desk.now += 1
    assert desk.tick() == [part_of(put(1, ("x@b.test",)))]


def told(desk: Desk) -> list[object]:
    desk.commit()
    return list(events(desk.writer))


def test_plans_bounce_is_reported_at_once_whatever_the_part_is_doing(desk: Desk) -> None:
    messages = [put(n, (f"x@d{n}.test",)) for n in (1, 2, 3)]
    for message in messages:
        desk.put(message)
    order(desk, "hold", 1)
    desk.now += 1
    assert sorted(desk.tick()) == [part_of(messages[1]), part_of(messages[2])]
    desk.settle(messages[1], 0, "deferred", desk.now + 50_000)
    for number in (1, 2, 3):
        order(desk, "bounce", number)
    desk.now += 1
    assert desk.tick() == []
    reported = {part for report in desk.reports for part in report.parts}
    assert {report.status for report in desk.reports} == {"bounced"}
    # The third one is being delivered: what comes of that is waited for.
    assert reported == {part_of(messages[0]), part_of(messages[1])}
    desk.settle(messages[2], 0, "deferred", desk.now + 50_000)
    desk.now += 1
    assert desk.tick() == []
    assert {part for report in desk.reports for part in report.parts} == {part_of(message) for message in messages}


def test_plans_withdrawn_message_is_not_leased(desk: Desk) -> None:
    message = put(1, ("x@b.test",), ("y@c.test",))
    desk.put(message)
    desk.batch.add(WithdrawChange(NOBODY, message.head.id))
    desk.commit()
    desk.now += 1
    assert desk.tick() == []
    assert n_rows(desk.writer, "message", "part", "timer") == {"message": 0, "part": 0, "timer": 0}


# Paths and deaths


def test_plans_pause_and_its_end_are_events_and_survive_a_kill(desk: Desk) -> None:
    message = put(1, ("x@b.test",))
    desk.put(message)
    desk.now += 1
    desk.tick()
    desk.plans.closed(desk.opened[-1], FAILURE, desk.now)
    (paused,) = [event for event in told(desk) if isinstance(event, PathPaused)]
    assert (paused.site, paused.enhanced, paused.next_at) == ("site", "4.4.1", desk.now + PAUSE_MS)
    desk.start()
    leased: list[bytes] = []
    while not leased and desk.now < paused.next_at + 3_000:
        desk.now += 1000
        leased = desk.tick()
        desk.commit()
    assert leased == [part_of(message)]
    assert paused.next_at <= desk.now <= paused.next_at + 2_000
    (resumed,) = [event for event in told(desk) if isinstance(event, PathResumed)]
    assert resumed.site == "site"


def test_plans_part_whose_workers_die_is_set_aside_after_three(desk: Desk) -> None:
    message = put(1, ("x@b.test",))
    desk.put(message)
    for n_deaths in range(1, 4):
        desk.now += 1
        assert desk.tick() == [part_of(message)]
        desk.worker.has_died = True
        desk.plans.died(desk.worker, desk.now)
        desk.commit()
        is_aside = any(isinstance(event, SetAside) for event in events(desk.writer))
        assert is_aside == (n_deaths == 3)
        desk.start()
    desk.now += 1
    assert desk.tick() == []


def test_plans_worker_that_ends_in_order_or_is_killed_on_purpose_costs_its_parts_nothing(desk: Desk) -> None:
    message = put(1, ("x@b.test",))
    desk.put(message)
    for _ in range(5):
        desk.now += 1
        assert desk.tick() == [part_of(message)]
        desk.plans.died(desk.worker, desk.now)
        desk.commit()
        desk.schedule.worker_joined(7, 2000)
    assert not any(isinstance(event, SetAside) for event in events(desk.writer))

"""Answers that are no way, carried out on real tables: who sleeps, who is told what, and what is remembered."""

from collections.abc import Iterator

import pytest

from mta.link import Report, Resolved
from mta.message import LOST_SITE, Outcome, lost_site
from mta.report import PathPaused, PathResumed
from mta.store import Writer, decode_path, decode_queue, path_key

from .samples import T0, events, n_rows, part_of, put
from .test_plans import Desk

UNKNOWN = Outcome("deferred", 451, "4.4.3", "the name service does not know b.test", "", "")
NO_DOMAIN = Outcome("bounced", 550, "5.1.2", "there is no domain b.test", "", "")
LIFE_MS = 100_000
PAUSE_MS = 60_000
LOST = path_key("", lost_site("b.test", ""))


@pytest.fixture
def desk(writer: Writer) -> Iterator[Desk]:
    """Give a desk."""
    made = Desk(writer)
    yield made
    made.ours.close()
    made.theirs.close()


def test_plans_refused_queue_is_reported_and_gone_without_a_session(desk: Desk) -> None:
    desk.failure = NO_DOMAIN
    messages = [put(n, ("x@b.test",)) for n in (1, 2)]
    for message in messages:
        desk.put(message)
    desk.now += 1
    assert desk.tick() == []
    assert desk.reports == [Report("bounced", NO_DOMAIN, tuple(map(part_of, messages)))]
    for message in messages:
        desk.settle(message, 0, "bounced")
    desk.until_asleep()
    rows = n_rows(desk.writer, "message", "due", "timer", "queue", "wake", "path")
    assert rows == dict.fromkeys(rows, 0)
    assert desk.opened == []


def test_plans_refusal_that_was_not_settled_is_reported_again_after_a_restart(desk: Desk) -> None:
    desk.failure = NO_DOMAIN
    message = put(1, ("x@b.test",))
    desk.put(message)
    desk.now += 1
    desk.tick()
    desk.start()
    desk.now += 1
    desk.tick()
    assert [report.parts for report in desk.reports] == [(part_of(message),)] * 2


def test_plans_lost_queue_sleeps_says_why_and_goes_on_by_itself(desk: Desk) -> None:
    desk.failure = UNKNOWN
    message = put(1, ("x@b.test",))
    desk.put(message)
    desk.now += 1
    assert desk.tick() == []
    desk.until_asleep()
    # Its row says which path it waits for, and that one's why.
    [(_, queue)] = desk.writer.look("queue", b"", 10)
    assert decode_queue(queue).site.startswith(LOST_SITE)
    row = desk.writer.look_up("path", LOST)
    assert row is not None
    assert decode_path(row).failure == UNKNOWN
    assert [event.enhanced for event in events(desk.writer) if isinstance(event, PathPaused)] == ["4.4.3"]
    desk.failure = None
    desk.now = T0 + PAUSE_MS + 1000
    assert desk.tick() == [part_of(message)]
    desk.settle(message, 0, "delivered")
    assert desk.writer.look_up("path", LOST) is None
    assert [event.site for event in events(desk.writer) if isinstance(event, PathResumed)] == [lost_site("b.test", "")]


def test_plans_lost_queue_that_sleeps_expires_in_time_with_the_reason(desk: Desk) -> None:
    desk.failure = UNKNOWN
    message = put(1, ("x@b.test",), lifetime_ms=PAUSE_MS // 2)
    desk.put(message)
    desk.now += 1
    desk.tick()
    desk.until_asleep()
    # Even another process knows.
    desk.start()
    desk.failure = UNKNOWN
    desk.now = T0 + PAUSE_MS // 2 + 1
    desk.tick()
    assert [(report.status, report.failure) for report in desk.reports] == [("expired", UNKNOWN)]


def test_plans_answer_of_an_older_worker_without_hosts_is_no_way(desk: Desk) -> None:
    message = put(1, ("x@b.test",))
    desk.put(message)
    desk.now += 1
    desk.plans.tick(desk.now)
    desk.plans.resolved(Resolved("b.test", "", "", (), 3600.0), desk.now)
    desk.plans.tick(desk.now)
    desk.commit()
    assert desk.opened == []
    assert [event.enhanced for event in events(desk.writer) if isinstance(event, PathPaused)] == ["4.4.4"]

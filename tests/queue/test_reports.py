"""Parts whose time is up: each is reported once at a time, by one worker, and never while it is delivered."""

import pytest

from mta.message import Outcome
from mta.queue.reports import MOST_OUT, MOST_WAITING, Reports, Task
from mta.store import BOUNCE, EXPIRE

FAILURE = Outcome("deferred", 451, "4.4.1", "cannot connect", "mx", "")


def part(number: int) -> bytes:
    return number.to_bytes(18, "big")


def test_reports_alike_parts_go_together_and_only_once() -> None:
    reports = Reports()
    reports.up(part(1), EXPIRE, None, is_leased=False)
    reports.up(part(2), EXPIRE, FAILURE, is_leased=False)
    reports.up(part(3), EXPIRE, None, is_leased=False)
    reports.up(part(3), EXPIRE, None, is_leased=False)
    reports.up(part(4), BOUNCE, None, is_leased=False)
    tasks = reports.tasks([7])
    assert sorted(tasks, key=lambda task: task.parts) == [
        Task(7, EXPIRE, None, (part(1), part(3))),
        Task(7, EXPIRE, FAILURE, (part(2),)),
        Task(7, BOUNCE, None, (part(4),)),
    ]
    assert reports.tasks([7]) == []
    assert sorted(reports.out()) == [part(n) for n in (1, 2, 3, 4)]


def test_reports_part_that_is_delivered_waits_for_what_comes_of_that() -> None:
    reports = Reports()
    reports.up(part(1), EXPIRE, None, is_leased=True)
    assert reports.tasks([7]) == []
    assert reports.is_up(part(1))
    assert not reports.is_out(part(1))
    reports.came_back(part(1))
    assert [task.parts for task in reports.tasks([7])] == [(part(1),)]
    assert reports.is_out(part(1))


@pytest.mark.parametrize("is_leased", [False, True])
def test_reports_decided_part_is_forgotten(is_leased: bool) -> None:
    reports = Reports()
    reports.up(part(1), EXPIRE, None, is_leased=is_leased)
    reports.done(part(1))
    reports.done(part(1))
    assert part(1) not in reports
    reports.came_back(part(1))
    assert reports.tasks([7]) == []


def test_reports_of_a_dead_worker_go_to_another() -> None:
    reports = Reports()
    for number in (1, 2):
        reports.up(part(number), EXPIRE, None, is_leased=False)
    assert {task.worker for task in reports.tasks([7, 8])} == {7, 8}
    reports.worker_gone(7)
    (task,) = reports.tasks([8])
    assert task.worker == 8
    assert sorted(reports.out()) == [part(1), part(2)]


def test_reports_without_a_worker_wait() -> None:
    reports = Reports()
    reports.up(part(1), EXPIRE, None, is_leased=False)
    assert reports.tasks([]) == []
    assert [task.parts for task in reports.tasks([7])] == [(part(1),)]


def test_reports_worker_has_so_many_at_once_and_more_when_some_are_done() -> None:
    reports = Reports()
    for number in range(3 * MOST_OUT):
        reports.up(part(number), EXPIRE, None, is_leased=False)
    assert sum(len(task.parts) for task in reports.tasks([7, 8])) == 2 * MOST_OUT
    assert reports.tasks([7, 8]) == []
    reports.done(reports.out()[0])
    assert sum(len(task.parts) for task in reports.tasks([7, 8])) == 1


def test_reports_line_that_is_full_says_so_until_some_are_done() -> None:
    reports = Reports()
    for number in range(MOST_WAITING):
        assert not reports.is_full
        reports.up(part(number), EXPIRE, None, is_leased=number % 2 == 0)
    assert reports.is_full
    reports.done(part(0))
    assert not reports.is_full

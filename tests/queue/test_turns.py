"""Who is served next on a path: shares by weight, newcomers soon, nobody starved, and big parts paid for."""

from collections import Counter

import pytest

from mta.queue import turns
from mta.queue.awake import Path, Queue
from mta.queue.turns import QUANTUM

from .samples import name


def made(number: int, n_parts: int, priority: int = 0) -> Queue:
    """Return a queue with ready parts."""
    queue = Queue(number, name(f"d{number}.test", priority=priority))
    queue.ready = [at.to_bytes(18, "big") for at in range(n_parts)]
    return queue


def on_path(*queues: Queue) -> Path:
    path = Path("", "site", 5)
    for queue in queues:
        turns.enlist(path, queue)
    return path


def serve(path: Path, n_parts: int, cost: int = 1) -> list[int]:
    """Serve so many parts; return the numbers of the queues that gave them."""
    served: list[int] = []
    for _ in range(n_parts):
        queue = turns.turn(path)
        if queue is None:
            break
        queue.ready.pop()
        turns.spend(queue, cost)
        served.append(queue.number)
    return served


def test_turns_of_equal_queues_are_equal() -> None:
    served = Counter(serve(on_path(made(1, 1000), made(2, 1000), made(3, 1000)), 90 * QUANTUM))
    # The first had its first turn, and while nobody was older than it, a second.
    assert max(served.values()) - min(served.values()) <= 2 * QUANTUM


@pytest.mark.parametrize(
    ("priority", "share"),
    [
        # Each step doubles or halves, up to three of them.
        (1, 2),
        (3, 8),
        (7, 8),
        (-1, 1 / 2),
        (-3, 1 / 10),
        (-9, 1 / 10),
    ],
)
def test_turns_priority_multiplies_a_share(priority: int, share: float) -> None:
    n_parts = 5000
    served = Counter(serve(on_path(made(1, n_parts), made(2, n_parts, priority)), n_parts))
    assert served[2] / served[1] == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("n_before", [0, 1, 7, QUANTUM, QUANTUM + 1, 3 * QUANTUM + 4])
def test_turns_newcomer_behind_a_bulk_queue_is_served_within_twenty(n_before: int) -> None:
    path = on_path(made(1, 10_000))
    serve(path, n_before)
    turns.enlist(path, made(2, 10))
    served = serve(path, 2 * QUANTUM + 10)
    last = max(at for at, number in enumerate(served) if number == 2)
    assert served.count(2) == 10
    # Once the bulk queue has had a turn that is not its first, a newcomer's begins at once.
    assert last < (20 if n_before >= QUANTUM else 30)


def test_turns_newcomer_in_the_middle_of_a_turn_is_first_and_the_turn_goes_on_after_it() -> None:
    path = on_path(made(1, 1000))
    serve(path, 2 * QUANTUM + 3)
    turns.enlist(path, made(2, 4))
    assert serve(path, 4 + QUANTUM - 3) == [2] * 4 + [1] * (QUANTUM - 3)


def test_turns_stream_of_newcomers_does_not_starve_the_old_ones() -> None:
    path = on_path(made(1, 1000), made(2, 1000))
    serve(path, 50)
    served = Counter[int]()
    for number in range(10, 110):
        turns.enlist(path, made(number, QUANTUM))
        served.update(min(queue, 10) for queue in serve(path, 12))
    # Between two newcomers an old queue has a whole turn.
    assert served[1] + served[2] >= 1200 * 0.45
    assert abs(served[1] - served[2]) <= QUANTUM


def test_turns_queue_that_comes_again_and_again_gets_no_more_than_every_other_turn() -> None:
    path = on_path(made(1, 1000))
    serve(path, 50)
    again = made(2, 0)
    served = Counter[int]()
    for _ in range(100):
        if not again.ready:
            again.ready.append(bytes(18))
        turns.enlist(path, again)
        served.update(serve(path, 3))
    assert served[1] >= 100


def test_turns_big_parts_pay_for_what_they_are() -> None:
    big, small = made(1, 10_000), made(2, 10_000)
    path = on_path(big, small)
    octets: Counter[int] = Counter()
    for _ in range(4000):
        queue = turns.turn(path)
        assert queue is not None
        queue.ready.pop()
        cost = 35 if queue is big else 1
        turns.spend(queue, cost)
        octets[queue.number] += cost
    # What a part overdraws is taken off the next turns.
    assert octets[1] / octets[2] == pytest.approx(1, rel=0.05)


def test_turns_part_dearer_than_any_turn_is_served_at_last() -> None:
    dear = made(1, 3, priority=-9)
    path = on_path(dear, made(2, 100_000))
    n_served = 0
    while dear.ready and n_served < 90_000:
        queue = turns.turn(path)
        assert queue is not None
        queue.ready.pop()
        turns.spend(queue, 1700 if queue is dear else 1)
        n_served += 1
    assert not dear.ready


def test_turns_queue_that_ran_dry_is_not_listed_and_loses_its_rest() -> None:
    queue = made(1, 3)
    path = on_path(queue)
    assert serve(path, 10) == [1] * 3
    assert turns.turn(path) is None
    assert not queue.is_listed
    queue.ready.append(bytes(18))
    turns.enlist(path, queue)
    assert serve(path, 10) == [1]


def test_strike_takes_a_queue_off_wherever_it_stands() -> None:
    for n_before in range(4 * QUANTUM):
        queues = [made(number, 1000) for number in range(3)]
        path = on_path(*queues)
        serve(path, n_before)
        for queue in queues[1:]:
            turns.strike(path, queue)
            turns.strike(path, queue)
        assert set(serve(path, 3 * QUANTUM)) == {0}
        turns.strike(path, queues[0])
        assert turns.turn(path) is None

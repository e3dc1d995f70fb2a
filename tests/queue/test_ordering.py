"""How many orders a commit takes: as many as fit beside new mail, and more where there is none."""

from typing import cast

import pytest

from mta.link import Order
from mta.queue.batch import Batch
from mta.queue.changes import Change, Circumstances, OrderChange, PutChange
from mta.queue.guest import Guest
from mta.queue.ordering import ALONE_S, MOST_ORDERS, WITH_MAIL_S, Ordering
from mta.store import Writer

from .samples import NOBODY, T0, put


class Turns:
    """A batch that is committed in turns; each order takes as long as it is told."""

    def __init__(self, writer: Writer) -> None:
        self.batch = Batch(writer)
        self.ordering = Ordering(self.batch)
        self.n_put = 0

    def turn(self, took_s: float, *, has_mail: bool = False) -> list[Change]:
        """Commit; return the orders that were in it."""
        if has_mail:
            self.n_put += 1
            self.batch.add(PutChange(NOBODY, put(self.n_put, ("x@b.test",))))
        done = self.batch.commit(Circumstances(T0, lambda _: False, lambda _: False))
        orders = [change for change in done.changes if isinstance(change, OrderChange)]
        for change in orders:
            change.took_s = took_s
        self.ordering.committed(done.changes)
        return list(orders)


@pytest.fixture
def turns(writer: Writer) -> Turns:
    """Give turns with more orders than any test takes."""
    made = Turns(writer)
    for number in range(400):
        made.ordering.add(OrderChange(NOBODY, Order("hold", (number.to_bytes(16, "big"),))))
    return made


def test_ordering_takes_more_and_more_until_they_take_too_long(turns: Turns) -> None:
    assert [len(turns.turn(ALONE_S / 10.5)) for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert len(turns.turn(ALONE_S * 2)) == 10
    assert len(turns.turn(0.0)) == 1


def test_ordering_takes_fewer_beside_new_mail(turns: Turns) -> None:
    for _ in range(6):
        turns.turn(WITH_MAIL_S / 3.5)
    turns.turn(WITH_MAIL_S / 3.5, has_mail=True)
    assert len(turns.turn(WITH_MAIL_S / 3.5, has_mail=True)) == 3
    assert len(turns.turn(WITH_MAIL_S * 3, has_mail=True)) == 3
    assert len(turns.turn(0.0)) == 1


def test_ordering_is_in_the_order_in_which_they_came_and_ends(turns: Turns) -> None:
    orders: list[Change] = []
    while turns.batch.has_changes:
        some = turns.turn(0.0)
        assert len(some) <= MOST_ORDERS
        orders += some
    numbers = [
        int.from_bytes(id_, "big") for order in orders if isinstance(order, OrderChange) for id_ in order.order.ids
    ]
    assert numbers == list(range(400))
    turns.ordering.add(OrderChange(NOBODY, Order("hold", (bytes(16),))))
    assert len(turns.turn(0.0)) == 1


def test_ordering_takes_none_once_the_process_is_to_end(turns: Turns) -> None:
    for _ in range(3):
        turns.turn(0.0)
    turns.ordering.end()
    # What the batch has is carried out; however many wait, nothing follows.
    assert len(turns.turn(0.0)) == 8
    turns.ordering.add(OrderChange(NOBODY, Order("hold", (bytes(16),))))
    assert not turns.batch.has_news


def test_ordering_forgets_what_was_ordered_by_somebody_who_is_gone(turns: Turns) -> None:
    guest = cast(Guest, object())
    for number in range(400, 403):
        turns.ordering.add(OrderChange(guest, Order("hold", (number.to_bytes(16, "big"),))))
    turns.ordering.forget(NOBODY)
    # What is in the batch already is carried out.
    left = [len(turns.turn(0.0)) for _ in range(3)]
    assert left == [1, 2, 1]

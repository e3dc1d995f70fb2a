"""Orders that no commit has taken yet: so many go with each that the clients of new mail do not feel them.

Rule: an order is small, whoever gives it sees to that; how many a commit bears is learned from how long those took that
the last one had. They are carried out in the order in which they came.

Called by the desk.
"""

from collections import deque

from mta.queue.batch import Batch
from mta.queue.changes import Change, OrderChange, PartChange, PutChange
from mta.queue.guest import Guest

__all__ = ["Ordering"]

# So long a commit may take longer for them: with new mail in it, and without.
WITH_MAIL_S = 0.003
ALONE_S = 0.02
MOST_ORDERS = 64
TICK_S = 1e-6


class Ordering:
    """All of them."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._waiting: deque[OrderChange] = deque()
        self._n_out = 0
        self._n_orders = 1
        self._is_over = False

    def add(self, change: OrderChange) -> None:
        """Take an order."""
        self._waiting.append(change)
        if not self._n_out:
            self._hand_on()

    def committed(self, changes: list[Change]) -> None:
        """A commit is over and answered: the next may take some."""
        if self._n_out:
            took_s = sum(change.took_s for change in changes if isinstance(change, OrderChange))
            is_alone = not any(isinstance(change, PutChange | PartChange) for change in changes)
            n_fitting = int((ALONE_S if is_alone else WITH_MAIL_S) / max(took_s / self._n_out, TICK_S))
            # Few of them tell little of the next: it does not take more than twice as many.
            self._n_orders = max(1, min(n_fitting, 2 * self._n_orders, MOST_ORDERS))
            self._n_out = 0
        self._hand_on()

    def end(self) -> None:
        """Take none any more: this process is about to end, and whoever has no answer asks the next one."""
        self._is_over = True

    def forget(self, guest: Guest) -> None:
        """Nobody is there any more who would be told: what was not begun is not done."""
        self._waiting = deque([change for change in self._waiting if change.guest is not guest])

    def _hand_on(self) -> None:
        while self._waiting and self._n_out < self._n_orders and not self._is_over:
            self._n_out += 1
            self._batch.add(self._waiting.popleft())

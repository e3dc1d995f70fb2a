"""What is known of each client network: its connections now, and what it did in its last minute.

Rule: the table is bounded. A network with connections, or with credit at a worker, stays; of those there are no more
than connections. The others stay for a minute, MOST_IDLE of them at most: past that, whoever has been away longest is
forgotten, and may do as much as a newcomer. So a flood from addresses without number costs some networks the memory of
their last minute, and costs us nothing.
"""

from collections import OrderedDict

from mta.state.window import FORGET_S, Window
from mta.state.words import N_KINDS, Rules

__all__ = ["Tallies", "Tally"]

MOST_IDLE = 50_000
# Of what is forgotten by age, so much at once: nobody waits long for it.
A_SLICE = 1000


class Tally:
    """One network. `lent` is credit, by its kinds, that workers hold; `used` what was used of it."""

    __slots__ = ("idle_since", "lent", "n_open", "recalled_at", "used")

    def __init__(self) -> None:
        self.n_open = 0
        """Connections now, and places that workers keep for more."""
        self.lent = [0] * N_KINDS
        self.used: list[Window | None] = [None] * N_KINDS
        self.recalled_at = float("-inf")
        """When workers were last asked to give back what they keep."""
        self.idle_since = 0.0

    @property
    def is_busy(self) -> bool:
        """It has connections, or credit."""
        return self.n_open > 0 or any(self.lent)

    def use(self, kind: int, n: int, now: float) -> None:
        """Count `n` of `kind` as used now."""
        window = self.used[kind]
        if window is None:
            window = self.used[kind] = Window()
        window.add(n, now)

    def free(self, kind: int, rules: Rules, now: float) -> int:
        """Return how many of `kind` may be lent."""
        window = self.used[kind]
        used = window.count(now) if window is not None else 0
        return rules.credit[kind] - self.lent[kind] - used


class Tallies:
    """All of them."""

    def __init__(self) -> None:
        self._busy: dict[bytes, Tally] = {}
        # Whoever went idle last stands last. A dict would look for its first entry among all that were deleted.
        self._idle: OrderedDict[bytes, Tally] = OrderedDict()

    def __len__(self) -> int:
        return len(self._busy) + len(self._idle)

    def get(self, network: bytes) -> Tally:
        """Return the tally of a network; call `file` once it has changed."""
        tally = self._busy.get(network) or self._idle.get(network)
        return tally if tally is not None else Tally()

    def file(self, network: bytes, tally: Tally, now: float) -> None:
        """Put a tally where it belongs after a change."""
        self._idle.pop(network, None)
        if tally.is_busy:
            self._busy[network] = tally
            return
        self._busy.pop(network, None)
        if not any(window is not None and window.count(now) for window in tally.used):
            return
        tally.idle_since = now
        self._idle[network] = tally
        if len(self._idle) > MOST_IDLE:
            self._idle.popitem(last=False)

    def expire(self, now: float) -> None:
        """Forget networks whose last minute is over."""
        for _ in range(A_SLICE):
            network = next(iter(self._idle), None)
            if network is None or now < self._idle[network].idle_since + FORGET_S:
                return
            del self._idle[network]

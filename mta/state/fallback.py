"""What is decided while the state process is away: each limit lets in or refuses, as the operator chose.

The exception are connections in all, and a listener's: of those each worker takes an equal share, rounded up, for
neither "as many as want" nor "none at all" is what a maximum means.
"""

from mta.config import Config
from mta.reply import Reply
from mta.state.network import NOBODY
from mta.state.replies import REFUSALS, REPLY_421_UNKNOWN, REPLY_451_UNKNOWN
from mta.state.words import ERRORS, Refusal

__all__ = ["Fallback"]

CREDIT = ("messages_per_minute", "recipients_per_minute", "errors_per_minute")
AT_THE_DOOR = ("connections", "connections_per_minute", "errors_per_minute")


class Fallback:
    """One worker's decisions."""

    def __init__(self, config: Config) -> None:
        client, n_workers = config.limits.client, config.workers.n_processes
        shut = {name for name in client.shut if getattr(client, name)}
        self._share = _share(config.limits.connections, n_workers)
        self._shares = {each.name: _share(each.connections, n_workers) for each in config.listener if each.connections}
        self._is_credit_shut = [name in shut for name in CREDIT]
        self._is_door_shut = not shut.isdisjoint(AT_THE_DOOR)

    def connect(self, network: bytes, listener: str, n_open: int, n_at_listener: int) -> Reply | None:
        """Return what a new connection is refused with; the numbers are this worker's connections now."""
        if n_open >= self._share:
            return REFUSALS[Refusal.TOTAL]
        if n_at_listener >= self._shares.get(listener, n_at_listener + 1):
            return REFUSALS[Refusal.LISTENER]
        return REPLY_421_UNKNOWN if self._is_door_shut and network != NOBODY else None

    def more(self, kind: int) -> Reply | None:
        """Return what somebody who needs credit of a kind is refused with. An error is made already, and so it is the
        session that ends."""
        if not self._is_credit_shut[kind]:
            return None
        return REPLY_421_UNKNOWN if kind == ERRORS else REPLY_451_UNKNOWN


def _share(limit: int, n_workers: int) -> int:
    return -(-limit // n_workers)

"""The most anonymous memory that a peer held at any time, looked at every fifth of a second."""

import threading
from typing import Self

from bench.peers.peer import Peer

__all__ = ["Peak"]

# With 200 processes a look takes this machine a few milliseconds of CPU, on the side of the load.
STEP_S = 0.2


class Peak:
    """Looks for as long as the context lasts."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.octets = 0
        """The most that was seen, of all its processes together."""

    def __enter__(self) -> Self:
        self.octets = self._peer.rss_anon_octets()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self.octets = max(self.octets, self._peer.rss_anon_octets())

    def _look(self) -> None:
        while not self._is_over.wait(STEP_S):
            self.octets = max(self.octets, self._peer.rss_anon_octets())

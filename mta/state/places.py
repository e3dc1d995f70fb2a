"""Places of connections that ended, kept a moment for the next client of the same network.

Whoever sends one message a connection comes again at once, and need not be asked for: the state process counts the
place as taken until it hears otherwise. A place nobody wanted from one `spare` to the next is given back.
"""

__all__ = ["Place", "Places"]

Place = tuple[str, bytes]
"""Listener and network."""


class Places:
    """Those that one worker keeps."""

    def __init__(self) -> None:
        # How many there are, and how few there were since the last `spare`.
        self._kept: dict[Place, list[int]] = {}
        self._n_kept = 0

    def __len__(self) -> int:
        return self._n_kept

    def keep(self, place: Place) -> None:
        """Keep one."""
        self._n_kept += 1
        kept = self._kept.get(place)
        if kept is None:
            self._kept[place] = [1, 0]
        else:
            kept[0] += 1

    def has(self, place: Place) -> bool:
        """Say whether there is one to take."""
        return place in self._kept

    def take(self, place: Place) -> None:
        """Take one that there is."""
        self._n_kept -= 1
        kept = self._kept[place]
        kept[0] -= 1
        kept[1] = min(kept)
        if not kept[0]:
            del self._kept[place]

    def spare(self) -> list[Place]:
        """Return, and keep no longer, those that were not needed since the last call."""
        spared: list[Place] = []
        for place, kept in list(self._kept.items()):
            spared += [place] * kept[1]
            kept[0] -= kept[1]
            kept[1] = kept[0]
            if not kept[0]:
                del self._kept[place]
        self._n_kept -= len(spared)
        return spared

    def clear(self, network: bytes | None = None) -> list[Place]:
        """Return, and keep no longer, all of them, or all of one network."""
        chosen = [place for place in self._kept if network is None or place[1] == network]
        cleared = [place for place in chosen for _ in range(self._kept.pop(place)[0])]
        self._n_kept -= len(cleared)
        return cleared

"""The content against those who own it: body and extent against message, incoming and trash. Part of `verify`.

Owners name extents in the order of their own ids; body has them in the order of their numbers. So what they name is
gathered in packed arrays, put in order, and walked in step with body and extent. A million messages take 33 octets each
here, and as much again while they are sorted.

What lies in trash is being deleted in slices: any of its chunks may be gone.
"""

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from mta.message import ID_OCTETS
from mta.store.codec import CHUNK_OCTETS
from mta.store.keys import LOST_EXTENT, body_key, number, number_key
from mta.store.snapshot import Snapshot
from mta.store.wrong import Make, Move, Salvage, Wrong

__all__ = ["Content", "Owned"]

KINDS = ("message", "incoming", "trash")
BODY_OCTETS = 10
EXTENT_OCTETS = 8
NO_EXTENT = 1 << 64


class Owned:
    """Which extents are owned by whom, and how many octets each owner takes them to have."""

    def __init__(self) -> None:
        self.kinds = bytearray()
        self.ids = bytearray()
        self.extents = array("Q")
        self.octets = array("Q")

    def add(self, table: str, id_: bytes, extents: tuple[tuple[int, int], ...]) -> None:
        """Note the extents of one owner. Raises OverflowError, before any is noted, for a number that cannot be."""
        kind = KINDS.index(table)
        numbers, octets = array("Q", [e for e, _ in extents]), array("Q", [o for _, o in extents])
        if len(extents) > 1:
            # An owner that has an extent twice is one owner.
            mine = dict(extents)
            numbers, octets = array("Q", mine), array("Q", mine.values())
        for extent, size in zip(numbers, octets, strict=True):
            if extent != LOST_EXTENT:
                self.kinds.append(kind)
                self.ids += id_
                self.extents.append(extent)
                self.octets.append(size)


class _Run(NamedTuple):
    """The chunks of one extent as they lie in body; `is_whole` when none is missing between them, and all are full but
    the last."""

    extent: int
    n_chunks: int
    octets: int
    is_whole: bool


class Content:
    """The pass over body and extent, and what it counts."""

    def __init__(self, snapshot: Snapshot, owned: Owned) -> None:
        self._snapshot = snapshot
        self._owned = owned
        self._found: list[Wrong] = []
        self.live_octets = 0
        """What `meta` should say: chunks that were there and are missing now are counted, too."""
        self.last_extent = 0
        """The last that somebody owns."""

    def check(self) -> Iterator[Wrong]:
        """Walk owners, body and extent in step."""
        extents = self._owned.extents
        order = array("Q", sorted(range(len(extents)), key=extents.__getitem__))
        n_owners = len(order)
        runs, shares = self._runs(), self._shares()
        run, share = next(runs, None), next(shares, None)
        at = 0
        while at < n_owners or run is not None or share is not None:
            extent = min(
                extents[order[at]] if at < n_owners else NO_EXTENT,
                run.extent if run is not None else NO_EXTENT,
                share[0] if share is not None else NO_EXTENT,
            )
            owners: list[int] = []
            while at < n_owners and extents[order[at]] == extent:
                owners.append(order[at])
                at += 1
            there, shared = None, None
            if run is not None and run.extent == extent:
                there, run = run, next(runs, None)
            if share is not None and share[0] == extent:
                shared, share = share[1], next(shares, None)
            if owners:
                self.last_extent = extent
            self._extent(extent, owners, there)
            self._share(extent, owners, shared)
            if self._found:
                yield from self._found
                self._found.clear()
        yield from self._found
        self._found.clear()

    def _runs(self) -> Iterator[_Run]:
        """Yield what body has of each extent."""
        lead = last = b""
        n_chunks = n_full = octets = size = 0
        for key, value in self._snapshot.rows("body"):
            if len(key) != BODY_OCTETS:
                what = f"its key has {len(key)} octets and not {BODY_OCTETS}"
                self._found.append(Wrong("body", key, what, Move()))
                self.live_octets += len(value)
                continue
            if key[:8] != lead:
                if lead:
                    yield _run(lead, last, n_chunks, n_full, octets, size)
                lead = key[:8]
                n_chunks = n_full = octets = 0
            last, size = key, len(value)
            n_chunks += 1
            n_full += size == CHUNK_OCTETS
            octets += size
        if lead:
            yield _run(lead, last, n_chunks, n_full, octets, size)

    def _shares(self) -> Iterator[tuple[int, bytes]]:
        for key, value in self._snapshot.rows("extent"):
            if len(key) == EXTENT_OCTETS:
                yield number(key), value
            else:
                self._found.append(Wrong("extent", key, f"its key has {len(key)} octets and not 8", Move()))

    def _extent(self, extent: int, owners: list[int], run: _Run | None) -> None:
        """Compare an extent with what its owners take it to be."""
        there = run if run is not None else _Run(extent, 0, 0, is_whole=True)
        if not owners:
            if run is not None:
                what = f"no message has this extent of {run.n_chunks} chunks with {run.octets} octets"
                self._found.append(Wrong("body", body_key(extent, 0)[:8], what, Move(is_extent=True)))
                self.live_octets += run.octets
            return
        wanted = [self._owned.octets[owner] for owner in owners]
        is_trash = [self._owned.kinds[owner] == KINDS.index("trash") for owner in owners]
        bad = [
            owner
            for owner, octets, is_left in zip(owners, wanted, is_trash, strict=True)
            if not is_left and not (there.is_whole and there.octets == octets)
        ]
        self.live_octets += there.octets if len(bad) < len(owners) else max(self._owned.octets[owner] for owner in bad)
        cure = Salvage(
            extent,
            tuple((*self._owner(owner), self._owned.octets[owner]) for owner in bad),
            is_used=len(bad) < len(owners),
        )
        for owner in bad:
            what = f"extent {extent} should have {self._owned.octets[owner]} octets, and "
            if run is None:
                what += "nothing of it is there"
            elif there.is_whole:
                what += f"has {there.octets}"
            else:
                what += f"not all of its chunks are there or whole ({there.n_chunks} with {there.octets} octets)"
            table, id_ = self._owner(owner)
            self._found.append(Wrong(table, id_, what, cure if owner == bad[0] else None))

    def _share(self, extent: int, owners: list[int], told: bytes | None) -> None:
        n_messages = sum(self._owned.kinds[owner] == KINDS.index("message") for owner in owners)
        wanted = number_key(n_messages) if n_messages > 1 else None
        if told == wanted:
            return
        key = number_key(extent)
        if wanted is None:
            what = f"it should be there only for an extent that messages share, and {n_messages} has it"
            self._found.append(Wrong("extent", key, what, Move()))
        elif told is None:
            self._found.append(
                Wrong("extent", key, f"{n_messages} messages share it, and no row says so", Make(wanted, None))
            )
        else:
            what = f"{n_messages} messages share it, and not {number(told) if len(told) == 8 else told.hex()}"
            self._found.append(Wrong("extent", key, what, Make(wanted, told)))

    def _owner(self, owner: int) -> tuple[str, bytes]:
        start = owner * ID_OCTETS
        return KINDS[self._owned.kinds[owner]], bytes(self._owned.ids[start : start + ID_OCTETS])


def _run(lead: bytes, last: bytes, n_chunks: int, n_full: int, octets: int, size: int) -> _Run:
    # The keys rise, so that the last one tells whether one is missing before it.
    is_whole = int.from_bytes(last[8:], "big") == n_chunks - 1 and 0 < size <= CHUNK_OCTETS
    return _Run(number(lead), n_chunks, octets, is_whole and n_full == n_chunks - (size < CHUNK_OCTETS))

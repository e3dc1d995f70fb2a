"""Cut a wire example into network reads; every parser of a stream is tested with every cut.

    @pytest.mark.parametrize("cut", CUTS, ids=CUT_IDS)
    def test_reader_any_cut_gives_same_result(cut):
        for piece in cut(wire): ...

A parser that stops somewhere in a read is also given each of TRAILING behind its example, and must leave it alone.
"""

import random
import zlib
from collections.abc import Callable, Iterator

from hypothesis import strategies

__all__ = ["CUTS", "CUT_IDS", "TRAILING", "Cut", "by_octet", "in_two", "pieces_of", "randomly", "whole"]

Cut = Callable[[bytes], list[bytes]]


def whole(wire: bytes) -> list[bytes]:
    """Return all of it as one read."""
    return [wire]


def by_octet(wire: bytes) -> list[bytes]:
    """Return one read for each octet."""
    return [wire[i : i + 1] for i in range(len(wire))]


def randomly(wire: bytes) -> list[bytes]:
    """Return reads of 1 to 9 octets, the same ones each time for the same wire."""
    dice = random.Random(zlib.crc32(wire))
    pieces = []
    while wire:
        n = dice.randint(1, 9)
        pieces.append(wire[:n])
        wire = wire[n:]
    return pieces


def in_two(wire: bytes) -> Iterator[list[bytes]]:
    """Yield every way to cut `wire` in two, an empty read on either side among them."""
    for i in range(len(wire) + 1):
        yield [wire[:i], wire[i:]]


@strategies.composite
def pieces_of(draw: strategies.DrawFn, wires: strategies.SearchStrategy[bytes]) -> list[bytes]:
    """Draw one of `wires`, cut at up to 6 random places; b"".join() of it is the wire."""
    wire = draw(wires)
    places = sorted(draw(strategies.lists(strategies.integers(0, len(wire)), max_size=6)))
    return [wire[i:j] for i, j in zip([0, *places], [*places, len(wire)], strict=True)]


CUTS: tuple[Cut, ...] = (whole, by_octet, randomly)
CUT_IDS = ("whole", "by_octet", "random")

TRAILING = (b"", b"\n", b".\r\n", b"\r\n.\r\n", b"MAIL FROM:<a@b.test>\r\n")
"""What a client may have sent behind the end of what a parser reads."""

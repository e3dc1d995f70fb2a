"""Extents that messages share, that go chunk by chunk, and that are read one at a time."""

import math
from pathlib import Path

import pytest

from mta.store import MessageRow, Reader, StoreError, Writer, encode, number
from mta.store.codec import CHUNK_OCTETS, checked

from .conftest import MAP_OCTETS


def n_rows(writer: Writer, table: str) -> int:
    return len(writer.look(table, b"", 10_000))


def sharers(writer: Writer) -> list[int]:
    return [number(value) for _, value in writer.look("extent", b"", 10)]


# Sharing


@pytest.mark.parametrize("n_more", [1, 2, 5])
def test_shared_extent_goes_with_the_last_message_that_holds_it(writer: Writer, n_more: int) -> None:
    octets = 3 * CHUNK_OCTETS
    writer.begin()
    extent = writer.add_extent(bytes(octets))
    writer.commit()
    assert n_rows(writer, "extent") == 0
    writer.begin()
    for _ in range(n_more):
        writer.share_extent(extent)
    writer.commit()
    assert sharers(writer) == [n_more + 1]
    for left in range(n_more, 0, -1):
        writer.begin()
        writer.remove_extent(extent, octets)
        writer.commit()
        # It is kept only where there is more than one.
        assert sharers(writer) == ([left] if left > 1 else [])
        assert (n_rows(writer, "body"), writer.live_octets) == (3, octets)
    writer.begin()
    writer.remove_extent(extent, octets)
    writer.commit()
    assert (n_rows(writer, "body"), n_rows(writer, "extent"), writer.live_octets) == (0, 0, 0)


def test_share_extent_that_is_not_there_is_refused(writer: Writer) -> None:
    writer.begin()
    with pytest.raises(ValueError, match="extent 7"):
        writer.share_extent(7)
    writer.abort()


def test_share_extent_of_an_aborted_transaction_is_forgotten(writer: Writer) -> None:
    writer.begin()
    extent = writer.add_extent(b"x")
    writer.commit()
    writer.begin()
    writer.share_extent(extent)
    writer.abort()
    writer.begin()
    writer.remove_extent(extent, 1)
    writer.commit()
    assert (n_rows(writer, "body"), writer.live_octets) == (0, 0)


# Chunks


@pytest.mark.parametrize("octets", [1, CHUNK_OCTETS, CHUNK_OCTETS + 1, 5 * CHUNK_OCTETS - 1])
@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_remove_chunks_slice_after_slice_leaves_nothing(writer: Writer, octets: int, most: int) -> None:
    writer.begin()
    extent = writer.add_extent(memoryview(bytes(octets)))
    writer.commit()
    n_chunks = n_rows(writer, "body")
    left, n_slices = octets, 0
    while left:
        writer.begin()
        left, n_deleted = writer.remove_chunks(extent, left, most)
        writer.commit()
        n_slices += 1
        n_chunks -= n_deleted
        assert n_rows(writer, "body") == n_chunks
        assert writer.live_octets == left
    assert n_chunks == 0
    assert n_slices == math.ceil(math.ceil(octets / CHUNK_OCTETS) / most)


def test_remove_chunks_that_are_not_there_is_an_error(writer: Writer) -> None:
    writer.begin()
    with pytest.raises(StoreError, match="extent 7"):
        writer.remove_chunks(7, 1, 10)
    writer.abort()


# Pieces


def test_reader_reads_one_extent_a_piece(writer: Writer, tmp_path: Path) -> None:
    pieces: list[bytes | memoryview] = [b"front", memoryview(b"x" * 5000)[1000:], b"last"]
    writer.begin()
    extents = tuple((writer.add_extent(piece), len(piece)) for piece in pieces)
    writer.commit()
    writer.close()
    reader = Reader(str(tmp_path), MAP_OCTETS)
    assert [reader.piece(extents, n) for n in range(3)] == [b"front", b"x" * 4000, b"last"]
    assert reader.content(extents) == b"front" + b"x" * 4000 + b"last"
    with pytest.raises(LookupError):
        reader.piece(((extents[2][0] + 1, 4),), 0)
    reader.close()


def test_row_of_the_largest_message_fits() -> None:
    # Received in front, then 128 MiB in parts of 1 MiB; numbers below 2**32.
    extents = tuple((0xFFFFFFFF, 1 << 20) for _ in range(129))
    row = MessageRow("s" * 256, 1 << 27, 1 << 41, "t" * 64, "", extents, 3, 1000, 10_000)
    assert checked(bytes(16), encode(row))


def test_shared_extent_is_known_after_a_restart(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path), MAP_OCTETS)
    writer.begin()
    extent = writer.add_extent(b"x")
    writer.share_extent(extent)
    writer.commit()
    writer.close()
    writer = Writer(str(tmp_path), MAP_OCTETS)
    for live in (1, 0):
        writer.begin()
        writer.remove_extent(extent, 1)
        writer.commit()
        assert writer.live_octets == live
    writer.close()

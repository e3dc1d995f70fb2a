"""Keys sort as what they hold, and no row is larger than a node may be."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.store import (
    due_key,
    due_of,
    message_of,
    number,
    number_key,
    part_name,
    recipient_key,
    timer_of,
    turn_of,
    wake_key,
)
from mta.store.codec import CHUNK_OCTETS, ROW_OCTETS, checked
from mta.store.keys import body_key, chunk_rows, timer_key, turn

U64 = st.integers(0, 2**64 - 1)
U16 = st.integers(0, 2**16 - 1)
IDS = st.binary(min_size=16, max_size=16)


@given(U64, U64, U64, U64, U16, U16)
def test_keys_any_numbers_sort_as_the_numbers(a: int, b: int, c: int, d: int, m: int, n: int) -> None:
    id_ = bytes(16)
    assert (number_key(a) < number_key(b)) == (a < b)
    assert (wake_key(a, b) < wake_key(c, d)) == ((a, b) < (c, d))
    assert (body_key(a, m) < body_key(b, n)) == ((a, m) < (b, n))
    assert (part_name(id_, m) < part_name(id_, n)) == (m < n)
    assert (recipient_key(part_name(id_, m), n) < recipient_key(part_name(id_, n), m)) == ((m, n) < (n, m))
    assert (due_key(a, b, id_) < due_key(c, d, id_)) == ((a, b) < (c, d))


@given(IDS, U16, U64, U64)
def test_keys_taken_apart_give_what_was_put_in(id_: bytes, part: int, queue: int, due: int) -> None:
    name = part_name(id_, part)
    assert len(name) == 18
    assert message_of(name) == id_
    assert due_of(due_key(queue, due, name)) == (due, name)
    assert number(due_key(queue, due, name)) == queue
    assert number(wake_key(due, queue)) == due


@given(IDS, U64, U16, st.integers(0, 255))
def test_keys_hold_numbers_big_endian_in_their_places(id_: bytes, big: int, small: int, kind: int) -> None:
    u64, u16 = big.to_bytes(8, "big"), small.to_bytes(2, "big")
    assert number_key(big) == u64
    assert number(u64[:small]) == int.from_bytes(u64[:small], "big")
    assert (body_key(big, small), wake_key(big, small)) == (u64 + u16, u64 + bytes(6) + u16)
    assert part_name(id_, small) == id_ + u16
    assert due_key(small, big, id_) == bytes(6) + u16 + u64 + id_
    assert timer_of(timer_key(big, id_, kind)) == (big, id_, kind)


@given(U64, st.binary(max_size=50), st.integers(1, 60))
def test_chunk_rows_any_content_is_cut_in_order(extent: int, content: bytes, size: int) -> None:
    wanted = [
        (body_key(extent, number), content[at : at + size]) for number, at in enumerate(range(0, len(content), size))
    ]
    assert chunk_rows(extent, content, size) == wanted
    assert chunk_rows(extent, memoryview(bytearray(content)), size) == wanted


def test_chunk_rows_more_than_a_key_can_count_are_refused() -> None:
    assert chunk_rows(1, bytes(65_536), 1)[-1] == (body_key(1, 65_535), b"\0")
    with pytest.raises(OverflowError, match="65537 octets are more than 65536 chunks"):
        chunk_rows(1, bytes(65_537), 1)
    for size in (0, -1):
        with pytest.raises(ValueError, match="chunks of"):
            chunk_rows(1, b"x", size)


@given(st.integers(0, 2**70), st.booleans())
def test_turn_any_cost_stands_beside_the_suspect(cost: int, is_suspect: bool) -> None:
    assert turn_of(turn(cost, is_suspect)) == (min(cost, 2**31 - 1), is_suspect)


@pytest.mark.parametrize("number_", [-1, 2**64])
def test_keys_number_that_does_not_fit_is_told(number_: int) -> None:
    keys: list[Callable[[], bytes]] = [
        lambda: number_key(number_),
        lambda: due_key(1, number_, bytes(18)),
        lambda: timer_key(number_, bytes(18), 1),
        lambda: part_name(bytes(16), number_),
    ]
    for key in keys:
        with pytest.raises(OverflowError):
            key()


def test_checked_row_at_the_limit_passes_and_above_is_refused() -> None:
    assert checked(bytes(10), bytes(CHUNK_OCTETS)) == bytes(CHUNK_OCTETS)
    with pytest.raises(ValueError, match="2027 octets"):
        checked(bytes(10), bytes(ROW_OCTETS - 9))

"""Keys sort as what they hold, and no row is larger than a node may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.store import due_key, due_of, message_of, number, number_key, part_name, recipient_key, wake_key
from mta.store.codec import CHUNK_OCTETS, ROW_OCTETS, checked
from mta.store.keys import body_key

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


def test_checked_row_at_the_limit_passes_and_above_is_refused() -> None:
    assert checked(bytes(10), bytes(CHUNK_OCTETS)) == bytes(CHUNK_OCTETS)
    with pytest.raises(ValueError, match="2027 octets"):
        checked(bytes(10), bytes(ROW_OCTETS - 9))

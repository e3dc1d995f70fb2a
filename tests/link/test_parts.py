"""The frames of messages that come in parts, and what is not one of them."""

import msgspec
import pytest

from mta._fast import FrameReader
from mta.link import PART_OCTETS, Kind, read_end, read_id, read_part
from mta.link.frames import MAX_FRAME_OCTETS, encode
from mta.link.parts import end_pieces, part_head, read_part_stored
from tests.cuts import CUT_IDS, CUTS, Cut
from tests.link.test_frames import HEAD

ID = bytes(range(16))
HEAD_OCTETS = encode(HEAD)


@pytest.mark.parametrize("cut", CUTS, ids=CUT_IDS)
@pytest.mark.parametrize("n_octets", [1, 5000])
@pytest.mark.parametrize("repeat", [False, True])
def test_part_any_cut_is_the_same(cut: Cut, n_octets: int, repeat: bool) -> None:
    reader = FrameReader(MAX_FRAME_OCTETS)
    wire = part_head(ID, 4_000_000_000, n_octets, repeat=repeat) + b"x" * n_octets
    ((kind, payload),) = [found for piece in cut(wire) for found in reader.feed(piece)]
    part = read_part(payload)
    assert kind == Kind.PUT_PART
    assert (part.id, part.number, part.repeat, bytes(part.octets)) == (ID, 4_000_000_000, repeat, b"x" * n_octets)
    assert read_part_stored(part.stored) == (ID, 4_000_000_000)


def test_part_of_the_largest_size_fits_a_frame() -> None:
    reader = FrameReader(MAX_FRAME_OCTETS)
    ((_, payload),) = reader.feed(part_head(ID, 0, PART_OCTETS, repeat=False) + bytes(PART_OCTETS))
    assert len(read_part(payload).octets) == PART_OCTETS
    with pytest.raises(ValueError, match="part"):
        read_part(payload + b"x")


@pytest.mark.parametrize("cut", CUTS, ids=CUT_IDS)
def test_end_any_cut_is_the_same(cut: Cut) -> None:
    reader = FrameReader(MAX_FRAME_OCTETS)
    wire = b"".join(end_pieces(HEAD_OCTETS, (b"front", b"!"), 7, True, 128, 1 << 27))
    ((kind, payload),) = [found for piece in cut(wire) for found in reader.feed(piece)]
    put = read_end(payload)
    assert kind == Kind.PUT_END
    assert (put.head, put.content, put.confirmed, put.repeat) == (HEAD, b"front!", 7, True)
    assert (put.n_parts, put.octets) == (128, 1 << 27)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(11),
        # Without parts, or with nothing in them, it would be a PUT.
        b"".join(end_pieces(HEAD_OCTETS, (b"front",), 0, False, 0, 100))[5:],
        b"".join(end_pieces(HEAD_OCTETS, (b"front",), 0, False, 1, 5))[5:],
        b"".join(end_pieces(HEAD_OCTETS[:-1], (), 0, False, 1, 100))[5:],
    ],
)
def test_end_malformed_is_refused(payload: bytes) -> None:
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        read_end(payload)


@pytest.mark.parametrize("payload", [b"", bytes(20), bytes(21)])
def test_part_malformed_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="part"):
        read_part(payload)


@pytest.mark.parametrize("payload", [b"", bytes(15), bytes(17)])
def test_id_malformed_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="id"):
        read_id(payload)

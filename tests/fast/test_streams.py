"""ReplyReader and FrameReader: streams that may be cut anywhere."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta._fast import FrameReader, ReplyReader
from tests.cuts import CUT_IDS, CUTS, Cut, in_two, pieces_of
from tests.reference import lines

REPLY_LINES = st.sampled_from(
    [
        b"250 ok\r\n",
        b"250-a\r\n",
        b"250-\n",
        b"250\r\n",
        b"250 ok\n",
        b"550-x\r\n",
        b"550 5.1.1 \xff\r\n",
        b"220 a\rb\r\n",
    ]
)
REPLY_WIRES = st.one_of(
    st.lists(REPLY_LINES, max_size=12).map(b"".join),
    st.lists(
        st.one_of(REPLY_LINES, st.sampled_from([b"\r", b"\n", b"2", b"5", b"0", b"-", b" ", b"x"])), max_size=12
    ).map(b"".join),
)
FRAMES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=20)), max_size=6)


def read_replies(pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], bool]:
    reader = ReplyReader()
    found = [reply for piece in pieces for reply in reader.feed(piece)]
    return found, reader.broken


@pytest.mark.parametrize("cut", CUTS, ids=CUT_IDS)
@pytest.mark.parametrize(
    ("wire", "replies", "broken"),
    [
        # One line, with and without text.
        (b"220 mx.test ESMTP\r\n", [(220, b"mx.test ESMTP")], False),
        (b"250\r\n", [(250, b"")], False),
        (b"250 \r\n", [(250, b"")], False),
        # Several lines are one reply, several replies are several.
        (b"250-a\r\n250-\r\n250 c\r\n", [(250, b"a\n\nc")], False),
        (b"250-a\r\n250\r\n", [(250, b"a\n")], False),
        (b"250 a\r\n354 b\r\n", [(250, b"a"), (354, b"b")], False),
        # Sloppy line ends, and octets of any kind.
        (b"250-a\n250 b\n", [(250, b"a\nb")], False),
        (b"250 a\rb\0\xff\r\n", [(250, b"a\rb\0\xff")], False),
        # Not complete: no reply yet, and nothing wrong.
        (b"250-a\r\n", [], False),
        (b"250 a\r", [], False),
        # No reply lines.
        (b"\r\n", [], True),
        (b"25\r\n", [], True),
        (b"2500 a\r\n", [], True),
        (b"199 a\r\n", [], True),
        (b"600 a\r\n", [], True),
        (b"2x0 a\r\n", [], True),
        (b"250\r\r\n", [], True),
        (b"HTTP/1.1 400\r\n", [], True),
        # Codes that differ within a reply; what was complete before that counts, what follows does not.
        (b"250 a\r\n250-b\r\n550 c\r\n250 d\r\n", [(250, b"a")], True),
        # The limits: 100 lines, 65,536 octets, of one reply and not of all.
        (b"250-a\r\n" * 99 + b"250 b\r\n", [(250, b"a\n" * 99 + b"b")], False),
        (b"250-a\r\n" * 100 + b"250 b\r\n", [], True),
        (b"250 " + b"x" * 65530 + b"\r\n" + b"250 b\r\n", [(250, b"x" * 65530), (250, b"b")], False),
        (b"250 " + b"x" * 65531 + b"\r\n", [], True),
        (b"250 " + b"x" * 65532, [], False),
        (b"250 " + b"x" * 65533, [], True),
        (b"250 b\r\n" * 20000, [(250, b"b")] * 20000, False),
    ],
)
def test_reply_reader_any_cut_gives_same_replies(
    wire: bytes, replies: list[tuple[int, bytes]], broken: bool, cut: Cut
) -> None:
    assert read_replies(cut(wire)) == (replies, broken)


@given(pieces=pieces_of(REPLY_WIRES))
def test_reply_reader_any_stream_agrees_with_reference(pieces: list[bytes]) -> None:
    assert read_replies(pieces) == lines.replies(b"".join(pieces))


def test_reply_reader_broken_returns_nothing_more() -> None:
    reader = ReplyReader()
    assert reader.feed(b"x\r\n") == []
    assert reader.feed(b"250 a\r\n") == []
    assert reader.broken


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("<IB", len(payload) + 1, kind) + payload


@pytest.mark.parametrize("cut", CUTS, ids=CUT_IDS)
@pytest.mark.parametrize(
    "frames",
    [
        [],
        [(0, b"")],
        [(255, b"\0\xff")],
        [(1, b""), (2, b"a"), (3, b""), (4, b"payload" * 100)],
        [(7, b"x" * 999)],
    ],
)
def test_frame_reader_any_cut_gives_same_frames(frames: list[tuple[int, bytes]], cut: Cut) -> None:
    reader = FrameReader(1000)
    found = [each for piece in cut(b"".join(frame(*each) for each in frames)) for each in reader.feed(piece)]
    assert (found, reader.n_buffered) == (frames, 0)


@given(frames=FRAMES, data=st.data())
def test_frame_reader_any_stream_agrees_with_reference(frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
    wire = b"".join(frame(*each) for each in frames)
    n_octets = data.draw(st.integers(0, len(wire)))
    reader = FrameReader(21)
    fed, found = b"", list[tuple[int, bytes]]()
    for piece in data.draw(pieces_of(st.just(wire[:n_octets]))):
        fed += piece
        found += reader.feed(piece)
        assert (found, reader.n_buffered) == lines.frames(fed)


@pytest.mark.parametrize("wire", [b"\0\0\0\0", frame(1, b"x" * 10), b"\xff\xff\xff\xff\0"])
def test_frame_reader_empty_or_too_long_raises_at_any_cut(wire: bytes) -> None:
    # Neither a frame that lies whole in one read nor the head alone gets through.
    for first, second in [(wire, b""), *in_two(wire[:5])]:
        reader = FrameReader(10)
        with pytest.raises(ValueError, match="expected 1 to 10"):
            reader.feed(first) or reader.feed(second)
        # It stays refused, whatever follows.
        with pytest.raises(ValueError, match="expected 1 to 10"):
            reader.feed(frame(1, b"x"))


def test_frame_reader_keeps_nothing_of_a_buffer_that_is_used_again() -> None:
    wire, buffer = frame(1, b"first") + frame(2, b"second"), bytearray(7)
    reader, found = FrameReader(10), list[tuple[int, bytes]]()
    for at in range(0, len(wire), 7):
        piece = wire[at : at + 7]
        buffer[: len(piece)] = piece
        found += reader.feed(memoryview(buffer)[: len(piece)])
    assert found == [(1, b"first"), (2, b"second")]


def test_frame_reader_longest_allowed_frame_passes() -> None:
    assert FrameReader(10).feed(frame(1, b"x" * 9)) == [(1, b"x" * 9)]

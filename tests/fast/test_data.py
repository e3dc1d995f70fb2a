"""DotReader, DotStuffer, normalize: whatever the cuts, what the plain statement in tests/reference says."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mta._fast import VECTOR_PATHS, DotReader, DotStuffer, normalize
from tests.cuts import CUT_IDS, CUTS, TRAILING, Cut, in_two, pieces_of
from tests.reference import dots

# Mostly what scanners look for; sometimes runs long enough to fill vector blocks between it.
TOKENS = st.sampled_from(
    [b"\r\n", b"\r\n", b"\r\n.", b"\r\n.\r", b"\r\n..", b"\r", b"\n", b".", b"\0", b"\xff", b"a", b"xyz"]
    + [b"l" * n for n in (30, 55, 61, 62, 63, 64, 65, 130)]
)
WIRES = st.one_of(
    st.lists(TOKENS, max_size=40).map(b"".join),
    st.lists(st.sampled_from([b"\r", b"\n", b".", b"\0", b"\x80", b"a"]), max_size=200).map(b"".join),
)


def read(pieces: list[bytes], path: str = "") -> dots.Read:
    """Feed a DotReader as a session does: what is left of a read after the end is not fed again."""
    reader = DotReader(path)
    body, used = b"", 0
    for piece in pieces:
        if reader.done:
            break
        part, stop = reader.feed(piece)
        body += part
        used += stop
        assert stop == len(piece) or reader.done
    assert reader.octets == len(body)
    return dots.Read(body, used, reader.bare_line_end, reader.has_8bit, reader.longest_line, reader.done)


@pytest.mark.parametrize("trailing", TRAILING)
@pytest.mark.parametrize("cut", CUTS, ids=CUT_IDS)
@pytest.mark.parametrize("path", VECTOR_PATHS)
@pytest.mark.parametrize(
    ("wire", "body", "bare"),
    [
        # An empty mail is one line. RFC 5321 s4.1.1.4.
        (b".\r\n", b"", False),
        (b"\r\n.\r\n", b"\r\n", False),
        # Ordinary lines, below, at and above the width of a vector block.
        (b"a\r\nbc\r\n.\r\n", b"a\r\nbc\r\n", False),
        (b"x" * 62 + b"\r\n.\r\n", b"x" * 62 + b"\r\n", False),
        (b"x" * 63 + b"\r\n.\r\n", b"x" * 63 + b"\r\n", False),
        (b"x" * 200 + b"\r\n" + b"y" * 300 + b"\r\n.\r\n", b"x" * 200 + b"\r\n" + b"y" * 300 + b"\r\n", False),
        # Many short lines in one block, the longest not the first.
        (b"a\r\nlonger\r\n" + b"b\r\n" * 30 + b".\r\n", b"a\r\nlonger\r\n" + b"b\r\n" * 30, False),
        # Stuffed dots lose exactly one dot.
        (b"..\r\n.\r\n", b".\r\n", False),
        (b"...\r\n..a\r\n.\r\n", b"..\r\n.a\r\n", False),
        (b"a.\r\n.\r\n", b"a.\r\n", False),
        # A dot that was not stuffed, on a line that goes on, is left out all the same. RFC 5321 s4.5.2.
        (b".a\r\n.\r\n", b"a\r\n", False),
        (b". \r\n.\r\n", b" \r\n", False),
        # A dot line that is none because of a CR too many: the dot goes, both CRs stay, the first is bare.
        (b".\r\r\n.\r\n", b"\r\r\n", True),
        (b"a\r\n.\rx\r\n.\r\n", b"a\r\n\rx\r\n", True),
        (b".\r.\r\n.\r\n", b"\r.\r\n", True),
        # Smuggling: a dot between anything but CRLFs does not end the mail.
        (b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n", True),
        (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n", True),
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n", True),
        (b"a\r.\r\nb\r\n.\r\n", b"a\r.\r\nb\r\n", True),
        (b"a\r.\rb\r\n.\r\n", b"a\r.\rb\r\n", True),
        (b"a\r\n\0.\r\nb\r\n.\r\n", b"a\r\n\0.\r\nb\r\n", False),
        (b"a\r\n.\0\r\nb\r\n.\r\n", b"a\r\n\0\r\nb\r\n", False),
        (b"\n.\r\n\r\n.\r\n", b"\n.\r\n\r\n", True),
        # A CR before CRLF is bare, but the CRLF is one.
        (b"a\r\r\n.\r\n", b"a\r\r\n", True),
        # High octets and NULs pass.
        (b"\xff\0\x80\r\n.\r\n", b"\xff\0\x80\r\n", False),
    ],
)
def test_dot_reader_any_cut_gives_same_body(
    wire: bytes, body: bytes, bare: bool, path: str, cut: Cut, trailing: bytes
) -> None:
    result = read(cut(wire + trailing), path)
    assert (result.body, result.bare_line_end, result.used, result.done) == (body, bare, len(wire), True)
    assert result == dots.read(wire)


@pytest.mark.parametrize("path", VECTOR_PATHS)
@given(pieces=pieces_of(WIRES))
@example(pieces=[b"a\r\n.\r", b"x"])
@example(pieces=[b"a\r\n.", b"\r", b"", b"\r\n.\r\n"])
@example(pieces=[b"l" * 70 + b"\r", b"\n" + b"l" * 61 + b"\r\n.\r\n"])
def test_dot_reader_any_stream_agrees_with_reference(path: str, pieces: list[bytes]) -> None:
    assert read(pieces, path) == dots.read(b"".join(pieces))


@pytest.mark.parametrize("path", VECTOR_PATHS)
@given(wire=WIRES)
def test_dot_reader_any_beginning_agrees_with_reference(path: str, wire: bytes) -> None:
    reader = DotReader(path)
    body = b""
    for i in range(len(wire)):
        body += reader.feed(wire[i : i + 1])[0]
        known = dots.Read(body, i + 1, reader.bare_line_end, reader.has_8bit, reader.longest_line, reader.done)
        assert known == dots.read(wire[: i + 1])
        if reader.done:
            break


@pytest.mark.parametrize("path", VECTOR_PATHS)
@pytest.mark.parametrize("before", [0, 1, 40, 61, 62, 63, 64, 100])
def test_dot_reader_cut_anywhere_round_the_end_finds_it(before: int, path: str) -> None:
    wire = b"x" * before + b"\r\n..\r\n.\r\n" + b"y" * 70
    for pieces in in_two(wire):
        assert read(pieces, path) == dots.read(wire)


@pytest.mark.parametrize("path", VECTOR_PATHS)
def test_dot_reader_octets_behind_the_end_count_for_nothing(path: str) -> None:
    wire = b"a\r\n.\r\n\xff\n\r" + b"z" * 100
    assert read([wire], path) == dots.Read(b"a\r\n", 6, False, False, 1, True)


@pytest.mark.parametrize("path", VECTOR_PATHS)
@given(wire=WIRES, start=st.integers(0, 100))
def test_dot_reader_start_skips_what_was_read_before(path: str, wire: bytes, start: int) -> None:
    reader = DotReader(path)
    body, stop = reader.feed(b"\r" * start + wire, start)
    expected = dots.read(wire)
    assert (body, stop, reader.bare_line_end) == (expected.body, start + expected.used, expected.bare_line_end)


@pytest.mark.parametrize("path", VECTOR_PATHS)
@pytest.mark.parametrize("data", [b"", b"a", b"a\r\nb\r\n", b"a\nb\r", b"a.\r\n" * 100])
def test_dot_reader_nothing_to_cut_returns_data_itself(data: bytes, path: str) -> None:
    body, _ = DotReader(path).feed(data)
    assert body is data


def test_dot_reader_fed_after_the_end_raises() -> None:
    reader = DotReader()
    reader.feed(b".\r\n")
    with pytest.raises(RuntimeError):
        reader.feed(b"")


@pytest.mark.parametrize("start", [-1, 4])
def test_dot_reader_start_outside_data_raises(start: int) -> None:
    with pytest.raises(IndexError):
        DotReader().feed(b"abc", start)


def test_dot_reader_unknown_path_raises() -> None:
    with pytest.raises(ValueError, match="portable"):
        DotReader("abacus")


def stuff(pieces: list[bytes]) -> bytes:
    stuffer = DotStuffer()
    return b"".join([stuffer.feed(piece) for piece in pieces] + [stuffer.end()])


@pytest.mark.parametrize("cut", CUTS, ids=CUT_IDS)
@pytest.mark.parametrize(
    ("body", "wire"),
    [
        # The end begins a line of its own, and makes one where there is none.
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        # One dot more for each line that begins with one.
        (b".", b"..\r\n.\r\n"),
        (b".\r\n.\r\n..a\r\nb.\r\n", b"..\r\n..\r\n...a\r\nb.\r\n.\r\n"),
        (b".\r\n" * 50, b"..\r\n" * 50 + b".\r\n"),
        # A dot behind a bare LF or CR begins no line.
        (b"a\n.\r\n", b"a\n.\r\n.\r\n"),
        (b"a\r.", b"a\r.\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
    ],
)
def test_dot_stuffer_any_cut_gives_same_wire(body: bytes, wire: bytes, cut: Cut) -> None:
    assert stuff(cut(body)) == wire


@given(pieces=pieces_of(WIRES))
def test_dot_stuffer_any_body_comes_back_through_dot_reader(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    wire = stuff(pieces)
    assert wire == dots.stuffed(body)
    back = dots.read(wire)
    assert (back.body.removesuffix(b"\r\n"), back.used) == (body.removesuffix(b"\r\n"), len(wire))


def test_dot_stuffer_nothing_to_add_returns_data_itself() -> None:
    data = b"a\r\nb.\r\n"
    assert DotStuffer().feed(data) is data


@pytest.mark.parametrize(
    ("body", "normal"),
    [
        # Nothing to do.
        (b"", b""),
        (b"a\r\n.\r\n\r\n", b"a\r\n.\r\n\r\n"),
        # Each on its own.
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\rb\r", b"a b "),
        # Beside a whole CRLF.
        (b"a\r\r\n\n\r", b"a \r\n\r\n "),
    ],
)
def test_normalize_bare_line_ends_become_whole(body: bytes, normal: bytes) -> None:
    assert normalize(body) == normal


@given(body=WIRES)
def test_normalize_any_body_agrees_with_reference(body: bytes) -> None:
    normal = normalize(body)
    assert normal == dots.normal(body)
    assert normalize(normal) is normal

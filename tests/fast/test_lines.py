"""find_line, split_command and the header functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta._fast import BAD_LINE, UNKNOWN, VERBS, count_received, find_line, has_8bit_header, split_command
from tests.reference import lines

OCTETS = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b"\xff", b"a", b":"])).map(b"".join)
FIELDS = st.lists(
    st.sampled_from(
        [b"Received", b"received", b"RECEIVED", b"Receive", b":", b" ", b"\t", b"\r\n", b"\n", b"\xc3", b"a"]
    )
).map(b"".join)


@pytest.mark.parametrize(
    ("data", "start", "end"),
    [
        # None there.
        (b"", 0, -1),
        (b"abc\r", 0, -1),
        (b"a\nb", 2, -1),
        (b"a\n", 2, -1),
        # The first at or after the start.
        (b"a\r\nb\r\n", 0, 3),
        (b"a\r\nb\r\n", 2, 3),
        (b"a\r\nb\r\n", 3, 6),
    ],
)
def test_find_line_returns_index_behind_line_feed(data: bytes, start: int, end: int) -> None:
    assert find_line(data, start) == end


@pytest.mark.parametrize("start", [-1, 4])
def test_find_line_start_outside_data_raises(start: int) -> None:
    with pytest.raises(IndexError):
        find_line(b"abc", start)


@pytest.mark.parametrize(
    ("line", "code", "argument"),
    [
        # Whatever the case, with and without argument.
        (b"QUIT\r\n", VERBS.index("QUIT"), b""),
        (b"mAiL FROM:<a@b.test>\r\n", VERBS.index("MAIL"), b"FROM:<a@b.test>"),
        (b"EHLO\tx\r\n", VERBS.index("EHLO"), b"x"),
        (b"xforward a\r\n", VERBS.index("XFORWARD"), b"a"),
        # Blanks round the argument go, those inside stay.
        (b"NOOP \t a  b \t \r\n", VERBS.index("NOOP"), b"a  b"),
        (b"DATA \r\n", VERBS.index("DATA"), b""),
        # Octets >= 0x80 pass.
        (b"VRFY \xff\r\n", VERBS.index("VRFY"), b"\xff"),
        # Nothing we can name.
        (b"\r\n", UNKNOWN, b""),
        (b" QUIT\r\n", UNKNOWN, b"QUIT"),
        (b"QUITX\r\n", UNKNOWN, b""),
        (b"QUI\r\n", UNKNOWN, b""),
        (b"STARTTLSX a\r\n", UNKNOWN, b"a"),
        (b"\xd1UIT\r\n", UNKNOWN, b""),
        (b"GET / HTTP/1.1\r\n", UNKNOWN, b"/ HTTP/1.1"),
        # No command line at all.
        (b"", BAD_LINE, b""),
        (b"\n", BAD_LINE, b""),
        (b"QUIT\n", BAD_LINE, b""),
        (b"QUIT\r", BAD_LINE, b""),
        (b"QUIT", BAD_LINE, b""),
        (b"QUIT\r\r\n", BAD_LINE, b""),
        (b"QUIT\nQUIT\r\n", BAD_LINE, b""),
        (b"MAIL FROM:<a\0b>\r\n", BAD_LINE, b""),
    ],
)
def test_split_command_gives_code_and_argument(line: bytes, code: int, argument: bytes) -> None:
    assert split_command(line, 0, len(line)) == (code, argument)
    # What stands round the line does not matter.
    assert split_command(b"\0A" + line + b"B\r\n", 2, 2 + len(line)) == (code, argument)


@pytest.mark.parametrize("verb", VERBS)
def test_split_command_every_verb_is_found(verb: str) -> None:
    line = f"{verb.title()} x\r\n".encode()
    assert split_command(line, 0, len(line)) == (VERBS.index(verb), b"x")


@given(verb=st.sampled_from([*VERBS, ""]), rest=OCTETS, end=st.sampled_from([b"\r\n", b"\n", b""]))
def test_split_command_any_line_agrees_with_reference(verb: str, rest: bytes, end: bytes) -> None:
    line = verb.encode() + rest + end
    assert split_command(line, 0, len(line)) == lines.split(line, VERBS, UNKNOWN, BAD_LINE)


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (0, 5), (3, 2)])
def test_split_command_outside_data_raises(start: int, end: int) -> None:
    with pytest.raises(IndexError):
        split_command(b"a\r\n\r", start, end)


def test_split_command_codes_name_no_verb_by_accident() -> None:
    assert {UNKNOWN, BAD_LINE}.isdisjoint(range(-len(VERBS), len(VERBS)))
    assert UNKNOWN != BAD_LINE


@pytest.mark.parametrize(
    ("body", "n_received"),
    [
        # Whatever the case, and blanks before the colon. RFC 5322 s4.5.
        (b"", 0),
        (b"Received: a\r\nRECEIVED: b\r\nreceived \t: c\r\n\r\n", 3),
        # Other names, and a name with nothing behind it.
        (b"Received-SPF: a\r\nX-Received: b\r\nReceived\r\n", 0),
        # Not in continuation lines, not in the body.
        (b"Subject: a\r\n Received: b\r\n\r\nReceived: c\r\n", 0),
        (b"\r\nReceived: a\r\n", 0),
        (b"\nReceived: a\r\n", 0),
        # A header section without an end.
        (b"Received: a\r\nReceived:", 2),
    ],
)
def test_count_received_counts_fields_of_the_header_section(body: bytes, n_received: int) -> None:
    assert count_received(body) == n_received


@pytest.mark.parametrize(
    ("body", "has_8bit"),
    [
        (b"", False),
        (b"Subject: a\r\n\r\n\xff", False),
        (b"\r\n\xff", False),
        (b"Subject: \xc3\xa4\r\n\r\n", True),
        (b"Subject: a\r\n\xff", True),
    ],
)
def test_has_8bit_header_looks_at_the_header_section_alone(body: bytes, has_8bit: bool) -> None:
    assert has_8bit_header(body) is has_8bit


@given(body=FIELDS)
def test_headers_any_body_agree_with_reference(body: bytes) -> None:
    assert count_received(body) == lines.count_received(body)
    assert has_8bit_header(body) == lines.has_8bit_header(body)

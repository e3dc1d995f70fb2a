"""Octets of a notice: nothing from outside can break it, and it asks a next hop for no more than it needs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.report import HEADER_OCTETS, FailedRecipient, Original
from mta.report.bounce import _boundary
from tests.report.notices import BOB, HEADERS, ID, NOTICE_ID, RECEIVED, RECEIVED_AT, Read, build, fail, with_headers

# The header section.


def test_build_notice_header_section_comes_back_as_it_was_without_body() -> None:
    assert Read(build()).headers == HEADERS
    assert Read(build(with_headers(HEADERS))).headers == HEADERS
    assert Read(build(with_headers(b"\r\nOnly a text.\r\n"))).headers == b""


@pytest.mark.parametrize(
    ("data", "shown", "is_cut"),
    [
        # The end is within the limit, just so.
        (b"X: " + b"x" * 100 + b"\r\n", 105, False),
        (b"A: b\r\n" * (HEADER_OCTETS // 6) + b"C:d" + b"\r\n", HEADER_OCTETS // 6 * 6, True),
        (b"A: bb\r\n" * 9362 + b"\r\n", 9362 * 7, False),
        (b"A: bcde\r\n" * 9000 + b"\r\n", HEADER_OCTETS // 9 * 9, True),
        # The caller gave less than there is.
        (b"A: b\r\nC: d\r\nE", 12, True),
        (b"A", 0, True),
    ],
)
def test_build_notice_long_header_is_cut_at_a_line_end_and_says_so(data: bytes, shown: int, is_cut: bool) -> None:
    read = Read(build(with_headers(data)))
    assert read.headers == data[:shown]
    assert (f"it is cut after {shown} octets" in " ".join(read.text.split())) is is_cut


def test_build_notice_header_limit_counts_the_section_not_the_empty_line() -> None:
    line = b"X: " + b"x" * 27 + b"\r\n"
    section = line * (HEADER_OCTETS // 32)
    assert len(section) == HEADER_OCTETS
    read = Read(build(with_headers(section + b"\r\nbody\r\n")))
    assert read.headers == section
    assert "too long" not in read.text


@pytest.mark.parametrize("letter", ["x", "\u00fc", "\u4e2d", "\U0001f600"])
def test_build_notice_overlong_header_line_is_folded_between_characters(letter: str) -> None:
    line = ("X: " + letter * 4000).encode()
    read = Read(build(with_headers(RECEIVED + line + b"\r\n\r\n", utf8=True)))
    assert read.headers.replace(b"\r\n ", b"") == RECEIVED + line + b"\r\n"
    assert all(piece.decode() for piece in read.headers.split(b"\r\n")[3:-1])


# Beyond ASCII.


def test_build_notice_utf8_addresses_make_it_global() -> None:
    original = Original(ID, "j\u00fcrgen@example.test", RECEIVED_AT, True, "Subject: \u4e2d\r\n\r\n".encode())
    one = fail(address="\u7528\u6237@\u4f8b\u5b50.test", diagnostic="5.1.1 \u65e0\u6b64\u7528\u6237")
    notice = build(original, [one, BOB])
    read = Read(notice)
    assert (notice.has_8bit, notice.utf8) == (True, True)
    assert (read.report_type, read.headers_type) == ("message/global-delivery-status", "message/global-headers")
    assert read.groups[0]["Final-Recipient"] == "utf-8; \u7528\u6237@\u4f8b\u5b50.test"
    assert read.groups[0]["Diagnostic-Code"] == "smtp; 550 5.1.1 \u65e0\u6b64\u7528\u6237"
    assert read.groups[1]["Final-Recipient"] == "rfc822; bob@example.net"
    assert b"To: <j\xc3\xbcrgen@example.test>\r\n" in read.head
    assert read.text_encoding == "8bit"
    assert "<\u7528\u6237@\u4f8b\u5b50.test>\n" in read.text
    assert read.headers == "Subject: \u4e2d\r\n".encode()


@pytest.mark.parametrize(
    ("headers", "utf8", "is_global", "headers_type", "has_8bit"),
    [
        (b"X: y\r\n\r\n", True, False, "text/rfc822-headers", False),
        ("X: \u00fc\r\n\r\n".encode(), True, True, "message/global-headers", True),
        # Raw octets that nobody declared, or that are no UTF-8 at all, need 8BITMIME only.
        ("X: \u00fc\r\n\r\n".encode(), False, False, "text/rfc822-headers", True),
        (b"X: \xfc\r\n\r\n", False, False, "text/rfc822-headers", True),
        (b"X: \xfc\r\n\r\n", True, False, "text/rfc822-headers", True),
        # A body is nobody's business.
        (b"X: y\r\n\r\n\xc3\xbc\r\n", True, False, "text/rfc822-headers", False),
    ],
)
def test_build_notice_8bit_headers_ask_for_what_they_need(
    headers: bytes, utf8: bool, is_global: bool, headers_type: str, has_8bit: bool
) -> None:
    notice = build(with_headers(headers, utf8=utf8))
    read = Read(notice)
    assert (notice.utf8, notice.has_8bit, read.headers_type) == (is_global, has_8bit, headers_type)
    assert read.headers == headers.partition(b"\r\n\r\n")[0] + b"\r\n"
    assert read.message["Content-Transfer-Encoding"] == ("8bit" if has_8bit else "7bit")


def test_build_notice_reply_beyond_ascii_alone_stays_deliverable_everywhere() -> None:
    notice = build(failed=[fail(diagnostic="5.1.1 Kein Empf\u00e4nger = \ufffd")])
    read = Read(notice)
    assert (notice.has_8bit, notice.utf8) == (False, False)
    assert read.report_type == "message/delivery-status"
    assert read.groups[0]["Diagnostic-Code"] == "smtp; 550 5.1.1 Kein Empf?nger = ?"
    assert read.text_encoding == "quoted-printable"
    assert "        550 5.1.1 Kein Empf\u00e4nger = \ufffd\n" in read.text


# Hostile input.


def test_build_notice_boundary_that_was_guessed_is_not_used() -> None:
    first = _boundary(NOTICE_ID, [])
    second = _boundary(NOTICE_ID, [first])
    assert first != second
    headers = b"X: y\r\n--" + first + b"--\r\n\r\n"
    diagnostic = f"5.1.1\n--{second.decode()}\n"
    notice = build(with_headers(headers), [fail(diagnostic=diagnostic)])
    assert Read(notice).message.get_boundary("") not in (first.decode(), second.decode())


def test_build_notice_boundary_differs_from_notice_to_notice() -> None:
    assert _boundary(NOTICE_ID, []) != _boundary(ID, [])


@pytest.mark.parametrize(
    "diagnostic",
    [
        "a\r\n\r\nX-Forged: y",
        "a\n\nFinal-Recipient: rfc822; forged@example.net",
        "a\rX-Forged: y",
        "a\x85X-Forged: y\u2028X-Forged: y\x0bX-Forged: y\x1cX-Forged: y",
        "\x1b[2J\x00\x08\x7f\x9b\u202e",
        "\ud800\udfff",
        "\n" * 1000,
        " " * 1000,
        "\t\n \r\n",
        "x" * 1000,
        "a" + " " * 998 + "b",
        "\U0001f600" * 250,
    ],
)
@pytest.mark.parametrize("code", [550, 0])
@pytest.mark.parametrize("address", ["bob@example.net", "\u00fc@example.net"])
def test_build_notice_hostile_reply_stays_in_its_field(diagnostic: str, code: int, address: str) -> None:
    read = Read(build(failed=[fail(diagnostic=diagnostic, code=code, address=address), BOB]))
    assert len(read.groups) == 2
    for group in read.groups:
        assert group.keys() <= {"Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code"}
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]", read.text)
    assert not re.search("^X-Forged", read.text, re.MULTILINE)


ANY_TEXT = st.text(st.characters(), max_size=1000)
HOSTILE_TEXT = st.lists(
    st.sampled_from(
        ["\r\n", "\n", "\r", "\0", " ", "\t", "--", "=_", "X: y", ".", ":", ";", "\u00fc", "\ud800", "a" * 99]
    )
    | st.text(max_size=9)
).map("".join)
TEXT = ANY_TEXT | HOSTILE_TEXT
# As long as `parse_mailbox` lets them be, and not at all as it wants them.
ADDRESS = TEXT.map(lambda text: text[:63])
OCTETS = st.binary(max_size=3000) | st.lists(
    st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b"--", b"Message-ID: <", b"@", b">", b" ", b"\xfc", b"x" * 999])
    | st.binary(max_size=9)
).map(b"".join)
FAILED = st.builds(
    fail,
    address=ADDRESS,
    final=st.sampled_from(["bounced", "expired"]),
    code=st.integers(0, 999),
    enhanced=TEXT,
    reason=TEXT,
    remote_mta=TEXT,
    diagnostic=TEXT,
)


@given(
    sender=ADDRESS.filter(bool),
    utf8=st.booleans(),
    headers=OCTETS,
    failed=st.lists(FAILED, min_size=1, max_size=4),
)
def test_build_notice_any_input_gives_one_well_formed_notice(
    sender: str, utf8: bool, headers: bytes, failed: list[FailedRecipient]
) -> None:
    original = Original(ID, sender, RECEIVED_AT, utf8, RECEIVED + headers)
    notice = build(original, failed)
    read = Read(notice)
    assert notice == build(original, failed)
    assert list(read.about) == ["Reporting-MTA", "X-Posthaste-Queue-ID", "Arrival-Date"]
    assert len(read.groups) == len(failed)
    for group in read.groups:
        assert list(group)[:3] == ["Final-Recipient", "Action", "Status"]
        assert group.keys() <= {"Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code"}
        assert re.fullmatch(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}", group["Status"])
    assert read.headers.startswith(RECEIVED)
    assert b"\r\n\r\n" not in read.headers
    names = [name for name in read.message if name not in ("In-Reply-To", "References")]
    assert names == [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
    ]

"""The Received field and its date."""

from email import message_from_bytes, policy

import pytest

from mta.smtp import DateStamp, received_field

ID = "0123456789abcdef" * 2
WHEN = "Thu, 01 Jan 1970 00:00:00 +0000"


def test_received_field_ordinary_is_three_short_lines() -> None:
    field = received_field("client.example.org", "192.0.2.1", "mx.example.test", "ESMTP", ID, "bob@example.net", WHEN)
    assert field == (
        b"Received: from client.example.org ([192.0.2.1])\r\n"
        b"\tby mx.example.test with ESMTP id 0123456789abcdef0123456789abcdef\r\n"
        b"\tfor <bob@example.net>; Thu, 01 Jan 1970 00:00:00 +0000\r\n"
    )


def test_received_field_without_recipient_and_ipv6() -> None:
    field = received_field("[IPv6:2001:db8::1]", "2001:db8::1", "mx.example.test", "SMTP", ID, "", WHEN)
    assert field == (
        b"Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n"
        b"\tby mx.example.test with SMTP id 0123456789abcdef0123456789abcdef;\r\n"
        b"\tThu, 01 Jan 1970 00:00:00 +0000\r\n"
    )


@pytest.mark.parametrize("helo", ["", "h", "h" * 70, "h" * 255])
@pytest.mark.parametrize("hostname", ["m", "m" * 60, "m" * 255])
@pytest.mark.parametrize("recipient", ["", "r@e.org", '"' + "a b" * 20 + '"@' + "e" * 180])
def test_received_field_any_length_is_folded_and_reads_back(helo: str, hostname: str, recipient: str) -> None:
    field = received_field(helo, "192.0.2.1", hostname, "ESMTP", ID, recipient, WHEN)
    lines = field.split(b"\r\n")
    assert lines.pop() == b""
    assert not any(c in line for line in lines for c in b"\r\n")
    assert all(line[:1] == b"\t" for line in lines[1:])
    # Longer than 77 only where one word is.
    assert all(len(line) <= 77 or len(line) <= 20 + max(len(helo), len(hostname), len(recipient)) for line in lines)
    parsed = message_from_bytes(field + b"\r\n", policy=policy.compat32)["Received"]
    wanted = [
        "from",
        helo or "[192.0.2.1]",
        *(["([192.0.2.1])"] if helo else []),
        "by",
        hostname,
        "with",
        "ESMTP",
        "id",
    ]
    tail = f"{ID} for <{recipient}>; {WHEN}" if recipient else f"{ID}; {WHEN}"
    assert " ".join(parsed.split()) == " ".join([*wanted, *tail.split()])


def test_received_field_utf8_recipient_only_in_a_utf8_message() -> None:
    assert "grün@b.c".encode() in received_field("h", "192.0.2.1", "m", "UTF8SMTP", ID, "grün@b.c", WHEN)
    assert b"for" not in received_field("h", "192.0.2.1", "m", "ESMTP", ID, "grün@b.c", WHEN)


def test_date_stamp_same_second_gives_the_same_text() -> None:
    stamp = DateStamp()
    assert stamp.text(0.9) == WHEN
    assert stamp.text(0.1) is stamp.text(0.99)
    assert stamp.text(1_000_000_000.5) == "Sun, 09 Sep 2001 01:46:40 +0000"

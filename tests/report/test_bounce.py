"""What stands in a notice: its words, the fields of its report, and what it answers."""

import re

import msgspec
import pytest

from mta.report import FailedRecipient
from tests.report.notices import BOB, HOSTNAME, NOTICE_ID, NOW, ORIGINAL, RECEIVED, Read, build, fail, with_headers

# Everything that stands in a notice, for people to read: a change of the words is seen here.
EXAMPLE = """\
From: Mail Delivery System <MAILER-DAEMON@mx1.example.test>
To: <ann@example.test>
Subject: Your message could not be delivered
Date: Sun, 19 Nov 2023 22:13:20 +0000
Message-ID: <101112131415161718191a1b1c1d1e1f@mx1.example.test>
In-Reply-To: <1234@client.test>
References: <1234@client.test>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="BOUNDARY"
Content-Transfer-Encoding: 7bit

--BOUNDARY
Content-Type: text/plain; charset=us-ascii
Content-Transfer-Encoding: 7bit

This is the mail server mx1.example.test.

We are sorry: your message could not be delivered to the 2 recipients below,
and it will not be tried again. Recipients who are not named here are not
affected.

  <bob@example.net>
    What happened: refused at RCPT.
    mx.example.net [192.0.2.1] said:
        550 5.1.1 No such user here

  <eve@example.org>
    What happened: we have given up after 5 days. The last attempt: cannot
    connect to mx.example.org [192.0.2.9]:25: timed out.

Before you send again, look for typing mistakes. If you ask somebody for
help, please pass on this whole notice. Your message came in on Tue, 14 Nov
2023 22:13:20 +0000 under the number 000102030405060708090a0b0c0d0e0f.

Below are a report for programs and the header of your message; its text is
not sent back.

--BOUNDARY
Content-Type: message/delivery-status
Content-Transfer-Encoding: 7bit

Reporting-MTA: dns; mx1.example.test
X-Posthaste-Queue-ID: 000102030405060708090a0b0c0d0e0f
Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000

Final-Recipient: rfc822; bob@example.net
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; 550 5.1.1 No such user here

Final-Recipient: rfc822; eve@example.org
Action: failed
Status: 4.4.7
Remote-MTA: dns; mx.example.org
Diagnostic-Code: x-posthaste; cannot connect to mx.example.org
 [192.0.2.9]:25: timed out

--BOUNDARY
Content-Type: text/rfc822-headers
Content-Transfer-Encoding: 7bit

Received: from client.test ([192.0.2.99])
\tby mx1.example.test with ESMTP id 0001;
\tnow
From: Ann <ann@example.test>
Message-ID: <1234@client.test>
Subject: hello

--BOUNDARY--
"""


def test_build_notice_example_is_this() -> None:
    notice = build()
    boundary = Read(notice).message.get_boundary("")
    assert notice.content.decode().replace(boundary, "BOUNDARY") == EXAMPLE.replace("\n", "\r\n")
    assert (notice.has_8bit, notice.utf8) == (False, False)
    assert max(map(len, EXAMPLE.split("\n"))) <= 78


def test_build_notice_python_reads_fields_and_groups() -> None:
    message = Read(build()).message
    assert message["From"] == f"Mail Delivery System <MAILER-DAEMON@{HOSTNAME}>"
    assert message["To"].addresses[0].addr_spec == "ann@example.test"
    assert message["Date"].datetime.timestamp() == NOW // 1000
    assert message["Message-ID"] == f"<{NOTICE_ID.hex()}@{HOSTNAME}>"
    assert message["Auto-Submitted"] == "auto-replied"
    _, report, headers = message.iter_parts()
    assert [group["Final-Recipient"] for group in report.walk() if group is not report] == [
        None,
        "rfc822; bob@example.net",
        "rfc822; eve@example.org",
    ]
    assert headers.get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize(("sender", "failed"), [("", [BOB]), ("ann@example.test", [])])
def test_build_notice_nobody_to_tell_or_to_report_on_raises(sender: str, failed: list[FailedRecipient]) -> None:
    with pytest.raises(ValueError, match="a notice needs"):
        build(msgspec.structs.replace(ORIGINAL, sender=sender), failed)


def test_build_notice_hundred_recipients_are_all_named_in_order() -> None:
    read = Read(build(failed=[fail(address=f"user{number}@example.net") for number in range(100)]))
    assert [group["Final-Recipient"] for group in read.groups] == [
        f"rfc822; user{number}@example.net" for number in range(100)
    ]
    assert re.findall(r"<user(\d+)@example\.net>", read.text) == [str(number) for number in range(100)]
    assert "the 100 recipients below" in " ".join(read.text.split())


@pytest.mark.parametrize(
    ("one", "status"),
    [
        (fail(), "5.1.1"),
        (fail(enhanced="4.2.2", code=452), "4.2.2"),
        # An expired one has failed by time, whatever the last attempt said.
        (fail(enhanced="4.2.2", code=452, final="expired"), "4.4.7"),
        # What is no status of a failure: the class of the code is left.
        (fail(enhanced="2.0.0", code=250), "5.0.0"),
        (fail(enhanced="", code=451), "4.0.0"),
        (fail(enhanced="5.1.1\r\nX: y"), "5.0.0"),
        (fail(enhanced="", code=0), "5.0.0"),
    ],
)
def test_build_notice_status_is_of_the_outcomes_class(one: FailedRecipient, status: str) -> None:
    assert Read(build(failed=[one])).groups[0]["Status"] == status


@pytest.mark.parametrize(
    ("remote_mta", "field"),
    [
        ("mx.example.net [192.0.2.1]", "dns; mx.example.net"),
        ("mx.example.net [2001:db8::1]", "dns; mx.example.net"),
        ("mx.example.net", "dns; mx.example.net"),
        ("[192.0.2.1]", "dns; [192.0.2.1]"),
        ("[2001:db8::1]", "dns; [IPv6:2001:db8::1]"),
        # None, or none that DNS knows.
        ("", None),
        ("two words", None),
        ("b\u00fccher.example [192.0.2.1]", None),
        ("mx.example.net\r\nX: y", None),
    ],
)
def test_build_notice_remote_mta_is_name_or_literal(remote_mta: str, field: str | None) -> None:
    assert Read(build(failed=[fail(remote_mta=remote_mta)])).groups[0].get("Remote-MTA") == field


def test_build_notice_reply_of_several_lines_is_whole_in_both_parts() -> None:
    read = Read(build(failed=[fail(diagnostic="5.1.1 No such user\n5.1.1 See https://example.net/help\n")]))
    assert (
        b"Diagnostic-Code: smtp; 550-5.1.1 No such user\r\n 550 5.1.1 See https://example.net/help\r\n" in read.report
    )
    assert "        550-5.1.1 No such user\n        550 5.1.1 See https://example.net/help\n" in read.text


def test_build_notice_long_reply_is_folded_and_loses_nothing() -> None:
    words = "5.7.1 " + " ".join(f"word{number}" for number in range(120))
    read = Read(build(failed=[fail(diagnostic=words)]))
    assert read.groups[0]["Diagnostic-Code"] == f"smtp; 550 {words}"
    assert " ".join(read.text.split()).count(f"550 {words}") == 1
    assert max(map(len, (read.text_wire + read.report).split(b"\r\n"))) <= 76


def test_build_notice_without_a_reply_gives_our_reason_or_none() -> None:
    read = Read(build(failed=[fail(diagnostic="", remote_mta=""), fail(diagnostic="", reason="")]))
    assert [group.get("Diagnostic-Code") for group in read.groups] == ["x-posthaste; refused at RCPT", None]
    assert "said:" not in read.text
    assert "What happened: it was refused.\n" in read.text
    # Not even a code: it was never tried.
    never = fail(code=0, enhanced="", reason="", remote_mta="", diagnostic="", final="expired")
    read = Read(build(failed=[never]))
    assert list(read.groups[0]) == ["Final-Recipient", "Action", "Status"]
    assert "What happened: we have given up after 5 days.\n" in read.text


def test_build_notice_keeps_quiet_about_what_no_peer_has_said() -> None:
    read = Read(build(failed=[fail(diagnostic="/var/mail/ann: Permission denied", remote_mta="", reason="not now")]))
    assert read.groups[0]["Diagnostic-Code"] == "x-posthaste; not now"
    assert "Permission" not in read.text
    assert "not now" in read.text


def test_build_notice_expired_keeps_the_last_reply() -> None:
    one = fail(code=451, enhanced="4.2.0", diagnostic="4.2.0 Greylisted", final="expired")
    read = Read(build(failed=[one]))
    assert read.groups[0]["Diagnostic-Code"] == "smtp; 451 4.2.0 Greylisted"
    assert "451 4.2.0 Greylisted\n" in read.text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (432_000.0, "5 days"),
        (86_400.0, "24 hours"),
        (216_000.0, "2.5 days"),
        (5_400.0, "90 minutes"),
        (90.0, "90 seconds"),
        (0.5, "0.5 seconds"),
    ],
)
def test_build_notice_expired_says_after_how_long(seconds: float, words: str) -> None:
    assert f"given up after {words}." in Read(build(expired_after_s=seconds)).text


# The original's name.


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        (b"Message-ID: <a@b>\r\n", "<a@b>"),
        (b"MESSAGE-id:<a.b+c@[192.0.2.1]>  \r\n", "<a.b+c@[192.0.2.1]>"),
        (b"Message-ID:\r\n <a@b>\r\nX: y\r\n", "<a@b>"),
        (b"Message-ID: \r\n\t<a@b>\r\n", "<a@b>"),
        # The first that is well formed counts.
        (b"Message-ID: a@b\r\nMessage-ID: <c@d>\r\n", "<c@d>"),
        (b"", None),
        (b"Message-ID: a@b\r\n", None),
        (b"Message-ID: <a b@c>\r\n", None),
        (b"Message-ID: <a@b> <c@d>\r\n", None),
        (b"Message-ID: <a@b>\r\n more\r\n", None),
        (b"Message-ID:\r\n<a@b>\r\n", None),
        (b"Message-ID: <a@\xfc>\r\n", None),
        (b"Message-ID: <%b@b>\r\n" % (b"a" * 251), None),
        (b"X-Message-ID: <a@b>\r\n", None),
        # The body has no name.
        (b"\r\nMessage-ID: <a@b>\r\n", None),
    ],
)
def test_build_notice_answers_the_originals_message_id(headers: bytes, name: str | None) -> None:
    message = Read(build(with_headers(RECEIVED + headers + b"\r\n"))).message
    assert message["In-Reply-To"] == name
    assert message["References"] == name

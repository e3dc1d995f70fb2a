"""Notices to look at: what they are built from, and a reader that checks what every notice must be."""

import email
import email.policy
import re
from collections.abc import Sequence
from email.message import EmailMessage
from typing import Literal

import msgspec

from mta.message import Outcome
from mta.report import FailedRecipient, Notice, Original, build_notice

HOSTNAME = "mx1.example.test"
ID = bytes(range(16))
NOTICE_ID = bytes(range(16, 32))
RECEIVED_AT = 1_700_000_000_123
NOW = 1_700_432_000_999
FIVE_DAYS = 432_000.0
RECEIVED = b"Received: from client.test ([192.0.2.99])\r\n\tby mx1.example.test with ESMTP id 0001;\r\n\tnow\r\n"
HEADERS = RECEIVED + b"From: Ann <ann@example.test>\r\nMessage-ID: <1234@client.test>\r\nSubject: hello\r\n"
REFUSED = Outcome("bounced", 550, "5.1.1", "refused at RCPT", "mx.example.net [192.0.2.1]", "5.1.1 No such user here")
SILENT = Outcome(
    "deferred", 451, "4.4.1", "cannot connect to mx.example.org [192.0.2.9]:25: timed out", "mx.example.org", ""
)
ORIGINAL = Original(ID, "ann@example.test", RECEIVED_AT, False, HEADERS + b"\r\nThe text.\r\n")
BOB = FailedRecipient("bob@example.net", REFUSED, "bounced")
EVE = FailedRecipient("eve@example.org", SILENT, "expired")


def build(
    original: Original = ORIGINAL, failed: Sequence[FailedRecipient] = (BOB, EVE), *, expired_after_s: float = FIVE_DAYS
) -> Notice:
    """Return the notice about two recipients of a plain message, or about others."""
    return build_notice(HOSTNAME, NOTICE_ID, original, failed, NOW, expired_after_s)


def with_headers(headers: bytes, *, utf8: bool = False) -> Original:
    """Return the plain message with another beginning."""
    return msgspec.structs.replace(ORIGINAL, headers=headers, utf8=utf8)


def fail(
    *,
    address: str = "bob@example.net",
    final: Literal["bounced", "expired"] = "bounced",
    code: int = 550,
    enhanced: str = "5.1.1",
    reason: str = "refused at RCPT",
    remote_mta: str = "mx.example.net [192.0.2.1]",
    diagnostic: str = "5.1.1 No such user here",
) -> FailedRecipient:
    """Return a recipient that was refused, some of it changed."""
    return FailedRecipient(address, Outcome("bounced", code, enhanced, reason, remote_mta, diagnostic), final)


class Read:
    """A notice as a program sees it, after what every notice must be was checked."""

    def __init__(self, notice: Notice) -> None:
        content = notice.content
        assert content.count(b"\r\n") == content.count(b"\r") == content.count(b"\n")
        assert b"\0" not in content
        assert max(map(len, content.split(b"\r\n"))) <= 998
        assert content.endswith(b"--\r\n")
        assert notice.has_8bit is not content.isascii()
        self.message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(self.message, EmailMessage)
        assert not self.message.defects
        assert self.message.get_content_type() == "multipart/report"
        assert self.message.get_param("report-type") == "delivery-status"
        # Cut by hand, because the parser changes what it reads.
        boundary = self.message.get_boundary("").encode()
        assert content.count(boundary) == 5
        head, *parts, end = content.split(b"--" + boundary)
        assert end == b"--\r\n"
        self.head = head
        text, report, headers = (part.removeprefix(b"\r\n").removesuffix(b"\r\n") for part in parts)
        self.report_type, self.report = self.part(report)
        self.headers_type, self.headers = self.part(headers)
        text_part = next(iter(self.message.iter_parts()))
        assert isinstance(text_part, EmailMessage)
        assert text_part.get_content_type() == "text/plain"
        self.text_encoding = text_part["Content-Transfer-Encoding"]
        self.text = str(text_part.get_content()).replace("\r\n", "\n")
        self.text_wire = text
        # SMTPUTF8 is for header fields; without it none may be beyond ASCII but those that came so.
        for fields in (head, report):
            assert notice.utf8 or fields.isascii()
        self.about, *self.groups = [
            self.fields(group) for group in self.report.removesuffix(b"\r\n").split(b"\r\n\r\n")
        ]

    @staticmethod
    def part(part: bytes) -> tuple[str, bytes]:
        head, _, content = part.partition(b"\r\n\r\n")
        encoding = "7bit" if content.isascii() else "8bit"
        found = re.fullmatch(rb"Content-Type: (\S+)\r\nContent-Transfer-Encoding: (\w+)", head)
        assert found is not None
        assert found[2].decode() == encoding
        return found[1].decode(), content

    @staticmethod
    def fields(group: bytes) -> dict[str, str]:
        """Return the unfolded fields of a group; each line is a field or goes on with one, no name comes twice."""
        fields = {}
        for field in re.sub(r"\r\n(?= )", "", group.removesuffix(b"\r\n").decode()).split("\r\n"):
            name, colon, value = field.partition(": ")
            assert re.fullmatch(r"[A-Za-z-]+", name)
            assert colon
            assert name not in fields
            fields[name] = value
        return fields

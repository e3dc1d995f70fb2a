"""The notice that tells a sender what could not be delivered: a DSN. RFC 3461 s6, RFC 3464, RFC 6522, RFC 6533.

Three parts: words for people, a report for programs, and the header section of the original, never its body.
The whole is put together from lines: the email package folds and encodes anew what it is given, and the header of the
original shall come back as it is.

Rule: what came from outside (addresses, a peer's words, header sections) goes through `_clean`, `_wrap` or
`_header_section`, and none of these lets out an octet that could end a line, a field or a part. The boundary is taken
last, one that occurs nowhere in the parts.
Pure: the id and the time come from the caller, who also decides whether there is to be a notice at all.
"""

import binascii
import email.utils
import hashlib
import re
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Literal

import msgspec

from mta.address import ATEXT
from mta.message import Outcome
from mta.reply import ENHANCED, visible

__all__ = ["HEADER_OCTETS", "FailedRecipient", "Notice", "Original", "build_notice"]

HEADER_OCTETS = 65536
"""As much of the original's header section is sent back."""

# RFC 5322 s2.1.1: 78 with the line end is what a line should stay under, and 998 without it is what it must not exceed.
LINE_COLUMNS = 76
LINE_OCTETS = 998
# A word is cut when it is longer: four octets a character and an indent then still fit a line.
WORD_COLUMNS = 240

LONG_WORD = re.compile(f"([^ ]{{{WORD_COLUMNS}}})(?=[^ ])")

# RFC 5321 s2.3.8: CR and LF stand together or not at all; RFC 5322 s4.1 has no NUL any more.
BROKEN = re.compile(rb"\0|\r(?!\n)|(?<!\r)\n")
LONG_LINE = re.compile(rb"[^\r\n]{%d,}" % (LINE_OCTETS + 1))
# Pieces end where a character of UTF-8 does, if there is one.
PIECE = re.compile(rb"[^\r\n]{897,900}(?![\x80-\xbf])|[^\r\n]{1,900}")

# msg-id = [CFWS] "<" id-left "@" id-right ">" [CFWS], without comments. RFC 5322 s3.6.4
MESSAGE_ID = re.compile(
    rb"^message-id:(?:[ \t]|\r\n[ \t])*+(<[%b.]{1,250}@(?:[%b.]{1,250}|\[[!-Z^-~]{1,250}\])>)[ \t]*+\r\n(?![ \t])"
    % (ATEXT.encode(), ATEXT.encode()),
    re.IGNORECASE | re.MULTILINE,
)
# "mx.example.test [192.0.2.1]", the name alone, or the address alone.
REMOTE_NAME = re.compile(r"([A-Za-z0-9._-]{1,255})(?: \[[0-9A-Fa-f:.]+\])?")
REMOTE_ADDRESS = re.compile(r"\[([0-9A-Fa-f:.]{1,45})\]")

# RFC 3463 s3.5: delivery time expired.
EXPIRED = "4.4.7"

UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


class FailedRecipient(msgspec.Struct, frozen=True):
    """One recipient that is given up: its mailbox as text, the last outcome, and whether it was that or time."""

    address: str
    outcome: Outcome
    final: Literal["bounced", "expired"]


class Original(msgspec.Struct, frozen=True):
    """The message that could not be delivered.

    `sender` is the reverse-path as text, `received_at` milliseconds since 1970, `utf8` says that it came with SMTPUTF8.
    `headers` is the beginning of the message as it is stored, CRLF line ends, our Received on top: all of it or more
    than HEADER_OCTETS. What follows the header section is passed over.
    """

    id: bytes
    sender: str
    received_at: int
    utf8: bool
    headers: bytes


class Notice(msgspec.Struct, frozen=True):
    """A message to be sent from the null reverse-path to the original's sender.

    `content` is the whole of it, CRLF line ends, without a Received field. `has_8bit` and `utf8` say what the next hop
    must take: 8BITMIME and SMTPUTF8.
    """

    content: bytes
    has_8bit: bool
    utf8: bool


def build_notice(
    hostname: str,
    notice_id: bytes,
    original: Original,
    failed: Sequence[FailedRecipient],
    now_ms: int,
    expired_after_s: float,
) -> Notice:
    """Write the notice about `failed`, recipients of `original` that nobody will try any more.

    `hostname` is ours, `notice_id` the id that the notice gets in the queue, `now_ms` milliseconds since 1970,
    `expired_after_s` how long an expired recipient was tried. Addresses are as `parse_mailbox` lets them through.
    RFC 5321 s4.5.5: a message with the null reverse-path must not get a notice. That is for the caller to see to.

    Raises:
        ValueError: the sender is empty, or there are no failed recipients. Anything else is a bug.
    """
    if not original.sender or not failed:
        raise ValueError("a notice needs somebody to go to and somebody to report on")
    headers, is_cut = _header_section(original.headers)
    sender, addresses = _clean(original.sender), "".join(_clean(one.address) for one in failed)
    # A header section in another encoding is no reason for SMTPUTF8, whatever the message was declared to be.
    is_text = _is_utf8(headers)
    utf8 = not (sender + addresses).isascii() or (original.utf8 and is_text and not headers.isascii())

    words = _lines(_words(hostname, original, failed, expired_after_s, len(headers) if is_cut else None))
    report = _lines(_report(hostname, original, failed, utf8=utf8))
    parts = [
        _text_part(words, utf8=utf8),
        _part("message/global-delivery-status" if utf8 else "message/delivery-status", report),
        _part("message/global-headers" if utf8 and is_text else "text/rfc822-headers", headers),
    ]
    boundary = _boundary(notice_id, parts)
    is_ascii = all(map(bytes.isascii, parts))
    fields = [
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>",
        f"To: <{sender}>",
        "Subject: Your message could not be delivered",
        f"Date: {_date(now_ms)}",
        f"Message-ID: <{notice_id.hex()}@{hostname}>",
        *_thread(headers),
        # RFC 3834 s5
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary.decode()}"',
        # RFC 2045 s6.4: what holds 8-bit parts says so itself.
        f"Content-Transfer-Encoding: {'7bit' if is_ascii else '8bit'}",
        "",
    ]
    body = [b"--%b\r\n%b\r\n" % (boundary, part) for part in parts]
    content = b"".join([_lines(fields), *body, b"--%b--\r\n" % boundary])
    return Notice(content, not content.isascii(), utf8)


# What people read.


def _words(
    hostname: str, original: Original, failed: Sequence[FailedRecipient], expired_after_s: float, n_shown: int | None
) -> Iterable[str]:
    """Yield the lines of the first part; `n_shown` is the octets left of a header section that was cut."""
    whom = "the recipient below" if len(failed) == 1 else f"the {len(failed)} recipients below"
    yield from _wrap(f"This is the mail server {hostname}.")
    yield ""
    yield from _wrap(
        f"We are sorry: your message could not be delivered to {whom}, and it will not be tried again. Recipients who "
        f"are not named here are not affected."
    )
    for one in failed:
        yield ""
        yield f"  <{_clean(one.address)}>"
        yield from _wrap(_what_happened(one, expired_after_s), "    ")
        if said := _reply(one.outcome):
            yield from _wrap(f"{one.outcome.remote_mta} said:", "    ")
            for line in said:
                yield from _wrap(line, "        ")
    yield ""
    yield from _wrap(
        f"Before you send again, look for typing mistakes. If you ask somebody for help, please pass on this whole "
        f"notice. Your message came in on {_date(original.received_at)} under the number {original.id.hex()}."
    )
    yield ""
    yield from _wrap("Below are a report for programs and the header of your message; its text is not sent back.")
    if n_shown is not None:
        yield from _wrap(f"The header was too long: it is cut after {n_shown} octets.")


def _what_happened(one: FailedRecipient, expired_after_s: float) -> str:
    reason = one.outcome.reason.rstrip(".")
    if one.final == "bounced":
        return f"What happened: {reason or 'it was refused'}."
    last = f" The last attempt: {reason}." if reason else ""
    return f"What happened: we have given up after {_duration(expired_after_s)}.{last}"


def _reply(outcome: Outcome) -> list[str]:
    """Return the peer's reply line by line, as it came over the wire; nothing if it said nothing.

    A diagnostic without a peer is a word of ours to the operator, and names paths.
    RFC 3461 s9.2: a reply of several lines is reported whole, code and all.
    """
    if not outcome.remote_mta:
        return []
    lines = outcome.diagnostic.replace("\r\n", "\n").strip().split("\n")
    if not 200 <= outcome.code <= 599 or lines == [""]:
        return [line for line in lines if line]
    return [f"{outcome.code}-{line}" for line in lines[:-1]] + [f"{outcome.code} {lines[-1]}"]


def _duration(seconds: float) -> str:
    """Return a time in the largest unit of which there are two or more."""
    size, name = next((unit for unit in UNITS if seconds >= 2 * unit[0]), (1, "seconds"))
    return f"{round(seconds / size, 1):g} {name}"


# What programs read.


def _report(hostname: str, original: Original, failed: Sequence[FailedRecipient], *, utf8: bool) -> Iterable[str]:
    """Yield the lines of the second part: fields of the message, then a group for each recipient. RFC 3464 s2.1."""
    yield f"Reporting-MTA: dns; {hostname}"
    yield f"X-Posthaste-Queue-ID: {original.id.hex()}"
    yield f"Arrival-Date: {_date(original.received_at)}"
    for one in failed:
        address = _clean(one.address)
        yield ""
        # RFC 6533 s3
        yield f"Final-Recipient: {'rfc822' if address.isascii() else 'utf-8'}; {address}"
        yield "Action: failed"
        yield f"Status: {_status(one)}"
        if remote := _remote(one.outcome.remote_mta):
            yield f"Remote-MTA: dns; {remote}"
        said, kind = _reply(one.outcome), "smtp"
        if not said:
            said, kind = [one.outcome.reason], "x-posthaste"
        name = f"Diagnostic-Code: {kind}; "
        for line in said if any(said) else ():
            # RFC 3464 s2.1.1: only RFC 6533 lets a report go beyond ASCII. People find the words in the first part.
            shown = line if utf8 else line.encode("ascii", "replace").decode()
            yield from _wrap(name + shown, "" if name else " ", " ")
            name = ""


def _status(one: FailedRecipient) -> str:
    """Return a status code; where the outcome has none that could be one, its class alone."""
    if one.final == "expired":
        return EXPIRED
    # A success is none of a failed recipient's.
    if (found := ENHANCED.fullmatch(one.outcome.enhanced)) and found[1] != "2":
        return one.outcome.enhanced
    return "4.0.0" if one.outcome.code // 100 == 4 else "5.0.0"


def _remote(remote_mta: str) -> str:
    """Return the peer's name, or its address as a literal (RFC 3464 s2.3.5), or "" when it is neither."""
    if found := REMOTE_NAME.fullmatch(remote_mta):
        return found[1]
    if found := REMOTE_ADDRESS.fullmatch(remote_mta):
        # RFC 5321 s4.1.3
        return f"[IPv6:{found[1]}]" if ":" in found[1] else f"[{found[1]}]"
    return ""


# What is sent back.


def _header_section(data: bytes) -> tuple[bytes, bool]:
    """Return the header section without its empty line, and whether it was cut. RFC 5322 s2.1.

    It is as it was, but for what would break the notice: NULs and lone CR and LF become question marks, and lines over
    998 octets, which a client may have sent us, are folded.
    """
    end = -2 if data.startswith(b"\r\n") else data.find(b"\r\n\r\n", 0, HEADER_OCTETS + 2)
    if end != -1:
        section, is_cut = data[: end + 2], False
    else:
        before, line_end, rest = data[:HEADER_OCTETS].rpartition(b"\r\n")
        section, is_cut = before + line_end, bool(rest) or len(data) > HEADER_OCTETS
    section = BROKEN.sub(b"?", section)
    return LONG_LINE.sub(lambda found: b"\r\n ".join(PIECE.findall(found[0])), section), is_cut


def _thread(headers: bytes) -> list[str]:
    """Return the fields that put the notice below the original, where that has a name. RFC 5322 s3.6.4."""
    found = MESSAGE_ID.search(headers)
    return [f"{name}: {found[1].decode()}" for name in ("In-Reply-To", "References")] if found else []


# How it is put together.


def _text_part(text: bytes, *, utf8: bool) -> bytes:
    """Return the part for people. A peer's words alone do not make the notice one that only an 8-bit hop may take."""
    if text.isascii() or utf8:
        return _part(f"text/plain; charset={'us-ascii' if text.isascii() else 'utf-8'}", text)
    return _part("text/plain; charset=utf-8", binascii.b2a_qp(text), "quoted-printable")


def _part(kind: str, content: bytes, encoding: str = "") -> bytes:
    encoding = encoding or ("7bit" if content.isascii() else "8bit")
    return b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (kind.encode(), encoding.encode(), content)


def _boundary(notice_id: bytes, parts: Sequence[bytes]) -> bytes:
    """Return a boundary that occurs in none of the parts, even if somebody has guessed the id."""
    digests = (hashlib.sha256(b"%b %d" % (notice_id, attempt)).hexdigest() for attempt in count())
    boundaries = (f"=_{digest[:32]}".encode() for digest in digests)
    return next(boundary for boundary in boundaries if not any(boundary in part for part in parts))


def _clean(text: str) -> str:
    """Return text that stays on its line: whatever does not show itself is a question mark, a tab a space."""
    return visible(text.replace("\t", " "))


def _wrap(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    """Return cleaned text in lines, none of them empty; `hanging` is the indent from the second on, if it differs."""
    return textwrap.wrap(
        LONG_WORD.sub(r"\1 ", _clean(text)),
        LINE_COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _date(ms: int) -> str:
    """Return a date-time in UTC. RFC 5322 s3.3."""
    return email.utils.format_datetime(datetime.fromtimestamp(ms // 1000, UTC))

"""Parameters of MAIL and RCPT. RFC 5321 s4.1.2, RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 (SMTPUTF8).

Rule: only what EHLO offers is understood; everything else is answered 555 5.5.4, and never ignored. What the client
writes is what the session reads.
Called with, and for, what follows the path. A refusal is a returned Reply; nothing is raised.
"""

import re

import msgspec

from mta.reply import Reply, printable
from mta.smtp.extensions import SIZE_VALUE

__all__ = ["MailParams", "mail_params", "parse_mail_params", "parse_rcpt_params"]

# esmtp-param    = esmtp-keyword ["=" esmtp-value]
# esmtp-keyword  = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
# esmtp-value    = 1*(%d33-60 / %d62-126)
PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")

REPLY_501_MALFORMED = Reply(501, "5.5.4", "Malformed parameter")
REPLY_501_TWICE = Reply(501, "5.5.4", "A parameter is given twice")
REPLY_501_SIZE = Reply(501, "5.5.4", "SIZE must be a number of octets")
REPLY_501_BODY = Reply(501, "5.5.4", "BODY must be 7BIT or 8BITMIME")
REPLY_501_UTF8 = Reply(501, "5.5.4", "SMTPUTF8 takes no value")


class MailParams(msgspec.Struct, frozen=True, gc=False):
    """What MAIL declared about the message. `size` is in octets, 0 when it was not given."""

    size: int = 0
    body_8bit: bool = False
    utf8: bool = False


NO_PARAMS = MailParams()


def parse_mail_params(text: str) -> MailParams | Reply:
    """Read the parameters of MAIL, separated by spaces, "" for none; return them or the refusal."""
    if not text:
        return NO_PARAMS
    size, body_8bit, utf8 = 0, False, False
    seen: set[str] = set()
    for word in text.split(" "):
        if not word:
            continue
        if (found := PARAMETER.fullmatch(word)) is None:
            return REPLY_501_MALFORMED
        keyword, value = found[1].upper(), found[2] or ""
        if keyword in seen:
            return REPLY_501_TWICE
        seen.add(keyword)
        if keyword == "SIZE":
            if SIZE_VALUE.fullmatch(value) is None:
                return REPLY_501_SIZE
            size = int(value)
        elif keyword == "BODY":
            if value.upper() not in ("7BIT", "8BITMIME"):
                return REPLY_501_BODY
            body_8bit = len(value) == len("8BITMIME")
        elif keyword == "SMTPUTF8":
            if value:
                return REPLY_501_UTF8
            utf8 = True
        else:
            return _unknown(keyword)
    return MailParams(size, body_8bit, utf8)


def mail_params(size: int, *, body_8bit: bool, utf8: bool) -> str:
    """Return parameters of MAIL, a space before each; a `size` of -1 is none."""
    text = f" SIZE={size}" if size >= 0 else ""
    text += " BODY=8BITMIME" if body_8bit else ""
    return text + " SMTPUTF8" if utf8 else text


def parse_rcpt_params(text: str) -> Reply | None:
    """Read the parameters of RCPT, "" for none; return the refusal, None when all is well. None is offered yet."""
    for word in text.split():
        found = PARAMETER.fullmatch(word)
        return REPLY_501_MALFORMED if found is None else _unknown(found[1].upper())
    return None


def _unknown(keyword: str) -> Reply:
    return Reply(555, "5.5.4", f"Unknown parameter {printable(keyword)}")

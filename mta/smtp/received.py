"""The Received field that each hop puts on top of a message. RFC 5321 s4.4, RFC 3848, RFC 6531 s4.3.

Called once a message by `accept`. No clock in here: DateStamp is handed the time, and owned by who has a clock.
"""

import email.utils
from datetime import UTC, datetime

__all__ = ["DateStamp", "received_field"]

# RFC 5322 s2.1.1: 78 with the line end is what a line should stay under.
LINE_OCTETS = 77


class DateStamp:
    """Writes dates, a new one only when the second has changed."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, now_s: float) -> str:
        """Return a date-time for a header field, in UTC, for seconds since 1970. RFC 5322 s3.3."""
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._text = email.utils.format_datetime(datetime.fromtimestamp(second, UTC))
        return self._text


def received_field(
    helo: str, client_ip: str, hostname: str, protocol: str, id_text: str, recipient_text: str, when: str
) -> bytes:
    """Return the whole field, folded, with its CRLF.

    `helo` is what the client called itself, "" if it did not; `client_ip` an address without brackets; `protocol` what
    `Session.protocol` says; `recipient_text` an `Address.text`, to be given only when the message has that one
    recipient (RFC 5321 s7.2: more would give away hidden ones), otherwise ""; `when` comes from DateStamp.

    Time-stamp-line = "Received:" FWS "FROM" FWS Extended-Domain CFWS "BY" FWS Extended-Domain [With] [ID] [For]
                      [CFWS] ";" FWS date-time CRLF
    """
    host, _, _ = client_ip.partition("%")
    literal = f"[IPv6:{host}]" if ":" in host else f"[{host}]"
    source = f"({literal})" if helo else ""
    # RFC 6532 s3: UTF-8 belongs in the header of a message that was declared to have it, and nowhere else.
    with_recipient = recipient_text and (protocol == "UTF8SMTP" or recipient_text.isascii())
    end = ("for <" + recipient_text + ">;", when) if with_recipient else (when,)
    identity = f"id {id_text}" if with_recipient else f"id {id_text};"
    rows = (
        (f"Received: from {helo or literal}", source),
        (f"\tby {hostname}", f"with {protocol}", identity),
        ("\t" + end[0], *end[1:]),
    )
    return "".join([_fold(row) for row in rows]).encode()


def _fold(words: tuple[str, ...]) -> str:
    """Join words into a line, or more lines where it gets too long; a word is never cut."""
    line = " ".join(filter(None, words))
    if len(line) <= LINE_OCTETS:
        return line + "\r\n"
    lines = [words[0]]
    for word in filter(None, words[1:]):
        if len(lines[-1]) + 1 + len(word) <= LINE_OCTETS:
            lines[-1] += " " + word
        else:
            lines.append("\t" + word)
    return "\r\n".join(lines) + "\r\n"

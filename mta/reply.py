"""An SMTP reply, and the replies that several rooms give. RFC 5321 s4.2, RFC 2034, RFC 3463.

Rule: what a client sent is never put into a reply unescaped; `printable` is the only way in. What a peer sent is shown
to people through `visible`.
"""

import re
import unicodedata

import msgspec

__all__ = [
    "ENHANCED",
    "REPLY_250_OK",
    "REPLY_451_QUEUE_SILENT",
    "REPLY_452_STORAGE",
    "REPLY_550_NO_SUCH_USER",
    "REPLY_554_LOOP",
    "REPLY_554_RELAY_DENIED",
    "Reply",
    "is_visible",
    "printable",
    "visible",
]

# status-code = class "." subject "." detail. RFC 3463 s2.
ENHANCED = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?=\s|\Z)")

# RFC 5321 s4.5.3.1.5: a reply line is at most 512 octets; what is quoted from outside is cut well below that.
QUOTED_OCTETS = 256


class Reply(msgspec.Struct, frozen=True):
    """One reply: three digits, enhanced code ("" for none), text ("\\n" between the lines of a longer one)."""

    code: int
    enhanced: str
    text: str
    wire: bytes = b""
    """The reply as it is sent, every line ended by CRLF; made once, when the reply is made."""
    why: str = ""
    """What the operator is told beside it, in the event; the client is not, for it may name paths."""

    def __post_init__(self) -> None:
        mark = f"{self.enhanced} " if self.enhanced else ""
        if "\n" not in self.text:
            msgspec.structs.force_setattr(self, "wire", f"{self.code} {mark}{self.text}\r\n".encode("ascii", "replace"))
            return
        lines = self.text.split("\n")
        rows = [f"{self.code}-{mark}{line}\r\n" for line in lines[:-1]] + [f"{self.code} {mark}{lines[-1]}\r\n"]
        msgspec.structs.force_setattr(self, "wire", "".join(rows).encode("ascii", "replace"))


def printable(text: str) -> str:
    """Return `text` fit for a reply or a log line: printable ASCII, at most 256 characters, the rest as `?`."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:QUOTED_OCTETS])


def is_visible(character: str) -> bool:
    """Say whether a character shows itself and does nothing else.

    Neither controls and line ends do, nor what turns the writing round, joins or hides, nor what has no UTF-8.
    """
    return character.isprintable() or unicodedata.category(character) == "Zs"


def visible(text: str, instead: str = "?", keep: str = "") -> str:
    """Return `text` fit to be shown to people: each character that `is_visible` or one of `keep`, else `instead`."""
    if text.isprintable():
        return text
    return "".join(c if c in keep or is_visible(c) else instead for c in text)


REPLY_250_OK = Reply(250, "2.0.0", "Ok")
REPLY_451_QUEUE_SILENT = Reply(451, "4.3.0", "The queue does not answer, try again later")
REPLY_452_STORAGE = Reply(452, "4.3.1", "Insufficient system storage, try again later")
REPLY_550_NO_SUCH_USER = Reply(550, "5.1.1", "No such mailbox here")
REPLY_554_LOOP = Reply(554, "5.4.6", "Too many hops, this looks like a mail loop")
REPLY_554_RELAY_DENIED = Reply(554, "5.7.1", "Relaying denied")

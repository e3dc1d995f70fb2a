"""What EHLO offers, said and understood. RFC 5321 s4.1.1.1, RFC 2920, RFC 1870, RFC 6152, RFC 6531, RFC 2034.

Rule: the server's rows and what the client makes of a peer's rows stand side by side, and each keyword once.
`params` has the parameters of MAIL that they allow.
"""

import re

import msgspec

__all__ = ["NOTHING", "SIZE_VALUE", "Offers", "hello_rows", "read_ehlo"]

PIPELINING = "PIPELINING"
SIZE = "SIZE"
EIGHT_BIT = "8BITMIME"
UTF8 = "SMTPUTF8"
CODES = "ENHANCEDSTATUSCODES"

# size-value = 1*20DIGIT. RFC 1870 s3: longer ones are noise, and int() refuses thousands of digits with an exception.
SIZE_VALUE = re.compile(r"[0-9]{1,20}")


class Offers(msgspec.Struct, frozen=True, gc=False):
    """What a server can do beyond RFC 821."""

    pipelining: bool = False
    size: bool = False
    """It wants to know the size of a message."""
    max_octets: int = 0
    """The largest message it takes; 0 when no limit is known (RFC 1870 s4)."""
    eight_bit: bool = False
    utf8: bool = False


NOTHING = Offers()
"""What a server that only knows HELO can do."""


def hello_rows(hostname: str, max_octets: int, *, esmtp: bool) -> bytes:
    """Return our answer to an accepted EHLO, listing exactly what works, or to HELO."""
    if not esmtp:
        return f"250 {hostname}\r\n".encode()
    rows = (hostname, PIPELINING, f"{SIZE} {max_octets}", EIGHT_BIT, UTF8)
    return ("".join([f"250-{row}\r\n" for row in rows]) + f"250 {CODES}\r\n").encode()


def read_ehlo(text: bytes) -> Offers:
    """Return what the text of a reply to EHLO offers, LF between its lines; the first is the server's name."""
    offered: dict[str, str] = {}
    for line in text.decode("ascii", "replace").upper().split("\n")[1:]:
        keyword, _, argument = line.strip().partition(" ")
        offered[keyword] = argument.strip()
    size = offered.get(SIZE, "")
    return Offers(
        PIPELINING in offered,
        SIZE in offered,
        int(size) if SIZE_VALUE.fullmatch(size) else 0,
        EIGHT_BIT in offered,
        UTF8 in offered,
    )

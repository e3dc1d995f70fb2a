"""What EHLO offers, as we say it and as we understand it."""

import pytest

from mta._fast import ReplyReader
from mta.smtp.extensions import NOTHING, Offers, hello_rows, read_ehlo


def test_read_ehlo_understands_what_hello_rows_says() -> None:
    ((code, text),) = ReplyReader().feed(hello_rows("mx.example.test", 5000, esmtp=True))
    assert code == 250
    assert read_ehlo(text) == Offers(True, True, 5000, True, True)
    ((code, text),) = ReplyReader().feed(hello_rows("mx.example.test", 5000, esmtp=False))
    assert (code, read_ehlo(text)) == (250, NOTHING)


@pytest.mark.parametrize(
    ("text", "offers"),
    [
        (b"", NOTHING),
        # The first line is a name, whatever it says.
        (b"PIPELINING 8BITMIME", NOTHING),
        (b"x\npipelining\n8BitMime\nsmtputf8", Offers(True, eight_bit=True, utf8=True)),
        (b"x\n  PIPELINING  \n 8BITMIME ", Offers(True, eight_bit=True)),
        # Parameters that we do not know change nothing.
        (b"x\nPIPELINING a b\n8BITMIME=1", Offers(True)),
        (b"x\nX-PIPELINING\nPIPELININGX", NOTHING),
        # RFC 1870 s4: 0 or nothing is no limit that is known; what is no number neither.
        (b"x\nSIZE", Offers(size=True)),
        (b"x\nSIZE 0", Offers(size=True)),
        (b"x\nSIZE 00012", Offers(size=True, max_octets=12)),
        (b"x\nSIZE -5", Offers(size=True)),
        (b"x\nSIZE 5 6", Offers(size=True)),
        (b"x\nSIZE 99999999999999999999", Offers(size=True, max_octets=99_999_999_999_999_999_999)),
        (b"x\nSIZE " + b"9" * 5000, Offers(size=True)),
        (b"x\nSIZE \xd9\xa1", Offers(size=True)),
        (b"x\nSIZE 5\nSIZE 7", Offers(size=True, max_octets=7)),
        (b"x\n\0\n\xff\xfe\nPIPELINING", Offers(True)),
    ],
)
def test_read_ehlo_takes_what_it_knows(text: bytes, offers: Offers) -> None:
    assert read_ehlo(text) == offers

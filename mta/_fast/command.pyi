"""Split a command line into verb and argument. RFC 5321 s2.4, s4.1.1."""

UNKNOWN: int
"""Code of a verb that is not in `VERBS`."""
BAD_LINE: int
"""Code of a line that is no command line at all: not ended by CRLF, or with a CR, LF or NUL inside."""
VERBS: tuple[str, ...]
"""The verbs this module knows, in upper case; the code of VERBS[i] is i."""

def split_command(data: bytes, start: int, end: int, /) -> tuple[int, bytes]:
    """Split `data[start:end]`, one line with its line end, into (verb code, argument).

    The verb is the run of octets up to the first space, tab or the line end, matched whatever its case. The argument is
    what follows, without the spaces and tabs around it, and without the line end; b"" when there is none.
    Octets >= 0x80 pass through. Returns (BAD_LINE, b"") or (UNKNOWN, argument) for what it cannot name; never raises
    on content. `start`, `end` must be within the data, otherwise IndexError.
    """

"""What DotReader, DotStuffer and normalize must do, said on the whole stream at once. RFC 5321 s4.5.2."""

import re
from typing import NamedTuple

__all__ = ["Read", "normal", "read", "stuffed"]


class Read(NamedTuple):
    """What a DotReader knows after a stream."""

    body: bytes
    used: int
    bare_line_end: bool
    has_8bit: bool
    longest_line: int
    done: bool


def read(wire: bytes) -> Read:
    """Read a stream from the beginning of the body, up to the dot line or as far as it goes."""
    lines = wire.split(b"\r\n")
    last = lines.pop()
    done = b"." in lines
    if done:
        lines = lines[: lines.index(b".")]
        used = sum(len(line) + 2 for line in lines) + 3
        last = b""
    else:
        used = len(wire)
        # These two may be the beginning of the end, and are withheld.
        if last in (b".", b".\r"):
            last = b""
    body = b"".join(line.removeprefix(b".") + b"\r\n" for line in lines) + last.removeprefix(b".")
    return Read(
        body=body,
        used=used,
        # A CR at the very end may still find its LF.
        bare_line_end=any(b"\r" in line or b"\n" in line for line in [*lines, last.removesuffix(b"\r")]),
        has_8bit=not body.isascii(),
        longest_line=max(len(line.removesuffix(b"\r")) for line in body.split(b"\n")),
        done=done,
    )


def stuffed(body: bytes) -> bytes:
    """Return the whole body as it goes over the wire, its end included."""
    lines = [b"." + line if line.startswith(b".") else line for line in body.split(b"\r\n")]
    end = b".\r\n" if lines[-1] == b"" else b"\r\n.\r\n"
    return b"\r\n".join(lines) + end


def normal(body: bytes) -> bytes:
    """Return the body with bare LFs made CRLF and bare CRs made spaces."""
    return re.sub(rb"(?<!\r)\n", b"\r\n", re.sub(rb"\r(?!\n)", b" ", body))

"""What split_command, ReplyReader, FrameReader and the header functions must do, said on whole octets at once."""

import re
import struct

__all__ = ["count_received", "frames", "has_8bit_header", "replies", "split"]


def split(line: bytes, verbs: tuple[str, ...], unknown: int, bad_line: int) -> tuple[int, bytes]:
    """Split one command line."""
    match = re.fullmatch(rb"([^ \t\r\n\0]*)([^\r\n\0]*)\r\n", line)
    if match is None:
        return bad_line, b""
    verb = match[1].upper().decode("latin-1")
    return (verbs.index(verb) if verb in verbs else unknown), match[2].strip(b" \t")


def replies(wire: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    """Read a stream of replies; return them, and whether it is broken."""
    found: list[tuple[int, bytes]] = []
    code, texts, octets = 0, list[bytes](), 0
    *lines, rest = wire.split(b"\n")
    for line in lines:
        octets += len(line) + 1
        match = re.fullmatch(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", line.removesuffix(b"\r"), re.DOTALL)
        if match is None or (texts and int(match[1]) != code) or len(texts) == 100 or octets > 65536:
            return found, True
        code = int(match[1])
        texts.append(match[3] or b"")
        if match[2] != b"-":
            found.append((code, b"\n".join(texts)))
            texts, octets = [], 0
    return found, octets + len(rest) > 65536


def frames(wire: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Read a stream of sound frames; return them, and how many octets are left over."""
    found = []
    while len(wire) >= 4:
        (length,) = struct.unpack_from("<I", wire)
        if len(wire) < 4 + length:
            break
        found.append((wire[4], wire[5 : 4 + length]))
        wire = wire[4 + length :]
    return found, len(wire)


def _header_section(body: bytes) -> bytes:
    empty_line = re.search(rb"^\r?\n", body, re.MULTILINE)
    return body[: empty_line.start()] if empty_line else body


def count_received(body: bytes) -> int:
    """Count the header fields named Received."""
    return len(re.findall(rb"^received[ \t]*:", _header_section(body), re.MULTILINE | re.IGNORECASE))


def has_8bit_header(body: bytes) -> bool:
    """Whether the header section is more than ASCII."""
    return not _header_section(body).isascii()

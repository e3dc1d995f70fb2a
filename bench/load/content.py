"""What the source sends: prepared messages, each with the checksum of what follows its X-Load field.

Made ones are of lines of 76 octets and CRLF that look random, one in 25 with a dot in front; those of a folder are
sent as they are, but for line ends that mail cannot have (`bench.corpus`). Mails with a line of more than 998 octets
are left out: relays may cut those.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from bench.client import stuff
from bench.corpus import normalized, prepare, read_mails
from bench.load.model import Load

__all__ = ["FIELD_OCTETS", "Variant", "variants"]

Variant = tuple[bytes, int, bool]
"""As it is sent behind X-Load, with dots doubled and the final dot; its checksum; whether it has octets over 127."""

# X-Load: run, number, checksum, when it was due.
FIELD_OCTETS = len("X-Load: ") + 8 + 1 + 10 + 1 + 8 + 1 + 16 + 2
LINE_OCTETS = 76
MOST_LINE_OCTETS = 998
N_LINES = 997
# As many different messages as fit this, and at least one.
MOST_OCTETS = 16 << 20
MOST_VARIANTS = 64
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
HEADER = (
    "Date: Thu, 01 Jan 2026 12:00:00 +0000\r\nFrom: <sender@source.test>\r\nTo: <recipient@{domain}>\r\n"
    "Message-ID: <{number}.{run}@source.test>\r\nSubject: load {number}\r\n\r\n"
)


def _made(load: Load, run: str) -> Iterator[bytes]:
    chance = random.Random(run)
    lines = ["".join(chance.choices(LETTERS, k=LINE_OCTETS)) for _ in range(N_LINES)]
    lines = [f".{line[1:]}" if number % 25 == 0 else line for number, line in enumerate(lines)]
    for number in range(max(1, min(MOST_VARIANTS, MOST_OCTETS // load.octets))):
        header = HEADER.format(domain=load.domain, number=number, run=run).encode()
        room = load.octets - FIELD_OCTETS - len(header)
        if room < 2:
            raise ValueError(f"a message has at least {load.octets - room + 2} octets")
        text = "".join(f"{line}\r\n" for line in chance.choices(lines, k=room // (LINE_OCTETS + 2) + 1)).encode()
        text = text[: room - 2]
        # Cut in the middle of a line end, it would have a bare CR.
        yield header + (text[:-1] + b"x" if text.endswith(b"\r") else text) + b"\r\n"


def _found(folder: str) -> Iterator[bytes]:
    for mail in read_mails(Path(folder)):
        content = normalized(prepare(mail))
        if all(len(line) <= MOST_LINE_OCTETS for line in content.split(b"\r\n")):
            yield content


def variants(load: Load, run: str) -> list[Variant]:
    """Return what is sent, in turn. Raises ValueError when there is nothing to send."""
    contents = list(_found(load.folder) if load.folder else _made(load, run))
    if not contents:
        raise ValueError(f"there are no mails in {load.folder}")
    return [(stuff(content), crc32(content), not content.isascii()) for content in contents]

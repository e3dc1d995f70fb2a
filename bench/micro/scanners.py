"""What each function of `mta._fast` is timed with: one call, on input as it is in the middle of mail.

Rule: a scanner that is added there is added here; a test compares the names.
"""

import os
from collections.abc import Callable
from functools import partial

from bench.micro.reader import mail, read, segments
from mta._fast import (
    VECTOR_PATHS,
    DotStuffer,
    FrameReader,
    ReplyReader,
    become,
    body_key,
    chunk_rows,
    count_received,
    due_key,
    find_line,
    has_8bit_header,
    normalize,
    number,
    number_key,
    numbered,
    split_command,
    timer_key,
    turn,
    wake_key,
)

__all__ = ["SCANNERS"]

WIRE = mail()
SEGMENTS = segments(WIRE)
BODY = WIRE[:-3]
MENDED = BODY[:400] + b"x\ny" + BODY[400:]
LINE = b"MAIL FROM:<someone@example.test> SIZE=4096\r\n"
REPLY = b"250 2.0.0 Ok: queued as 0123456789abcdef\r\n"
FRAME = (4097).to_bytes(4, "little") + b"\1" + b"x" * 4096
HEAD = b"Received: from a.test by b.test; Mon, 1 Jan 2024 00:00:00 +0000\r\nSubject: hello\r\n" * 8 + b"\r\n"

_replies, _frames, _stuffer = ReplyReader(), FrameReader(1 << 20), DotStuffer()

NUMBER = 1_764_000_000_000
KEY = bytes(range(18))

SCANNERS: dict[str, Callable[[], object]] = {
    "split_command": lambda: split_command(LINE, 0, len(LINE)),
    "find_line": lambda: find_line(LINE, 0),
    "count_received": lambda: count_received(HEAD),
    "has_8bit_header": lambda: has_8bit_header(HEAD),
    "normalize": lambda: normalize(BODY),
    "normalize-mends": lambda: normalize(MENDED),
    **{f"DotReader-{path}": partial(read, [WIRE], path) for path in VECTOR_PATHS},
    "DotReader-segments": lambda: read(SEGMENTS),
    "number": lambda: number(KEY),
    "number_key": lambda: number_key(NUMBER),
    "numbered": lambda: numbered(KEY, 7),
    "body_key": lambda: body_key(NUMBER, 7),
    "chunk_rows": lambda: chunk_rows(NUMBER, BODY, 2016),
    "wake_key": lambda: wake_key(NUMBER, 7),
    "due_key": lambda: due_key(7, NUMBER, KEY),
    "timer_key": lambda: timer_key(NUMBER, KEY, 1),
    "turn": lambda: turn(7),
    "DotStuffer": lambda: _stuffer.feed(BODY),
    "FrameReader": lambda: _frames.feed(FRAME),
    "ReplyReader": lambda: _replies.feed(REPLY),
}
"""By name; the body is 64 KB, the frame 4 KB, the header section has 16 fields."""

# It is for root alone.
if os.geteuid() == 0:
    SCANNERS["become"] = lambda: become(0, 0)

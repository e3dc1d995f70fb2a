"""Compiled scanners of bytes and packers of keys; and `become`, which Python has not. No policy, no other room."""

from mta._fast.command import BAD_LINE, UNKNOWN, VERBS, split_command
from mta._fast.data import VECTOR_PATHS, DotReader, DotStuffer, normalize
from mta._fast.frames import FrameReader
from mta._fast.headers import count_received, has_8bit_header
from mta._fast.keys import body_key, chunk_rows, due_key, number, number_key, numbered, timer_key, turn, wake_key
from mta._fast.lines import find_line
from mta._fast.replies import ReplyReader
from mta._fast.rights import become

__all__ = [
    "BAD_LINE",
    "UNKNOWN",
    "VECTOR_PATHS",
    "VERBS",
    "DotReader",
    "DotStuffer",
    "FrameReader",
    "ReplyReader",
    "become",
    "body_key",
    "chunk_rows",
    "count_received",
    "due_key",
    "find_line",
    "has_8bit_header",
    "normalize",
    "number",
    "number_key",
    "numbered",
    "split_command",
    "timer_key",
    "turn",
    "wake_key",
]

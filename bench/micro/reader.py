"""DotReader against memmem("\\r\\n.\\r\\n") of the C library over the same octets.

memmem finds the end and does nothing else: no dots, no line ends, no 8-bit octets, and it needs the whole body at once.
Issue 5 wants 0.8 of its rate for 64 KB in one read, and 0.4 in reads of 1,448 octets (one TCP segment). Rule: all of
them are measured in turn, in one run, and each figure is the best of several rounds: other work on the machine only
ever makes it worse.
"""

import ctypes
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mta._fast import DotReader

__all__ = ["SEGMENT_OCTETS", "WIRE_OCTETS", "Ratios", "mail", "memmem_ratios", "read", "segments"]

WIRE_OCTETS = 65_536
SEGMENT_OCTETS = 1448
END = b"\r\n.\r\n"
ROUNDS = 60
ROUND_S = 0.01


class Ratios(NamedTuple):
    """The rate of DotReader as a multiple of that of memmem."""

    whole: float
    """64 KB in one read."""
    segments: float
    """In reads of 1,448 octets."""


def mail(n_octets: int = WIRE_OCTETS, line_octets: int = 78, lines_a_dot: int = 100) -> bytes:
    """Return a stuffed body with its end: lines of `line_octets`, each `lines_a_dot`th with a stuffed dot."""
    plain = b"x" * (line_octets - 2) + b"\r\n"
    dotted = b".." + plain[2:]
    n_lines = n_octets // line_octets
    return b"".join(dotted if i % lines_a_dot == lines_a_dot // 2 else plain for i in range(n_lines)) + END[2:]


def segments(wire: bytes) -> list[bytes]:
    """Return a body as it comes in TCP segments."""
    return [wire[start : start + SEGMENT_OCTETS] for start in range(0, len(wire), SEGMENT_OCTETS)]


def read(reads: Sequence[bytes], path: str = "") -> list[bytes]:
    """Return the un-stuffed body of some reads, in pieces; `path` is a scan path of DotReader."""
    feed = DotReader(path).feed
    return [feed(data)[0] for data in reads]


def memmem_ratios(path: str = "", rounds: int = ROUNDS) -> Ratios:
    """Measure both, in turn; about 40 ms a round. Raises RuntimeError when the body that was read is another one."""
    wire = mail()
    cut = segments(wire)
    body = wire[: -len(END) + 2].replace(b"\r\n..", b"\r\n.")
    for reads in ([wire], cut):
        if b"".join(read(reads, path)) != body:
            raise RuntimeError("DotReader has read another body")
    memmem = ctypes.CDLL(None).memmem
    memmem.restype = ctypes.c_void_p
    memmem.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    whole = [wire]
    calls = (
        lambda: memmem(wire, len(wire), END, len(END)),
        # What it costs to call C this way is not memmem's fault.
        lambda: memmem(END, len(END), END, len(END)),
        lambda: sum(map(len, read(whole, path))),
        lambda: sum(map(len, read(cut, path))),
    )
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for at, call in enumerate(calls):
            best[at] = min(best[at], _time(call, best[at]))
    measure = best[0] - best[1]
    return Ratios(measure / best[2], measure / best[3])


def _time(call: Callable[[], object], expected_s: float) -> float:
    """Return the seconds that one call takes, of as many as go into a round."""
    n_calls = max(1, int(ROUND_S / expected_s))
    clock = time.perf_counter
    began = clock()
    for _ in range(n_calls):
        call()
    return (clock() - began) / n_calls

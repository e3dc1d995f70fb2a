"""Rates of the compiled scanners: python -m bench.micro_fast

The measure for DotReader is memmem("\\r\\n.\\r\\n") of the C library over the same octets, which finds the end and does
nothing else. The goal is 0.8 of its rate for 64 KB in one read, and 0.4 in reads of 1,448 octets (one TCP segment).
Each figure is the best of several rounds: other work on the machine only ever makes it worse.
"""

import ctypes
import time
from collections.abc import Callable

from mta._fast import (
    VECTOR_PATHS,
    DotReader,
    DotStuffer,
    FrameReader,
    ReplyReader,
    count_received,
    normalize,
    split_command,
)

__all__ = ["main"]

SEGMENT_OCTETS = 1448
END = b"\r\n.\r\n"
ROUNDS = 60
ROUND_S = 0.01


def mail(n_octets: int, line_octets: int = 78, lines_a_dot: int = 100) -> bytes:
    """Return a stuffed body with its end: lines of `line_octets`, each `lines_a_dot`th with a stuffed dot."""
    plain = b"x" * (line_octets - 2) + b"\r\n"
    dotted = b".." + plain[2:]
    n_lines = n_octets // line_octets
    return b"".join(dotted if i % lines_a_dot == 50 else plain for i in range(n_lines)) + END[2:]


def time_call(call: Callable[[], object]) -> float:
    """Return the seconds one call takes, the best of `ROUNDS` rounds of `ROUND_S` each."""
    clock = time.perf_counter
    n_calls, best = 1, float("inf")
    for _ in range(ROUNDS):
        began = clock()
        for _ in range(n_calls):
            call()
        took = clock() - began
        best = min(best, took / n_calls)
        n_calls = max(1, int(ROUND_S / best))
    return best


def time_memmem(wire: bytes) -> float:
    """Return the seconds memmem takes to find the end."""
    memmem = ctypes.CDLL(None).memmem
    memmem.restype = ctypes.c_void_p
    memmem.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    # What it costs to call C this way is not memmem's fault.
    return time_call(lambda: memmem(wire, len(wire), END, 5)) - time_call(lambda: memmem(END, 5, END, 5))


def time_dot_reader(pieces: list[bytes], path: str) -> float:
    """Return the seconds for reading a body, the result looked at."""

    def call() -> int:
        reader = DotReader(path)
        feed = reader.feed
        n_octets = 0
        for piece in pieces:
            body, _ = feed(piece)
            n_octets += len(body)
        return n_octets

    return time_call(call)


def main() -> None:
    """Print the rates."""
    wire = mail(65536)
    segments = [wire[i : i + SEGMENT_OCTETS] for i in range(0, len(wire), SEGMENT_OCTETS)]
    measure = time_memmem(wire)
    print(f"{'memmem, 64 KB':44} {len(wire) / measure / 1e9:7.2f} GB/s")
    for path in VECTOR_PATHS:
        for text, pieces, goal in (("64 KB", [wire], 0.8), ("64 KB by 1,448", segments, 0.4)):
            took = time_dot_reader(pieces, path)
            rate = len(wire) / took / 1e9
            print(f"{f'DotReader {path}, {text}':44} {rate:7.2f} GB/s  {measure / took:5.2f} of memmem (goal {goal})")
    for text, body in (("no dots", mail(65536, lines_a_dot=1 << 30)), ("every line dotted", mail(65536, 20, 1))):
        took = time_dot_reader([body], "")
        print(f"{f'DotReader 64 KB, {text}':44} {len(body) / took / 1e9:7.2f} GB/s")

    body = wire[: -len(END)] + b"\r\n"
    reply = b"250 2.0.0 Ok: queued as 0123456789abcdef\r\n"
    frame = (4097).to_bytes(4, "little") + b"\1" + b"x" * 4096
    head = b"Received: from a.test by b.test; Mon, 1 Jan 2024 00:00:00 +0000\r\nSubject: hello\r\n" * 8 + b"\r\n"
    reader, stuffer, frames = ReplyReader(), DotStuffer(), FrameReader(1 << 20)
    line = b"MAIL FROM:<someone@example.test> SIZE=4096\r\n"
    for text, call in (
        ("DotStuffer, 64 KB", lambda: stuffer.feed(body)),
        ("normalize, 64 KB with nothing to do", lambda: normalize(body)),
        ("split_command, MAIL", lambda: split_command(line, 0, len(line))),
        ("ReplyReader, one 250", lambda: reader.feed(reply)),
        ("FrameReader, one frame of 4 KB", lambda: frames.feed(frame)),
        ("count_received, 16 fields", lambda: count_received(head)),
    ):
        print(f"{text:44} {time_call(call) * 1e6:7.2f} us")


if __name__ == "__main__":
    main()

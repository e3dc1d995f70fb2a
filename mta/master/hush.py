"""Keeping new clients away from a listening socket while those that are already in the door are let in.

Closing a listening socket resets every connection in its accept queue, and every handshake that is under way. So
before the last descriptor of one is closed it is *hushed*: a socket filter drops SYN segments, which a client sends
again after a second and then hears that nobody listens (or meets the next server), and what has begun ends as usual.

Rule: only for sockets that nobody else will ever serve: the filter stays with the socket.
"""

import contextlib
import socket
import struct
from array import array

__all__ = ["hush"]

# linux/filter.h and asm-generic/socket.h
SO_ATTACH_FILTER = 26
LD_B_ABS, AND_K, JEQ_K, RET_K = 0x30, 0x54, 0x15, 0x06
# RFC 9293 s3.1: the flags are octet 13 of the TCP header, where the filter of a TCP socket begins to count.
FLAGS_AT, SYN, SYN_ACK = 13, 0x02, 0x12
WHOLE = 0xFFFFFFFF


def hush(sock: socket.socket) -> None:
    """Let a listening TCP socket take no new connection. Where filters are not allowed it does nothing."""
    steps = (
        (LD_B_ABS, 0, 0, FLAGS_AT),
        (AND_K, 0, 0, SYN_ACK),
        (JEQ_K, 0, 1, SYN),
        (RET_K, 0, 0, 0),
        (RET_K, 0, 0, WHOLE),
    )
    # Kept alive by its name until the kernel has copied it.
    code = array("B", b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HL", len(steps), code.buffer_info()[0])
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

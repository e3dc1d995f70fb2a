"""Which process holds the other end of a TCP connection on this machine, read from /proc (proc(5)): for root only."""

import contextlib
import os
import re
from collections.abc import Iterable

__all__ = ["owner_of"]

ESTABLISHED = "01"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def owner_of(port: int, pids: Iterable[int]) -> int:
    """Return which of `pids` has an established connection from local port `port`; 0 for none of them."""
    inodes = set()
    with open("/proc/net/tcp", encoding="ascii") as rows:
        for row in list(rows)[1:]:
            fields = row.split()
            if fields[3] == ESTABLISHED and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    for pid in pids:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    found = _SOCKET.match(os.readlink(f"/proc/{pid}/fd/{name}"))
                    if found and found[1] in inodes:
                        return pid
    return 0

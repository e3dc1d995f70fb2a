"""Plays the service manager that opens sockets: `python handover.py WHAT... -- COMMAND...`.

Opens each WHAT in order, places them at file descriptors from 3 on, says so as sd_listen_fds(3) has it, and becomes
COMMAND. WHAT is KIND=PLACE:

    tcp=127.0.0.1:2525      listens; an IPv6 address stands in brackets
    dual=[::]:2525          listens for IPv4, too
    shared=127.0.0.1:2525   listens with SO_REUSEPORT, so that there can be several
    quiet=127.0.0.1:2525    bound, but does not listen
    udp=127.0.0.1:2525
    unix=PATH               listens
    file=PATH
    none=                   nothing: that descriptor is closed
"""

import fcntl
import os
import socket
import sys

HIGH_FD = 100


def _internet(kind: str, place: str) -> socket.socket:
    host, _, port = place.rpartition(":")
    family = socket.AF_INET6 if "[" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, kind != "dual")
    if kind == "shared":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host.strip("[]"), int(port)))
    return sock


def _open(kind: str, place: str) -> int:
    if kind == "file":
        return os.open(place, os.O_RDWR | os.O_CREAT)
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(place)
    else:
        sock = _internet(kind, place)
    if kind not in ("quiet", "udp"):
        sock.listen()
    return sock.detach()


def main() -> None:
    """Do what the command line says."""
    end = sys.argv.index("--")
    wanted = [word.partition("=") for word in sys.argv[1:end]]
    # Out of the way first, so that none is overwritten by the place of another.
    fds = [fcntl.fcntl(_open(kind, place), fcntl.F_DUPFD, HIGH_FD) if place else -1 for kind, _, place in wanted]
    for number, fd in enumerate(fds, 3):
        if fd >= 0:
            os.dup2(fd, number)
            os.close(fd)
    os.closerange(3 + len(fds), HIGH_FD)
    names = ":".join(f"socket{number}" for number in range(len(fds)))
    os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=names)
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])


main()

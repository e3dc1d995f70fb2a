"""Listening sockets that a service manager has opened for us: socket activation, sd_listen_fds(3).

Rule: one that we cannot serve is an error at start, for its clients would wait in a backlog that nobody empties.

A bind address that is among them is not bound again: all workers accept from the manager's socket. If the manager has
several for one address (SO_REUSEPORT), they are dealt out, so that each worker can have one of its own as it does where
we bind ourselves.
"""

import contextlib
import os
import socket
import stat
from collections.abc import MutableMapping

from mta.errors import StartError
from mta.reply import visible

__all__ = ["Inherited", "shown"]

FIRST_FD = 3
MOST_DIGITS = 10
VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Inherited:
    """What we were given. Each socket is taken by the listener that names its address; `finish` says what was not."""

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        """Take over what `environ` names, if it is meant for `pid`; the variables are removed. Raises StartError."""
        count, owner, names, _ = (environ.pop(name, "") for name in VARIABLES)
        self._socks: list[tuple[str, socket.socket]] = []
        if not count or owner != str(pid):
            return
        if not (count.isascii() and count.isdigit() and len(count) < MOST_DIGITS):
            raise StartError(f"LISTEN_FDS: expected a number, got {count[:MOST_DIGITS]!r}")
        labels = names.split(":")
        with contextlib.ExitStack() as undo:
            for number in range(int(count)):
                fd = FIRST_FD + number
                label = visible(labels[number]) if number < len(labels) and labels[number] else "unknown"
                self._socks.append((label, undo.enter_context(_adopt(fd, label))))
            undo.pop_all()

    def take(self, family: int, where: tuple[object, ...]) -> list[socket.socket]:
        """Return the sockets that listen on an address, none if we were not given it; they are the caller's."""
        found = [
            pair for pair in self._socks if pair[1].family == family and _key(pair[1].getsockname()) == _key(where)
        ]
        self._socks = [pair for pair in self._socks if pair not in found]
        for _, sock in found:
            sock.setblocking(False)
        return [sock for _, sock in found]

    def finish(self) -> None:
        """Raises StartError when something is left that no listener has taken."""
        for label, sock in self._socks:
            raise StartError(
                f"the socket {label} for {shown(sock.getsockname())} was handed over, but no [[listener]] binds that "
                "address: add it to a bind, or remove it from the socket unit"
            )

    def close(self) -> None:
        """Close what nobody has taken."""
        for _, sock in self._socks:
            sock.close()
        self._socks = []


def _adopt(fd: int, label: str) -> socket.socket:
    """Return the socket at a descriptor, not to be handed on over an exec. Raises StartError unless it will do."""
    at = f"file descriptor {fd} ({label}), handed over by LISTEN_FDS,"
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError as error:
        raise StartError(f"{at} cannot be used: {error.strerror}") from error
    if not is_socket:
        raise StartError(f"{at} is not a socket: expected listening TCP sockets (ListenStream=ADDRESS:PORT) only")
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    try:
        _judge(sock, at)
    except BaseException:
        sock.close()
        raise
    return sock


def _judge(sock: socket.socket, at: str) -> None:
    is_internet = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.proto == socket.IPPROTO_TCP
    if not is_internet or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise StartError(f"{at} is not a listening TCP socket: expected ListenStream=ADDRESS:PORT, and Accept=no")
    # One that takes IPv4, too, shows its clients as ::ffff:192.0.2.1, which no network of the configuration holds.
    is_any = sock.getsockname()[0] == "::"
    if is_any and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        raise StartError(
            f"{at} takes IPv4 connections on {shown(sock.getsockname())}, too: "
            "set BindIPv6Only=ipv6-only in the socket unit, and list 0.0.0.0 beside [::]"
        )


def shown(where: tuple[object, ...]) -> str:
    """Return a socket address as `ADDRESS:PORT`, an IPv6 address in brackets."""
    host, port, *_ = where
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _key(where: tuple[object, ...]) -> tuple[object, ...]:
    """Return host, port and scope of a socket address; the flow label is no part of what a socket is bound to."""
    return (*where[:2], where[3] if len(where) > 3 else 0)

"""Everything that is opened once, before the first fork, and shared with the children: lock, listeners, link, outbox.

Rule: whatever fails here is a StartError that names the address or the path and the reason. Nothing here is closed by
a child's death, so a restarted child takes up what its forerunner left, connections in the backlog included.

Each worker has a listening socket of its own for each address (SO_REUSEPORT), and the kernel deals connections out by
their addresses and ports. On one shared socket the worker that is awake takes them all: 32 connections that came in a
burst were seen to go to one of two workers.
"""

import contextlib
import errno
import fcntl
import os
import pwd
import socket
from typing import NamedTuple

from mta.child import Bound
from mta.config import Config, Listener
from mta.errors import StartError
from mta.linkpath import LINK_NAME, bind_link, remove_link

__all__ = ["Lock", "Sockets", "User", "find_user"]

BACKLOG = 1024


class User(NamedTuple):
    """Who the children become; `name` "" stays who we are."""

    name: str
    uid: int
    gid: int


def find_user(name: str) -> User:
    """Return `process.user` as numbers. Raises StartError when there is no such user or we may not become it."""
    if not name:
        return User("", os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise StartError(f"process.user: there is no user {name} on this machine") from error
    if os.geteuid() not in (0, entry.pw_uid):
        raise StartError(f"process.user: only root can become {name}")
    return User(name, entry.pw_uid, entry.pw_gid)


class Lock:
    """`data_dir/lock`: held by whoever has a descriptor of it, so by the master and every child until the last ends."""

    def __init__(self, data_dir: str, user: User) -> None:
        """Make `data_dir` if it is missing, and open the lock without taking it. Raises StartError."""
        self.data_dir = data_dir
        try:
            if not os.path.isdir(data_dir):
                os.makedirs(data_dir, 0o700)
            self._fd = os.open(os.path.join(data_dir, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if user.name and os.geteuid() == 0:
                os.chown(data_dir, user.uid, user.gid)
        except OSError as error:
            raise StartError(f"cannot use data_dir {data_dir}: {error.strerror}") from error

    def take(self) -> bool:
        """Take the lock if nobody has it, and say whether we have it now. Raises StartError."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StartError(f"cannot lock data_dir {self.data_dir}: {error.strerror}") from error
        return True

    def close(self) -> None:
        """Let go; others who inherited the lock keep it."""
        os.close(self._fd)


class Sockets:
    """The master's sockets. `outbox` is (the queue's end, the report's end)."""

    def __init__(self, config: Config, user: User) -> None:
        """Bind everything. Only for the one who holds the lock. Raises StartError."""
        self.data_dir = config.data_dir
        with contextlib.ExitStack() as undo:
            n_workers = config.workers.n_processes
            self.listeners: list[list[Bound]] = [[] for _ in range(n_workers)]
            for listener in config.listener:
                for address in listener.bind:
                    for bound, sock in zip(self.listeners, _bind_all(listener, address, n_workers), strict=True):
                        bound.append(Bound(listener, undo.enter_context(sock)))
            try:
                self.link = undo.enter_context(bind_link(config.data_dir))
                if user.name and os.geteuid() == 0:
                    os.chown(os.path.join(config.data_dir, LINK_NAME), user.uid, user.gid)
            except OSError as error:
                raise StartError(f"cannot bind {LINK_NAME} in {config.data_dir}: {error.strerror or error}") from error
            self.outbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for end in self.outbox:
                end.setblocking(False)
            undo.pop_all()

    def addresses(self) -> list[str]:
        """Return `NAME=ADDRESS:PORT` for each bound address, with the port the kernel gave."""
        return [f"{bound.listener.name}={_shown(bound.sock.getsockname())}" for bound in self.listeners[0]]

    def keep_for(self, kind: str, number: int) -> None:
        """In a forked child: close what a child of this kind and number has no use for.

        A listening socket that somebody keeps open without accepting would hold clients in its backlog after a stop.
        """
        self.close_listeners(but=number if kind == "worker" else 0)
        if kind != "queue":
            self.link.close()
            self.outbox[0].close()
        if kind != "report":
            self.outbox[1].close()

    def close_listeners(self, but: int = 0) -> None:
        """Take no new connections: they are refused once the workers have closed theirs, too.

        `but` is the worker whose sockets stay open, 0 for none.
        """
        for number, bound in enumerate(self.listeners, 1):
            for each in bound if number != but else ():
                each.sock.close()

    def close(self) -> None:
        """Close everything and remove the link's file."""
        self.close_listeners()
        with contextlib.suppress(OSError):
            remove_link(self.data_dir)
        self.link.close()
        for end in self.outbox:
            end.close()


def _bind_all(listener: Listener, address: str, n_sockets: int) -> list[socket.socket]:
    """Return as many sockets that listen on an address. Raises StartError."""
    host, _, port = address.rpartition(":")
    try:
        # Only numbers pass the configuration; getaddrinfo is for the scope of a link-local IPv6 address.
        family, _, _, _, where = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
        # With SO_REUSEPORT alone a second server on the same address would get half of our connections, not an error.
        with _listening(family, where, is_one_of_many=False) as probe:
            where = probe.getsockname()
        with contextlib.ExitStack() as undo:
            made = [undo.enter_context(_listening(family, where, is_one_of_many=True)) for _ in range(n_sockets)]
            undo.pop_all()
            return made
    except OSError as error:
        hint = " (ports below 1024 need root)" if error.errno == errno.EACCES else ""
        raise StartError(f"cannot listen on {listener.name} {address}: {error.strerror}{hint}") from error


def _listening(family: int, where: tuple[object, ...], *, is_one_of_many: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_one_of_many:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _shown(where: tuple[str, int] | tuple[str, int, int, int]) -> str:
    return f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"

"""Everything that is opened once, before the first fork, and shared with the children: lock, listeners, link, outbox.

Rule: whatever fails here is a StartError that names the address or the path and the reason. Nothing here is closed by
a child's death, so a restarted child takes up what its forerunner left, connections in the backlog included.
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
            bound: list[Bound] = []
            for listener in config.listener:
                for address in listener.bind:
                    bound.append(Bound(listener, _bind(listener, address)))
                    undo.enter_context(bound[-1].sock)
            self.listeners = tuple(bound)
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
        return [f"{bound.listener.name}={_shown(bound.sock.getsockname())}" for bound in self.listeners]

    def keep_for(self, kind: str) -> None:
        """In a forked child: close what a child of this kind has no use for.

        A listening socket that somebody keeps open without accepting would hold clients in its backlog after a stop.
        """
        if kind != "worker":
            self.close_listeners()
        if kind != "queue":
            self.link.close()
            self.outbox[0].close()
        if kind != "report":
            self.outbox[1].close()

    def close_listeners(self) -> None:
        """Take no new connections: they are refused once the workers have closed theirs, too."""
        for bound in self.listeners:
            bound.sock.close()

    def close(self) -> None:
        """Close everything and remove the link's file."""
        self.close_listeners()
        with contextlib.suppress(OSError):
            remove_link(self.data_dir)
        self.link.close()
        for end in self.outbox:
            end.close()


def _bind(listener: Listener, address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        # Only numbers pass the configuration; getaddrinfo is for the scope of a link-local IPv6 address.
        family, kind, protocol, _, where = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(f"cannot listen on {listener.name} {address}: {error.strerror}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        hint = " (ports below 1024 need root)" if error.errno == errno.EACCES else ""
        raise StartError(f"cannot listen on {listener.name} {address}: {error.strerror}{hint}") from error
    return sock


def _shown(where: tuple[str, int] | tuple[str, int, int, int]) -> str:
    return f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"

"""Everything that the master opens and shares with its children: lock, listeners, link, outbox.

Rule: whatever fails here is a StartError that names the address or the path and the reason. Nothing here is closed by
a child's death, so a restarted child takes up what its forerunner left, connections in the backlog included.

A listening socket is closed only when the configuration has no more use for its address, and hushed before: closing it
resets what is in its accept queue. So where there are fewer workers than before, some have several of an address.

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
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from mta.child import Bound
from mta.config import Config, Listener
from mta.errors import StartError
from mta.linkpath import LINK_NAME, STATE_NAME, bind_link, remove_link
from mta.master.activation import Inherited, shown
from mta.master.hush import hush

__all__ = ["Lock", "Place", "Plan", "Sockets", "User", "find_user"]

BACKLOG = 1024
OPEN_LOCK = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class User(NamedTuple):
    """Who the children become; `name` "" stays who we are."""

    name: str
    uid: int
    gid: int

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Have the rights of this user meanwhile, where root is to become somebody else; in the whole process."""
        if not self.name or os.geteuid() != 0 or self.uid == 0:
            yield
            return
        groups, gid = os.getgroups(), os.getegid()
        os.initgroups(self.name, self.gid)
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)


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

    def __init__(self, data_dir: str, fd: int) -> None:
        self.data_dir = data_dir
        self.fd = fd

    @classmethod
    def open(cls, data_dir: str, user: User) -> "Lock":
        """Make `data_dir` if it is missing, and open the lock without taking it. Raises StartError."""
        try:
            if not os.path.isdir(data_dir):
                os.makedirs(data_dir, 0o700)
            fd = os.open(os.path.join(data_dir, "lock"), OPEN_LOCK, 0o600)
        except OSError as error:
            raise StartError(f"cannot use data_dir {data_dir}: {error.strerror}") from error
        try:
            # What the user can put there must not make root give away a file of somebody else.
            found = os.fstat(fd)
            is_given = user.name != "" and os.geteuid() == 0
            is_shared = found.st_nlink != 1 and found.st_uid != user.uid
            if not stat.S_ISREG(found.st_mode) or (is_given and is_shared):
                raise StartError(f"cannot use data_dir {data_dir}: what is called lock there is no file of its own")
            if is_given:
                os.chown(data_dir, user.uid, user.gid)
                # Commands that need the server stopped take the lock, too, as whoever runs them.
                os.fchown(fd, user.uid, user.gid)
        except OSError as error:
            os.close(fd)
            raise StartError(f"cannot use data_dir {data_dir}: {error.strerror}") from error
        except StartError:
            os.close(fd)
            raise
        return cls(data_dir, fd)

    def take(self) -> bool:
        """Take the lock if nobody has it, and say whether we have it now. Raises StartError."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StartError(f"cannot lock data_dir {self.data_dir}: {error.strerror}") from error
        return True

    def close(self) -> None:
        """Let go; others who inherited the lock keep it."""
        os.close(self.fd)


class Place(msgspec.Struct, eq=False):
    """One address that is listened on."""

    name: str
    """The listener's, from when it was opened."""
    asked: str
    """The address as in the configuration."""
    where: tuple[object, ...]
    """The address as the kernel has it."""
    socks: list[socket.socket]
    """One for each worker that there was; they are of one SO_REUSEPORT group."""
    is_given: bool = False
    """Somebody else opened the sockets and keeps them: there are no more of them, and hushed they would stay so."""


class Plan(msgspec.Struct, frozen=True, eq=False):
    """A configuration, and which worker listens on what under it."""

    config: Config
    bounds: tuple[tuple[Bound, ...], ...]
    """For each worker; the first is number 1."""

    @property
    def socks(self) -> set[socket.socket]:
        """Every listening socket that is used."""
        return {bound.sock for bounds in self.bounds for bound in bounds}

    def bounds_of(self, number: int) -> tuple[Bound, ...]:
        """Return what worker `number` listens on; nothing for number 0, which is no worker's."""
        return self.bounds[(number - 1) % len(self.bounds)] if number else ()

    def addresses(self) -> list[str]:
        """Return `NAME=ADDRESS:PORT` for each bound address, with the port the kernel gave."""
        return [f"{bound.listener.name}={shown(bound.sock.getsockname())}" for bound in self.bounds[0]]


class Sockets:
    """The master's sockets. `outbox` is (the queue's end, the report's end)."""

    def __init__(
        self,
        data_dir: str,
        link: socket.socket,
        state: socket.socket,
        outbox: tuple[socket.socket, socket.socket],
        places: Iterable[Place] = (),
        inherited: Inherited | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.link = link
        self.state = state
        self.outbox = outbox
        self.places = list(places)
        self._inherited = inherited

    @classmethod
    def open(cls, data_dir: str, user: User, inherited: Inherited) -> "Sockets":
        """Open what every configuration needs. Only for the one who holds the lock. Raises StartError."""
        with contextlib.ExitStack() as undo:
            link = undo.enter_context(_bind_unix(data_dir, LINK_NAME, user))
            state = undo.enter_context(_bind_unix(data_dir, STATE_NAME, user))
            outbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for end in outbox:
                end.setblocking(False)
            undo.pop_all()
        return cls(data_dir, link, state, outbox, inherited=inherited)

    def plan(self, config: Config) -> Plan:
        """Bind what `config` names and is not bound yet, and deal the sockets out. Raises StartError, with all undone.

        What is bound and not named stays open until `keep`.
        """
        before = {place: len(place.socks) for place in self.places}
        n_workers = config.workers.n_processes
        bounds: list[list[Bound]] = [[] for _ in range(n_workers)]
        try:
            used: set[Place] = set()
            for listener in config.listener:
                for address in listener.bind:
                    place = self._take(listener, address, n_workers, used)
                    used.add(place)
                    n_socks = len(place.socks)
                    for number, sock in enumerate(place.socks):
                        bounds[number % n_workers].append(Bound(listener, sock))
                    for number in range(n_socks, n_workers):
                        # More workers than sockets that somebody else made for us: they share.
                        bounds[number].append(Bound(listener, place.socks[number % n_socks]))
        except StartError:
            self._undo(before)
            raise
        return Plan(config, tuple(map(tuple, bounds)))

    def _take(self, listener: Listener, address: str, n_workers: int, used: set[Place]) -> Place:
        """Return the place of an address, with enough sockets for so many workers."""
        family, where = _parse(listener, address)
        for place in self.places:
            is_any = not where[1] and (place.name, place.asked) == (listener.name, address)
            if place in used or not (is_any or _is_same(place.where, where)):
                continue
            try:
                while len(place.socks) < n_workers and not place.is_given:
                    # The worker that gets it is the first to listen: before, nobody would serve what it is dealt.
                    place.socks.append(_bound(family, place.where, is_one_of_many=True))
            except OSError as error:
                raise _cannot(listener, address, error) from error
            return place
        given = self._inherited.take(family, where) if self._inherited is not None else []
        is_ours = any(_overlaps(place.where, where) for place in self.places)
        socks = given or _bind_all(listener, address, n_workers, is_ours=is_ours)
        place = Place(listener.name, address, socks[0].getsockname(), socks, bool(given))
        self.places.append(place)
        return place

    def _undo(self, before: dict[Place, int]) -> None:
        for place in self.places:
            for sock in place.socks[before.get(place, 0) :]:
                sock.close()
            del place.socks[before.get(place, 0) :]
        self.places = [place for place in self.places if place in before]

    def keep(self, plan: Plan) -> None:
        """Hush and close every listening socket that `plan` has no use for; workers let in who is at the door."""
        wanted = plan.socks
        for place in self.places:
            for sock in place.socks:
                if sock not in wanted:
                    _shut(place, sock)
            place.socks = [sock for sock in place.socks if sock in wanted]
        self.places = [place for place in self.places if place.socks]

    def keep_for(self, kind: str, bounds: Iterable[Bound]) -> None:
        """In a forked child: close what a child of this kind, which listens on `bounds`, has no use for.

        A listening socket that somebody keeps open without accepting would hold clients in its backlog after a stop.
        """
        self._close_listeners({bound.sock for bound in bounds})
        if kind != "queue":
            self.link.close()
            self.outbox[0].close()
        if kind != "state":
            self.state.close()
        if kind != "report":
            self.outbox[1].close()

    def _close_listeners(self, but: set[socket.socket]) -> None:
        for place in self.places:
            for sock in place.socks:
                if sock not in but:
                    sock.close()

    def close_listeners(self) -> None:
        """Take no new connections: they are refused once the workers have closed theirs, too."""
        for place in self.places:
            for sock in place.socks:
                _shut(place, sock)
        self.places = []

    def close(self) -> None:
        """Close everything and remove the files of the Unix sockets."""
        self._close_listeners(set())
        for name, sock in ((LINK_NAME, self.link), (STATE_NAME, self.state)):
            with contextlib.suppress(OSError):
                remove_link(self.data_dir, name)
            sock.close()
        for end in self.outbox:
            end.close()


def _shut(place: Place, sock: socket.socket) -> None:
    if not place.is_given:
        hush(sock)
    sock.close()


def _bind_unix(data_dir: str, name: str, user: User) -> socket.socket:
    """Return a listening Unix socket in `data_dir` that `user` may connect to. Raises StartError."""
    try:
        # As that user: a name in the user's directory may be something else by the time it is given away.
        with user.acting():
            return bind_link(data_dir, name)
    except OSError as error:
        raise StartError(f"cannot bind {name} in {data_dir}: {error.strerror or error}") from error


def _parse(listener: Listener, address: str) -> tuple[int, tuple[object, ...]]:
    """Return family and socket address. Raises StartError."""
    host, _, port = address.rpartition(":")
    try:
        # Only numbers pass the configuration; getaddrinfo is for the scope of a link-local IPv6 address.
        rows = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError as error:
        raise _cannot(listener, address, error) from error
    return rows[0][0], rows[0][4]


def _is_same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    # Host, port and scope; the flow label is no part of what a socket is bound to.
    return (*one[:2], *one[3:]) == (*other[:2], *other[3:])


def _overlaps(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Say whether one of two addresses takes the other's connections, too."""
    return one[1] == other[1] and len(one) == len(other) and bool({one[0], other[0]} & {"0.0.0.0", "::"})


def _cannot(listener: Listener, address: str, error: OSError) -> StartError:
    hint = " (ports below 1024 need root or CAP_NET_BIND_SERVICE)" if error.errno == errno.EACCES else ""
    return StartError(f"cannot listen on {listener.name} {address}: {error.strerror}{hint}")


def _bind_all(listener: Listener, address: str, n_sockets: int, *, is_ours: bool) -> list[socket.socket]:
    """Return as many sockets that listen on an address; `is_ours` if we listen on a part of it. Raises StartError."""
    family, where = _parse(listener, address)
    try:
        if not is_ours:
            # With SO_REUSEPORT alone a second server on the same address would get half of our connections, not an
            # error.
            with _listening(family, where, is_one_of_many=False) as probe:
                where = probe.getsockname()
        with contextlib.ExitStack() as undo:
            made = [undo.enter_context(_listening(family, where, is_one_of_many=True)) for _ in range(n_sockets)]
            undo.pop_all()
            return made
    except OSError as error:
        raise _cannot(listener, address, error) from error


def _listening(family: int, where: tuple[object, ...], *, is_one_of_many: bool) -> socket.socket:
    sock = _bound(family, where, is_one_of_many=is_one_of_many)
    try:
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _bound(family: int, where: tuple[object, ...], *, is_one_of_many: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_one_of_many:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock

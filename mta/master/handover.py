"""What one image of the master leaves to the next: everything that is open, and who lives, over an exec in place.

Rule: a record is read by the version that comes next, so fields are added at the end and with defaults; what cannot be
understood in that way gets another HANDOVER_VERSION, and the next version refuses it before the exec (see `trial`).

The record lies in a memory file whose descriptor number is in the environment; descriptors that it names are open in
the new image under the same numbers.
"""

import os
import socket
from collections.abc import Iterable, MutableMapping

import msgspec

from mta.config import Config
from mta.errors import StartError
from mta.master.children import Kid
from mta.master.sockets import Lock, Place, Plan, Sockets

__all__ = ["HANDOVER_VERSION", "VARIABLE", "Handover", "KidRecord", "PlaceRecord", "read", "take_over", "write"]

HANDOVER_VERSION = 1
VARIABLE = "MTA_HANDOVER"
MOST_DIGITS = 10


class KidRecord(msgspec.Struct, frozen=True):
    """A child process that lives on."""

    kind: str
    number: int
    pid: int
    control: int
    """-1 if it has closed its channel."""
    born_at: float
    is_ready: bool
    is_leaving: bool
    is_renewed: bool
    ends_by: float
    farewell: list[object] = []
    is_missed: bool = False


class PlaceRecord(msgspec.Struct, frozen=True):
    """An address that is listened on."""

    name: str
    asked: str
    socks: list[int]
    is_given: bool = False


class Handover(msgspec.Struct, frozen=True):
    """The whole record."""

    version: int
    pid: int
    config: msgspec.Raw
    """The running one, in msgpack."""
    lock: int
    link: int
    state: int
    outbox: tuple[int, int]
    places: list[PlaceRecord]
    kids: list[KidRecord]
    news: list[list[object]] = []
    """What the queue process has not heard."""
    signals: list[int] = []
    """What had come and was not obeyed."""

    @classmethod
    def of(
        cls,
        plan: Plan,
        lock: Lock,
        sockets: Sockets,
        kids: Iterable[Kid],
        news: list[list[object]],
        signals: list[int],
    ) -> "Handover":
        """Write down what there is."""
        return cls(
            HANDOVER_VERSION,
            os.getpid(),
            msgspec.Raw(msgspec.msgpack.encode(plan.config)),
            lock.fd,
            sockets.link.fileno(),
            sockets.state.fileno(),
            (sockets.outbox[0].fileno(), sockets.outbox[1].fileno()),
            [
                PlaceRecord(place.name, place.asked, [sock.fileno() for sock in place.socks], place.is_given)
                for place in sockets.places
            ],
            [_kid_record(kid) for kid in kids],
            news,
            signals,
        )

    @property
    def fds(self) -> list[int]:
        """Every descriptor that is handed over."""
        socks = [fd for place in self.places for fd in place.socks]
        controls = [kid.control for kid in self.kids if kid.control >= 0]
        return [self.lock, self.link, self.state, *self.outbox, *socks, *controls]

    def read_config(self) -> Config:
        """Return the configuration that the children run by. Raises StartError if this version has no such thing."""
        try:
            return msgspec.msgpack.decode(self.config, type=Config)
        except msgspec.MsgspecError as error:
            raise StartError(f"the configuration that is running means nothing to this version: {error}") from error

    def sockets(self, data_dir: str) -> Sockets:
        """Take over the sockets."""
        places = []
        for place in self.places:
            socks = [_socket(fd) for fd in place.socks]
            places.append(Place(place.name, place.asked, socks[0].getsockname(), socks, place.is_given))
        outbox = _socket(self.outbox[0]), _socket(self.outbox[1])
        return Sockets(data_dir, _socket(self.link), _socket(self.state), outbox, places)

    def family(self, plan: Plan, now: float) -> list[Kid]:
        """Take over the children."""
        return [
            Kid(
                record.kind,
                record.number,
                plan,
                pid=record.pid,
                control=_socket(record.control) if record.control >= 0 else None,
                is_ready=record.is_ready,
                born_at=record.born_at,
                heard_at=now,
                is_missed=record.is_missed,
                is_leaving=record.is_leaving,
                is_renewed=record.is_renewed,
                ends_by=record.ends_by,
                farewell=record.farewell,
            )
            for record in self.kids
        ]


def _kid_record(kid: Kid) -> KidRecord:
    return KidRecord(
        kid.kind,
        kid.number,
        kid.pid,
        kid.control.fileno() if kid.control is not None else -1,
        kid.born_at,
        kid.is_ready,
        kid.is_leaving,
        kid.is_renewed,
        kid.ends_by,
        list(kid.farewell),
        kid.is_missed,
    )


def _socket(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def write(record: Handover) -> int:
    """Write a record into a memory file that an exec inherits; return its descriptor. Raises OSError."""
    fd = os.memfd_create("mta-handover", 0)
    with open(fd, "wb", closefd=False) as file:
        file.write(msgspec.msgpack.encode(record))
    return fd


def read(fd: int) -> Handover:
    """Return the record in a memory file. Raises StartError if it is not one that this version understands."""
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        with open(fd, "rb", closefd=False) as file:
            record = msgspec.msgpack.decode(file.read(), type=Handover)
    except (OSError, msgspec.MsgspecError) as error:
        raise StartError(f"{VARIABLE}: there is no record of a running server: {error}") from error
    if record.version != HANDOVER_VERSION:
        raise StartError(
            f"the running server hands over in version {record.version}, this one takes {HANDOVER_VERSION}: "
            "stop it and start the new one"
        )
    return record


def take_over(environ: MutableMapping[str, str]) -> Handover | None:
    """Return what was left to this process, None if nothing was; the variable is removed. Raises StartError."""
    fd = environ.pop(VARIABLE, "")
    if not fd:
        return None
    if not (fd.isascii() and fd.isdigit() and len(fd) < MOST_DIGITS):
        raise StartError(f"{VARIABLE}: expected the number of a descriptor, got {fd[:MOST_DIGITS]!r}")
    record = read(int(fd))
    if record.pid != os.getpid():
        raise StartError(f"{VARIABLE}: the record is for process {record.pid}: remove it from the environment")
    os.close(int(fd))
    os.set_inheritable(record.lock, False)
    return record

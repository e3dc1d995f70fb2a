"""The queue process: a message's way through desk, batch, tables and schedule, from its workers' sockets and back.

Two workers put their messages, deliver what they are leased, and settle it in the next turn. What the process does by
the clock (looking for room, beats, what is remembered of paths) is left out: a turn is read, commit, answer, lease,
write, as in `mta.queue.process`.
"""

import select
import socket

from bench.work.mail import BODY, DELIVERED, FIELD, GROUP, HOSTNAME, HOSTS, RECIPIENT, SITE, T0, id_of, put_head
from bench.work.place import MAP_OCTETS, temporary_directory
from mta._fast import FrameReader
from mta.config import Config, Listener
from mta.link import (
    LINK_VERSION,
    READ_OCTETS,
    Connection,
    Greeted,
    Hello,
    Kind,
    Lease,
    Resolve,
    Resolved,
    Settle,
    Settlement,
    decoder,
    frame,
)
from mta.link.frames import MAX_FRAME_OCTETS, encode, put_pieces
from mta.message import ID_OCTETS
from mta.queue.changes import Circumstances
from mta.queue.clock import Clock
from mta.queue.desk import Desk
from mta.queue.shared import Shared
from mta.store import Writer

__all__ = ["QueueWork"]

N_WORKERS = 2
CREDIT = 2000
TURN_MS = 2
YEAR_S = 365 * 86_400.0
# More than there ever are; the queue process looks again when the number has risen.
ALL_EVENTS = 1 << 60


class Still(Clock):
    """A clock that is set."""

    def __init__(self) -> None:
        super().__init__()
        self.at_ms = T0

    def now_ms(self) -> int:
        """Return the time in ms since 1970."""
        return self.at_ms


class Worker:
    """A worker's end of the link. `n_stored` and `n_settled` count its answers."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.n_stored = self.n_settled = 0
        self.theirs: dict[str, socket.socket] = {}
        self._ours: dict[str, socket.socket] = {}
        self._frames: dict[str, FrameReader] = {}
        self._settlements: list[Settlement] = []
        # The id of each message is put in its place.
        self._mark = b"\xa5" * ID_OCTETS
        self._head = encode(put_head(int.from_bytes(self._mark, "big")))
        self._lease = decoder(Lease).decode
        self._resolve = decoder(Resolve).decode
        for role in ("out", "in"):
            self._ours[role], self.theirs[role] = socket.socketpair()
            self._ours[role].setblocking(False)
            self._frames[role] = FrameReader(MAX_FRAME_OCTETS)

    def hello(self) -> None:
        """Check in."""
        self._say("out", frame(Kind.HELLO, Hello(LINK_VERSION, "out", self.number, self.number, 0, CREDIT, (), ())))

    def ready(self, incarnation: int) -> None:
        """Check in with the other connection, too; there is nothing to say again."""
        hello = Hello(LINK_VERSION, "in", self.number, self.number, incarnation, CREDIT, (), ())
        self._say("in", frame(Kind.HELLO, hello) + frame(Kind.READY))
        self._say("out", frame(Kind.READY))

    def work(self, ids: list[bytes]) -> None:
        """Settle what was leased, and put these messages."""
        if self._settlements:
            self._say("out", frame(Kind.SETTLE, Settle(self.n_stored, tuple(self._settlements))))
            self.n_settled += len(self._settlements)
            self._settlements.clear()
        heads = [self._head.replace(self._mark, id_) for id_ in ids]
        if heads:
            puts = [put_pieces(head, (FIELD, BODY), self.n_stored, False) for head in heads]
            self._say("in", b"".join([piece for pieces in puts for piece in pieces]))

    def hear(self) -> None:
        """Take in what the queue process says; deliver what it leases."""
        for role, ours in self._ours.items():
            try:
                said = ours.recv(READ_OCTETS)
            except BlockingIOError:
                continue
            for kind, payload in self._frames[role].feed(said):
                if kind == Kind.STORED:
                    self.n_stored += len(payload) // ID_OCTETS
                elif kind == Kind.LEASE:
                    lease = self._lease(payload)
                    if lease.opens:
                        self._say("out", frame(Kind.GREETED, Greeted(lease.session)))
                    results = ((0, RECIPIENT, DELIVERED),)
                    self._settlements += [Settlement(part, 0, T0, "default", results) for part in lease.parts]
                elif kind == Kind.RESOLVE:
                    asked = self._resolve(payload)
                    way = Resolved(asked.domain, asked.route, SITE, HOSTS, YEAR_S, (0,))
                    self._say("out", frame(Kind.RESOLVED, way))

    def _say(self, role: str, wire: bytes) -> None:
        self._ours[role].sendall(wire)

    def close(self) -> None:
        """Hang up."""
        for ours in self._ours.values():
            ours.close()


class QueueWork:
    """A queue process without its loop, and its workers."""

    def __init__(self) -> None:
        self._directory = temporary_directory()
        self._writer = Writer(self._directory.name, MAP_OCTETS)
        listener = Listener("mx", ("127.0.0.1:25",))
        self._shared = Shared(Config(hostname=HOSTNAME, data_dir="/", listener=(listener,)), self._writer)
        self._shared.clock = self._clock = Still()
        self._epoll = select.epoll()
        self._desk = Desk(self._shared, self._epoll, self._commit)
        self._workers = [Worker(number) for number in range(1, N_WORKERS + 1)]
        self._shared.workers.listed({worker.number for worker in self._workers})
        self._fds: list[int] = []
        self._n_put = self._n_turns = 0
        buffer = memoryview(bytearray(READ_OCTETS))
        for incarnation, worker in enumerate(self._workers, 1):
            for theirs in worker.theirs.values():
                self._fds.append(theirs.fileno())
                self._desk.accept(Connection(theirs, buffer))
            worker.hello()
            self._turn()
            worker.ready(incarnation)
            self._turn()
        if not self._shared.workers.have_checked_in:
            raise RuntimeError("the workers did not check in")

    def run(self, n_messages: int) -> None:
        """Put so many messages, and deliver and settle all of them but the last."""
        for start in range(0, n_messages, GROUP):
            self._group(min(GROUP, n_messages - start))
        if sum(worker.n_stored for worker in self._workers) != self._n_put:
            raise RuntimeError(f"{self._n_put} messages were put, and not as many answered")
        while self._writer.n_messages:
            self._group(0)
        if sum(worker.n_settled for worker in self._workers) != self._n_put:
            raise RuntimeError(f"{self._n_put} messages were put, and not as many settled")

    def _group(self, n_messages: int) -> None:
        share = -(-n_messages // N_WORKERS)
        ids = [id_of(self._n_put + at) for at in range(1, n_messages + 1)]
        self._n_put += n_messages
        for at, worker in enumerate(self._workers):
            worker.work(ids[at * share : (at + 1) * share])
        self._turn()
        for worker in self._workers:
            worker.hear()

    def _turn(self) -> None:
        shared = self._shared
        self._n_turns += 1
        self._clock.at_ms += TURN_MS
        shared.batch.taken(ALL_EVENTS + self._n_turns)
        self._desk.serve(self._fds)
        self._commit()
        if shared.workers.have_checked_in:
            shared.plans.tick(self._clock.at_ms)
        self._desk.flush()

    def _commit(self) -> None:
        shared = self._shared
        now = Circumstances(self._clock.at_ms, shared.schedule.is_leased, shared.workers.is_repeatable)
        self._desk.committed(shared.batch.commit(now))

    def close(self) -> None:
        """Close everything and delete the environment."""
        for worker in self._workers:
            worker.close()
        # Its guests go when their workers have hung up.
        self._desk.serve(self._fds)
        self._epoll.close()
        self._writer.close()
        self._directory.cleanup()

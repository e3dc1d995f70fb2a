"""What of the two kinds of frames goes into one commit: neither settlements nor new mail keep the other out."""

import contextlib
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mta.config import Config, Listener
from mta.link import LINK_VERSION, Connection, Hello, Kind, Notice, Put, Settle, frame
from mta.link.frames import encode, put_pieces
from mta.queue.batch import MOST_CHANGES
from mta.queue.changes import Change, Circumstances, PutChange, SettleChange
from mta.queue.desk import FEW_CHANGES, Desk
from mta.queue.shared import Shared
from mta.store import Writer

from .samples import notice, put, settlement

BUFFER_OCTETS = 262_144


class Served:
    """A desk, and a worker that has said HELLO over both of its connections."""

    def __init__(self, writer: Writer, data_dir: Path, stack: contextlib.ExitStack) -> None:
        self.epoll = stack.enter_context(contextlib.closing(select.epoll()))
        listener = Listener(bind=("127.0.0.1:0",))
        self.shared = Shared(Config(hostname="mx.test", data_dir=str(data_dir), listener=(listener,)), writer)
        self.desk = Desk(self.shared, self.epoll, lambda: None)
        self.ends: dict[str, socket.socket] = {}
        buffer = memoryview(bytearray(BUFFER_OCTETS))
        incarnation = 0
        for role in ("out", "in"):
            ours, theirs = map(stack.enter_context, socket.socketpair())
            self.ends[role] = theirs
            self.desk.accept(Connection(ours, buffer))
            hello = Hello(LINK_VERSION, "out" if role == "out" else "in", 1, 99, incarnation, 500, (), ())
            theirs.settimeout(10)
            theirs.sendall(frame(Kind.HELLO, hello) + frame(Kind.READY, ()))
            self.serve()
            (worker,) = self.shared.workers.all()
            incarnation = worker.incarnation
        self.turn()

    def serve(self) -> None:
        self.desk.serve([fd for fd, _ in self.epoll.poll(0)])

    def commit(self) -> list[Change]:
        done = self.shared.batch.commit(self.circumstances())
        self.desk.committed(done)
        return done.changes

    def circumstances(self) -> Circumstances:
        return Circumstances(self.shared.clock.now_ms(), self.shared.schedule.is_leased, lambda _: False)

    def turn(self) -> tuple[int, int]:
        """Read and commit once; return how many settlements there were, and messages."""
        self.serve()
        changes = self.commit()
        return sum(isinstance(c, SettleChange) for c in changes), sum(isinstance(c, PutChange) for c in changes)

    def settle(self, n_settlements: int) -> None:
        told = [settlement(put(number, ("x@b.test",)), 0, "delivered") for number in range(n_settlements)]
        self.ends["out"].sendall(b"".join(frame(Kind.SETTLE, Settle(0, (one,))) for one in told))

    def put(self, messages: list[Put]) -> None:
        frames = [
            b"".join(put_pieces(encode(message.head), [bytes(message.content)], 0, False)) for message in messages
        ]
        self.ends["in"].sendall(b"".join(frames))


@pytest.fixture
def served(writer: Writer, tmp_path: Path) -> Iterator[Served]:
    """Give a desk with a worker."""
    with contextlib.ExitStack() as stack:
        yield Served(writer, tmp_path, stack)


def test_desk_new_mail_is_read_however_many_settlements_there_are(served: Served) -> None:
    served.settle(500)
    served.put([put(10_000 + number, ("x@b.test",)) for number in range(10)])
    n_settled, n_put = served.turn()
    assert n_put == 10
    assert FEW_CHANGES <= n_settled < 4 * FEW_CHANGES


def test_desk_settlements_are_read_faster_than_new_mail(served: Served) -> None:
    served.settle(500)
    for turn in range(4):
        served.put([put(10_000 + 100 * turn + number, ("x@b.test",)) for number in range(60)])
        n_settled, n_put = served.turn()
        assert n_put == 60
        assert n_settled >= (60 if turn else FEW_CHANGES)


def test_desk_settlements_with_notices_are_read_as_fast(served: Served) -> None:
    told: list[bytes] = []
    for number in range(40):
        about = put(number, ("x@b.test",))
        long = Notice(notice(20_000 + number, about).head, b"x" * 4000)
        one = msgspec.structs.replace(settlement(about, 0, "bounced"), notice=long)
        told.append(frame(Kind.SETTLE, Settle(0, (one,))))
    served.ends["out"].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
    served.ends["out"].sendall(b"".join(told))
    found: list[int] = []
    while sum(found) < len(told) and len(found) < 5:
        served.put([put(10_000 + 100 * len(found) + number, ("x@b.test",)) for number in range(10)])
        n_settled, n_put = served.turn()
        assert n_put == 10
        found.append(n_settled)
    # How long they are is learned from the first.
    assert sum(found) == len(told)


def test_desk_settlements_alone_fill_a_batch(served: Served) -> None:
    served.settle(300)
    n_settled, _ = served.turn()
    assert n_settled >= MOST_CHANGES

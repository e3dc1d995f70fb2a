"""Garbage on `data_dir/link.sock`: whoever says it is hung up on and told of by a fault event; nobody else notices."""

import contextlib
import random
import struct
import time
from collections.abc import Iterator

import msgspec
import pytest

from bench.server import Server
from bench.sink import Sink
from mta._fast import FrameReader
from mta.link import LINK_VERSION, Kind, PutHead, PutPart, Refused, Welcome, decoder, frame
from mta.linkpath import open_link
from mta.message import QueueName
from tests.accept.wire import Wire
from tests.harness import relaying


def hello(role: str = "in", version: int = LINK_VERSION, incarnation: int = 0) -> bytes:
    """Return the frame of a worker that does not exist."""
    return frame(Kind.HELLO, msgspec.msgpack.encode((version, role, 99, 1, incarnation, 10, (), ())))


def put(id_: bytes = bytes(16), address: str = "b@sink.test", n_head: int = -1) -> bytes:
    """Return a PUT; its head is announced with `n_head` octets, or truly."""
    part = PutPart(QueueName("default", "", 0, "sink.test", ""), 0, (address,))
    head = msgspec.msgpack.encode(PutHead(id_, "a@source.test", 0, 0, "default", "", 0, (part,), b"\x90"))
    return frame(Kind.PUT, struct.pack("<IQ?", len(head) if n_head < 0 else n_head, 0, False) + head + b"x\r\n")


@pytest.fixture(scope="module")
def linked() -> Iterator[Server]:
    """A server whose link is attacked."""
    with Sink() as sink, Server(relaying(sink.via, workers={"count": 1})) as server:
        yield server


def knock(server: Server, *frames: bytes) -> bytes:
    """Say something over a connection of its own; return all that is said back until it is closed."""
    heard = b""
    with open_link(str(server.data_dir)) as sock:
        sock.settimeout(5)
        with contextlib.suppress(ConnectionError):
            for octets in frames:
                sock.sendall(octets)
                time.sleep(0.02)
            while piece := sock.recv(65_536):
                heard += piece
    return heard


@pytest.mark.parametrize(
    "frames",
    [
        # No frames at all.
        [random.Random(1).randbytes(10_000)],
        [b"\xff" * 5],
        [b"\0" * 64],
        [struct.pack("<IB", 0xFFFFFFFF, Kind.HELLO)],
        [struct.pack("<IB", 18 * 1024 * 1024 + 1, Kind.PUT) + b"x" * 100_000],
        [b"GET / HTTP/1.1\r\n\r\n"],
        # Kinds that nobody says, or not in this direction.
        [frame(Kind.STORED)],
        [struct.pack("<IB", 1, 200)],
        # A HELLO that is none.
        [hello(version=LINK_VERSION + 1)],
        [hello(version=LINK_VERSION - 2)],
        [hello(role="up")],
        [frame(Kind.HELLO)],
        [frame(Kind.HELLO, b"\xc1")],
        [frame(Kind.HELLO, b"\x91" * 100_000)],
        # Before HELLO.
        [put()],
        [frame(Kind.READY)],
        [frame(Kind.SETTLE, b"\x92\x00\x90")],
        [frame(Kind.CLOSED, b"\x91\x01")],
        [frame(Kind.RESOLVED, b"\x95\xa1a\xa0\xa0\x90\x01")],
        [frame(Kind.NOTE, b"\x91\x90")],
        # After a proper one.
        [hello(), frame(Kind.PUT)],
        [hello(), frame(Kind.PUT, b"\xff" * 100)],
        [hello(), put(n_head=0)],
        [hello(), put(n_head=0xFFFFFFFF)],
        [hello(), put(n_head=3)],
        [hello(), put(id_=b"abc")],
        [hello(), put(id_=bytes(17))],
        [hello("out"), frame(Kind.SETTLE, b"\xc1")],
        [hello("out"), frame(Kind.CLOSED, b"\x91\xa1x")],
        [hello("out"), frame(Kind.NOTE, b"\x91\x91\x01")],
    ],
    ids=range(30),
)
def test_link_garbage_is_hung_up_on_and_told_as_a_fault(linked: Server, frames: list[bytes]) -> None:
    before = linked.children()
    n_faults = len(linked.events("fault"))
    heard = knock(linked, *frames)
    assert heard == b"" or heard[4] == Kind.WELCOME
    fault = linked.wait_events(n_faults + 1, "fault")[-1]
    assert fault["where"] == "link"
    assert fault["detail"].isprintable()
    with Wire(linked.address).hello() as wire:
        assert wire.mail().code == 250
    assert linked.children() == before


@pytest.mark.parametrize("version", [LINK_VERSION, LINK_VERSION - 1])
def test_link_version_before_ours_is_spoken(linked: Server, version: int) -> None:
    with open_link(str(linked.data_dir)) as sock:
        sock.settimeout(5)
        sock.sendall(hello(version=version))
        assert sock.recv(65_536)[4] == Kind.WELCOME


def test_link_put_that_cannot_be_stored_is_refused_alone(linked: Server) -> None:
    before = linked.children()
    n_faults = len(linked.events("fault"))
    with open_link(str(linked.data_dir)) as sock, Wire(linked.address).hello() as wire:
        sock.settimeout(5)
        sock.sendall(hello())
        (_, welcome), (kind, storage) = FrameReader(4096).feed(sock.recv(4096))
        assert decoder(Welcome).decode(welcome).incarnation
        assert (kind, storage) == (Kind.STORAGE, b"\1")
        sock.sendall(put(address="x" * 5000 + "@sink.test"))
        assert wire.mail().code == 250
        ((kind, answer),) = FrameReader(4096).feed(sock.recv(4096))
        assert kind == Kind.REFUSED
        assert decoder(Refused).decode(answer).code == 451
    fault = linked.wait_events(n_faults + 1, "fault")[-1]
    assert fault["where"] == "queue"
    linked.wait_empty()
    assert linked.children() == before


def test_link_silent_and_half_said_connections_hold_nobody_up(linked: Server) -> None:
    before = linked.children()
    with contextlib.ExitStack() as stack:
        for octets in (b"", b"\x10", hello()[:10], hello(), put()[:-1]):
            stack.enter_context(open_link(str(linked.data_dir))).sendall(octets)
        with Wire(linked.address).hello() as wire:
            assert wire.mail().code == 250
        linked.wait_empty()
    assert linked.children() == before

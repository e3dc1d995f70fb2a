"""The queue process's end of one connection."""

import socket
from collections.abc import Iterator

import pytest

from mta.errors import LinkLost
from mta.link import Connection, Kind, frame

Pair = tuple[Connection, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Give a connection, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    connection = Connection(ours, memoryview(bytearray(262_144)))
    yield connection, theirs
    connection.close()
    theirs.close()


def test_connection_read_gives_whole_frames_and_nothing_when_there_is_none(pair: Pair) -> None:
    connection, theirs = pair
    assert connection.read() == []
    wire = frame(Kind.READY) + frame(Kind.STORED, b"x" * 16)
    theirs.sendall(wire[:7])
    assert connection.read() == [(Kind.READY, b"")]
    theirs.sendall(wire[7:])
    assert connection.read() == [(Kind.STORED, b"x" * 16)]
    theirs.close()
    with pytest.raises(LinkLost, match="closed"):
        connection.read()


def test_connection_flush_of_more_than_the_socket_takes_goes_on_where_it_stopped(pair: Pair) -> None:
    connection, theirs = pair
    assert connection.flush()
    wire = [frame(Kind.NOTE, bytes([n]) * 300_000) for n in range(4)]
    for whole in wire:
        connection.send(whole)
    got = b""
    is_all = connection.flush()
    assert not is_all
    while not is_all:
        got += theirs.recv(1 << 20)
        is_all = connection.flush()
    theirs.settimeout(5)
    while len(got) < len(b"".join(wire)):
        got += theirs.recv(1 << 20)
    assert got == b"".join(wire)
    theirs.close()
    connection.send(b"more")
    with pytest.raises(LinkLost):
        connection.flush()


@pytest.mark.parametrize("length", [b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_connection_broken_framing_is_an_error(pair: Pair, length: bytes) -> None:
    connection, theirs = pair
    theirs.sendall(length + b"\x01")
    with pytest.raises((LinkLost, ValueError)):
        connection.read()

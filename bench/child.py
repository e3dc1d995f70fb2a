"""A helper in a process of its own, which its parent asks and orders about, and which goes when its parent does.

The two talk over a Unix stream socket: u32 length, big endian, and a msgpack array [word, argument] or an answer. The
child gets its end as `--control FD`, and hands it to `obey`, or with a loop of its own, to `answer`. Used by
`bench.sink`, `bench.internet` and `bench.load`.
"""

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

__all__ = ["Child", "answer", "obey"]

ANSWER_S = 60.0
ROOT = Path(__file__).resolve().parent.parent
_length = struct.Struct(">I")
T = TypeVar("T")


class Child:
    """The parent's end. Every `ask` may raise OSError when the child is gone."""

    def __init__(self, module: str, argv: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", module, *argv, "--control", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
        ours.settimeout(ANSWER_S)
        self._socket = ours

    def close(self) -> None:
        """End the child: it goes by itself when its end of the socket closes."""
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, word: str, kind: type[T], argument: object = None) -> T:
        """Say a word and return the answer to it."""
        asked = msgspec.msgpack.encode((word, argument))
        self._socket.sendall(_length.pack(len(asked)) + asked)
        (n_octets,) = _length.unpack(_read(self._socket, 4))
        return msgspec.msgpack.decode(_read(self._socket, n_octets), type=kind)

    @property
    def pid(self) -> int:
        """The child."""
        return self._process.pid


def _read(sock: socket.socket, n_octets: int) -> bytes:
    got = bytearray()
    while len(got) < n_octets:
        piece = sock.recv(n_octets - len(got))
        if not piece:
            raise ConnectionError("the other process ended")
        got += piece
    return bytes(got)


def answer(control: socket.socket, do: Callable[[str, object], object]) -> bool:
    """Answer one word of the parent, of which the beginning is there; return False when it has hung up."""
    with contextlib.suppress(ConnectionError):
        (n_octets,) = _length.unpack(_read(control, 4))
        word, argument = msgspec.msgpack.decode(_read(control, n_octets))
        said = msgspec.msgpack.encode(do(word, argument))
        control.sendall(_length.pack(len(said)) + said)
        return True
    return False


async def obey(control: int, do: Callable[[str, object], Awaitable[object]]) -> None:
    """Answer the parent at that descriptor, with what `do` makes of each word and argument, until it hangs up."""
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=control))
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            (n_octets,) = _length.unpack(await reader.readexactly(4))
            word, argument = msgspec.msgpack.decode(await reader.readexactly(n_octets))
            answer = msgspec.msgpack.encode(await do(word, argument))
            writer.write(_length.pack(len(answer)) + answer)
            await writer.drain()

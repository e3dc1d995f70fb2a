"""A helper in a process of its own, which its parent asks and orders about, and which goes when its parent does.

The two talk over a Unix stream socket: u32 length, big endian, and a msgpack array [word, argument] or an answer. The
child gets its end as `--control FD`, and hands it to `obey`. Used by `bench.sink` and `bench.internet`.
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

__all__ = ["Child", "obey"]

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
        (n_octets,) = _length.unpack(self._read(4))
        return msgspec.msgpack.decode(self._read(n_octets), type=kind)

    def _read(self, n_octets: int) -> bytes:
        got = bytearray()
        while len(got) < n_octets:
            piece = self._socket.recv(n_octets - len(got))
            if not piece:
                raise ConnectionError("the child process ended")
            got += piece
        return bytes(got)


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

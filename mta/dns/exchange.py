"""One question to one name server: over UDP from a socket and a port of its own, over TCP where the answer is too long.

Rule: whatever else arrives on the socket is passed over until the time is up, so that nobody who guesses can end the
wait. Raises OSError when the server cannot be reached, TimeoutError when it does not answer. RFC 5452, RFC 7766.
"""

import asyncio
import struct
from typing import cast

from mta.dns.answer import Answer
from mta.dns.wire import TRUNCATED, Question, read_answer

__all__ = ["Server", "exchange"]

Server = tuple[str, int]
"""A name server: (address, port)."""

_length = struct.Struct(">H")


class Datagrams(asyncio.DatagramProtocol):
    """Sends a question and waits for its answer. The socket is connected: others' datagrams do not reach it."""

    def __init__(self, question: Question, answered: "asyncio.Future[Answer]") -> None:
        self._question = question
        self._answered = answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        # uvloop's transports are no subclasses of asyncio.DatagramTransport, so isinstance cannot tell.
        cast(asyncio.DatagramTransport, transport).sendto(self._question.wire)

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take the answer, if it is one."""
        answer = read_answer(self._question, data)
        if answer is not None and not self._answered.done():
            self._answered.set_result(answer)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there, or there is no way."""
        if not self._answered.done():
            self._answered.set_exception(exc)


async def exchange(question: Question, server: Server, timeout_s: float) -> Answer:
    """Return what `server` answers within `timeout_s` seconds, over TCP from the start again if that is too long."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        answered: asyncio.Future[Answer] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(question, answered), remote_addr=server)
        try:
            answer = await answered
        finally:
            transport.close()
    if answer is not TRUNCATED:
        return answer
    async with asyncio.timeout(timeout_s):
        return await _over_tcp(question, server)


async def _over_tcp(question: Question, server: Server) -> Answer:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(_length.pack(len(question.wire)) + question.wire)
        while True:
            n_octets = _length.unpack(await reader.readexactly(_length.size))[0]
            answer = read_answer(question, await reader.readexactly(n_octets))
            if answer is not None and answer is not TRUNCATED:
                return answer
    except asyncio.IncompleteReadError as problem:
        raise ConnectionError("the name server hung up") from problem
    finally:
        writer.transport.abort()

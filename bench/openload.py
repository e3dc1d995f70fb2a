"""An open load of SMTP clients: new connections at a rate that does not wait for anybody, and each one's fate is told.

Rule: a connection is counted when it is begun, and ends in exactly one fate: "ok", or what kept it from that. Nothing
is tried again but by `kept` clients, which connect again after a 421, as a relay does.

Used by `bench.reload` and by the tests; needs a loop of uvloop to reach a few thousand connections a second.
"""

import asyncio
from collections import Counter
from typing import cast

__all__ = ["OpenLoad"]

PATIENCE_S = 30.0
PACE_S = 0.02
BODY = b"From: load@source.test\r\nSubject: %d\r\n\r\n" + b"0123456789" * 7 + b"\r\n.\r\n"


class OpenLoad:
    """Counts what its clients came to."""

    def __init__(self, address: tuple[str, int], rate: float, *, domain: str = "sink.test") -> None:
        """`rate` is new connections a second."""
        self.address = address
        self.fates: Counter[str] = Counter()
        """By fate, of the connections that bring one message each: ok; refused, reset, lost (the connection ended
        without a word), silent (for 30 s); or a reply that was none of ours to expect, such as "421 4.3.2"."""
        self.kept_fates: Counter[str] = Counter()
        """The same of `kept` clients; a connection of theirs that ends with a 421 counts as "421 4.3.2"."""
        self.acknowledged: set[str] = set()
        """The recipients of messages that got their 250."""
        self.n_begun = 0
        self.longest_s = 0.0
        """From the beginning of a connection to its 250, of one-message clients."""
        self._rate = rate
        self._domain = domain
        self._n_recipients = 0
        self._open: set[asyncio.Task[None]] = set()
        self._is_over = False

    def recipient(self) -> str:
        """Return one that was never used."""
        self._n_recipients += 1
        return f"m{self._n_recipients:06d}@{self._domain}"

    async def run(self, until: asyncio.Event, n_kept: int = 0) -> None:
        """Begin connections until the event is set, then wait until each has ended."""
        loop = asyncio.get_running_loop()
        kept = [loop.create_task(self._keep()) for _ in range(n_kept)]
        began_at = loop.time()
        while not until.is_set():
            due = int((loop.time() - began_at) * self._rate)
            for _ in range(due - self.n_begun):
                task = loop.create_task(self._once(self.n_begun))
                self.n_begun += 1
                self._open.add(task)
                task.add_done_callback(self._open.discard)
            await asyncio.sleep(1 / self._rate)
        self._is_over = True
        await asyncio.gather(*self._open, *kept)

    async def _once(self, number: int) -> None:
        began_at = asyncio.get_running_loop().time()
        dialogue = Dialogue(self, is_pipelined=number % 2 == 0)
        fate = await dialogue.run(1)
        self.fates[fate] += 1
        if dialogue.stored_at:
            self.longest_s = max(self.longest_s, dialogue.stored_at - began_at)

    async def _keep(self) -> None:
        while not self._is_over:
            self.kept_fates[await Dialogue(self, is_pipelined=True).run(0)] += 1

    @property
    def is_over(self) -> bool:
        """Kept clients shall come to an end."""
        return self._is_over


class Dialogue(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, load: OpenLoad, *, is_pipelined: bool) -> None:
        self._load = load
        self._is_pipelined = is_pipelined
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[str] = self._loop.create_future()
        self._buffer = b""
        self._expected: list[bytes] = [b"220"]
        self._stage = "greeting"
        self._recipient = ""
        self._n_left = 0
        self.stored_at = 0.0
        """When the last 250 for a message came, 0 for never."""

    async def run(self, n_messages: int) -> str:
        """Connect, send so many messages (0: until the load is over), QUIT; return the fate."""
        self._n_left = n_messages
        transport = None
        try:
            async with asyncio.timeout(PATIENCE_S if n_messages else None):
                transport, _ = await self._loop.create_connection(lambda: self, *self._load.address)
                return await self._end
        except TimeoutError:
            return "silent"
        except ConnectionRefusedError:
            return "refused"
        except OSError:
            return "reset"
        finally:
            if transport is not None:
                transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the greeting."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hold each reply against what is expected."""
        *lines, self._buffer = (self._buffer + data).split(b"\r\n")
        for line in lines:
            if line[3:4] == b"-" or self._end.done():
                continue
            if not self._expected or not line.startswith(self._expected.pop(0)):
                self._finish(line[:9].decode("latin-1"))
            elif not self._expected:
                self._go_on()

    def _go_on(self) -> None:
        match self._stage:
            case "greeting":
                self._say("hello", b"EHLO client.test\r\n", b"250")
            case "hello":
                self._next()
            case "mail":
                self._say("rcpt", b"RCPT TO:<%s>\r\n" % self._recipient.encode(), b"250")
            case "rcpt":
                self._say("data", b"DATA\r\n", b"354")
            case "data":
                self._say("body", BODY % self._n_left, b"250")
            case "body":
                self._load.acknowledged.add(self._recipient)
                self.stored_at = self._loop.time()
                self._n_left -= 1
                if self._n_left:
                    self._stage = "rest"
                    self._loop.call_later(PACE_S, self._next)
                else:
                    self._say("quit", b"QUIT\r\n", b"221")
            case "quit":
                self._finish("ok")

    def _next(self) -> None:
        if self._end.done():
            return
        if self._load.is_over and self._n_left < 0:
            self._say("quit", b"QUIT\r\n", b"221")
            return
        self._recipient = self._load.recipient()
        to = self._recipient.encode()
        if self._is_pipelined:
            self._say("data", b"MAIL FROM:<a@b.test>\r\nRCPT TO:<%s>\r\nDATA\r\n" % to, b"250", b"250", b"354")
        else:
            self._say("mail", b"MAIL FROM:<a@b.test>\r\n", b"250")

    def _say(self, stage: str, octets: bytes, *expected: bytes) -> None:
        self._stage = stage
        self._expected = list(expected)
        self._transport.write(octets)

    def _finish(self, fate: str) -> None:
        if not self._end.done():
            self._end.set_result(fate)

    def eof_received(self) -> None:
        """The server has no more to say."""
        self._finish("lost")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._finish("reset" if exc is not None else "lost")

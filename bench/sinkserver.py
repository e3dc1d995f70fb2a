"""The inside of the sink: an SMTP server that keeps every octet it is sent, and misbehaves on order.

Rule 1: only CRLF ends a line and only CRLF "." CRLF ends a message, told by reading line after line, the plainest way
there is: this is the judge of what the server under test sends, so it shares no code with it. RFC 5321 s4.5.2.
Rule 2: what was answered 250 is kept, what was not is forgotten.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from bench.owner import owner_of

__all__ = ["EXTENSIONS", "Message", "Rule", "SinkServer", "Stage"]

Stage = Literal["connect", "ehlo", "mail", "rcpt", "data", "message"]
EXTENSIONS = ("PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
# Far more than any message here: one line may be as long as a message.
LINE_OCTETS = 1 << 28
# How long the other side may take to hang up after 421.
LINGER_S = 5.0
PARAMETER_NEEDS = {"SIZE": "SIZE", "BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8"}


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What to do at one stage of a session. The first rule that fits is used."""

    stage: Stage
    match: str = ""
    """An address, or "@domain"; "" fits all. It is held against the sender at mail, the recipient at rcpt, and every
    recipient of the transaction at data and message."""
    reply: str = ""
    """What to answer, such as "451 4.2.0 Later"; "" is the usual answer. 421 ends the connection. RFC 5321 s3.8."""
    delay_s: float = 0.0
    """Wait this long first; a change of the rules ends the wait."""
    drop: bool = False
    """Close the connection instead of answering."""
    kills: tuple[int, ...] = ()
    """At message: the one of these pids that the connection comes from is stopped before the answer, and killed behind
    it: it has its 250, and will never know."""
    times: int = 0
    """Use the rule this many times, then never again; 0 is always."""


class Message(msgspec.Struct, frozen=True):
    """One message that was answered 250."""

    session: int
    """Which connection it came over, counted from 1."""
    helo: str
    sender: str
    params: str
    """What followed the address of MAIL."""
    recipients: list[str]
    content: bytes
    """As sent, dots undone, the CRLF before the final dot included."""


class Dropped(Exception):
    """A rule wants this connection closed."""


class Over(Exception):
    """The other side was told that this connection ends."""


class Session:
    """The dialogue over one connection. `sender` is who the transaction is from; `n_kept` messages had their 250."""

    def __init__(
        self, server: "SinkServer", number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.sender: str | None = None
        self.n_kept = 0
        self._server = server
        self._reader = reader
        self._writer = writer
        self._helo = ""
        self._forget()

    @property
    def host(self) -> str:
        """The address that it came to."""
        return str(self._writer.get_extra_info("sockname")[0])

    async def wait_gone(self) -> None:
        """Wait until the other side hangs up; what it says meanwhile is lost."""
        while await self._reader.read(65_536):
            pass

    def _forget(self) -> None:
        self.sender = None
        self._params = ""
        self._recipients: list[str] = []

    async def run(self) -> None:
        """Talk until one side ends it."""
        try:
            await self._talk()
        except Over:
            # Closed with octets unread, a connection is reset, and the last reply may be lost on its way.
            self._writer.write_eof()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait_gone(), LINGER_S)

    async def _talk(self) -> None:
        if not await self._answer("connect", [], "220 sink.example.test ESMTP"):
            return
        while True:
            await self._writer.drain()
            line = await self._reader.readuntil(b"\r\n")
            verb, _, rest = line[:-2].decode("utf-8", "backslashreplace").partition(" ")
            if b"\n" in line[:-2] or b"\r" in line[:-2]:
                self._say("500 5.5.2 A bare CR or LF in a command")
                continue
            match verb.upper():
                case "EHLO":
                    self._forget()
                    self._helo = rest
                    await self._answer("ehlo", [], "\n".join(["250 sink.example.test", *self._server.extensions]))
                case "HELO":
                    self._forget()
                    self._helo = rest
                    self._say("250 sink.example.test")
                case "MAIL":
                    await self._mail(rest)
                case "RCPT":
                    await self._rcpt(rest)
                case "DATA":
                    await self._data()
                case "RSET":
                    self._forget()
                    self._say("250 2.0.0 Ok")
                case "NOOP":
                    self._say("250 2.0.0 Ok")
                case "QUIT":
                    self._say("221 2.0.0 Bye")
                    return
                case _:
                    self._say("500 5.5.1 What?")

    def _say(self, reply: str) -> None:
        code, *lines = reply[:3], *reply[4:].split("\n")
        rows = [f"{code}-{line}\r\n" for line in lines[:-1]] + [f"{code} {lines[-1]}\r\n"]
        # Octets that are no UTF-8 stand in a reply as surrogates.
        self._writer.write("".join(rows).encode(errors="surrogateescape"))

    async def _answer(self, stage: Stage, addresses: Sequence[str], usual: str) -> bool:
        """Answer as the rules say; True when the answer is the usual one or another 2xx or 3xx. Raises Over."""
        reply = await self._server.decide(stage, self, addresses) or usual
        self._say(reply)
        if reply.startswith("421"):
            raise Over
        return reply[0] in "23"

    async def _mail(self, rest: str) -> None:
        address, params = _path(rest, "FROM:")
        if address is None or self.sender is not None:
            self._say("501 5.5.4 MAIL FROM:<address>, once")
            return
        offered = {name.split()[0] for name in self._server.extensions}
        for name in params.upper().split():
            if PARAMETER_NEEDS.get(name.partition("=")[0]) not in offered:
                self._say(f"555 5.5.4 {name} was not offered")
                return
        if await self._answer("mail", [address], "250 2.1.0 Ok"):
            self.sender, self._params = address, params

    async def _rcpt(self, rest: str) -> None:
        address, _ = _path(rest, "TO:")
        if address is None or self.sender is None:
            self._say("503 5.5.1 RCPT TO:<address> after MAIL")
        elif 0 < self._server.most_recipients <= len(self._recipients):
            self._say("452 4.5.3 Too many recipients")
        elif await self._answer("rcpt", [address], "250 2.1.5 Ok"):
            self._recipients.append(address)

    async def _data(self) -> None:
        if self.sender is None or not self._recipients:
            self._say("554 5.5.1 No valid recipients")
            return
        if not await self._answer("data", self._recipients, "354 Go on"):
            return
        await self._writer.drain()
        lines: list[bytes] = []
        while (line := await self._reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        victim = self._victim()
        if victim:
            os.kill(victim, signal.SIGSTOP)
        if await self._answer("message", self._recipients, "250 2.0.0 Ok: sunk"):
            sunk = Message(self.number, self._helo, self.sender, self._params, self._recipients, b"".join(lines))
            self._server.keep(sunk)
            self.n_kept += 1
        if victim:
            await self._writer.drain()
            os.kill(victim, signal.SIGKILL)
        self._forget()

    def _victim(self) -> int:
        """Return the pid that a rule wants dead now, 0 for none."""
        pids = self._server.condemned(self._recipients)
        return owner_of(self._writer.get_extra_info("peername")[1], pids) if pids else 0


def _path(rest: str, word: str) -> tuple[str | None, str]:
    head, shut, params = rest.partition(">")
    if not shut or not head.upper().startswith(word) or not head[len(word) :].startswith("<"):
        return None, ""
    return head[len(word) + 1 :], params.strip()


class SinkServer:
    """Listens, keeps what comes, and holds the rules. Lives in one asyncio loop."""

    def __init__(self, host: str, port: int, extensions: Sequence[str], directory: Path | None) -> None:
        self.extensions = tuple(extensions)
        self.messages: list[Message] = []
        self.n_messages = 0
        self.n_sessions = 0
        self.n_refused = 0
        self.most_open = 0
        self.limit = 0
        self.most_recipients = 0
        self._where = (host, port)
        self._directory = directory
        self._rules: list[Rule] = []
        self._used: list[int] = []
        self._changed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def n_open(self) -> int:
        """Connections open now; `most_open` is the most there ever were, but for the `n_refused` past the `limit`."""
        return len(self._writers)

    async def up(self) -> int:
        """Listen (again, on the same port); return the port."""
        if self._server is None:
            family = socket.AF_INET6 if ":" in self._where[0] else socket.AF_INET
            sock = socket.create_server(self._where, family=family, backlog=1024)
            self._where = (self._where[0], sock.getsockname()[1])
            self._server = await asyncio.start_server(self.serve, sock=sock, limit=LINE_OCTETS)
        return self._where[1]

    async def down(self) -> None:
        """Close the listening socket and cut every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Replace all rules; whoever waits because of an old one goes on."""
        self._rules = list(rules)
        self._used = [0] * len(rules)
        self._changed.set()
        self._changed = asyncio.Event()

    def condemned(self, addresses: Sequence[str]) -> tuple[int, ...]:
        """Return the pids of which one shall be killed behind this message's answer."""
        for number, rule in enumerate(self._rules):
            is_spent = rule.times and self._used[number] >= rule.times
            if rule.stage == "message" and rule.kills and not is_spent and _fits(rule.match, addresses):
                self._used[number] += 1
                return rule.kills
        return ()

    async def decide(self, stage: Stage, session: Session, addresses: Sequence[str]) -> str:
        """Return the reply that the rules want here, "" for the usual one. Raises Dropped."""
        for number, rule in enumerate(self._rules):
            is_spent = rule.times and self._used[number] >= rule.times
            if rule.stage != stage or rule.kills or is_spent or not _fits(rule.match, addresses):
                continue
            self._used[number] += 1
            if rule.delay_s:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), rule.delay_s)
            if rule.drop:
                raise Dropped
            return rule.reply
        return ""

    def keep(self, message: Message) -> None:
        """Store a message: in the directory if there is one, otherwise in memory."""
        self.n_messages += 1
        if self._directory is None:
            self.messages.append(message)
            return
        stem = self._directory / f"{self.n_messages:07d}"
        stem.with_suffix(".eml").write_bytes(message.content)
        envelope = {key: value for key, value in msgspec.structs.asdict(message).items() if key != "content"}
        stem.with_suffix(".json").write_bytes(msgspec.json.encode(envelope))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Have the dialogue over a new connection."""
        if self.limit and self.n_open >= self.limit:
            self.n_refused += 1
            writer.write(b"421 4.7.0 Too many connections from you\r\n")
            writer.close()
            return
        self.n_sessions += 1
        self._writers.add(writer)
        self.most_open = max(self.most_open, self.n_open)
        try:
            await Session(self, self.n_sessions, reader, writer).run()
            await writer.drain()
        except (OSError, EOFError, Dropped):
            # The other side left, or shall think that we did.
            writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.close()


def _fits(match: str, addresses: Sequence[str]) -> bool:
    if not match:
        return True
    wanted = match.lower()
    found = [address.lower() for address in addresses]
    return any(address.endswith(wanted) if wanted.startswith("@") else address == wanted for address in found)

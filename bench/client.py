"""A small asyncio SMTP client for the tools and tests: sends octets exactly as given, tells every reply.

Rule: it doubles dots and adds the final dot line, and changes nothing else; what it is given must end in CRLF.
Used by `bench.roundtrip` and by the process-level tests.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Answer", "Client", "stuff"]

TIMEOUT_S = 60.0
_QUEUED_AS = re.compile(r"queued as ([0-9a-f]{32})")
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?= |$)")


class Answer(NamedTuple):
    """One reply: its code, and the text of its lines without codes, joined by LF."""

    code: int
    text: str

    @property
    def enhanced(self) -> str:
        """The enhanced status code, "" for none. RFC 2034."""
        match = _ENHANCED.match(self.text)
        return match.group() if match else ""

    @property
    def queued_id(self) -> str:
        """The id in `queued as <id>`, "" for none."""
        match = _QUEUED_AS.search(self.text)
        return match.group(1) if match else ""


def stuff(content: bytes) -> bytes:
    """Return `content`, which ends in CRLF or is empty, as it is sent after 354. RFC 5321 s4.5.2."""
    # Only CRLF ends a line: a dot behind a bare LF stays single, as in every strict peer.
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


class Client:
    """One connection to a server. Raises OSError or EOFError when it breaks, TimeoutError after a minute of silence."""

    def __init__(self, host: str, port: int, helo: str = "client.example.test") -> None:
        self._address = (host, port)
        self._helo = helo
        self.extensions: frozenset[str] = frozenset()

    async def connect(self) -> None:
        """Connect, read the greeting, say EHLO. Raises ConnectionError when either is refused."""
        async with asyncio.timeout(TIMEOUT_S):
            self._reader, self._writer = await asyncio.open_connection(*self._address)
            try:
                greeting = await self.read_answer()
                answer = await self.command(f"EHLO {self._helo}") if greeting.code == 220 else greeting
                if answer.code != 250:
                    raise ConnectionError(f"refused: {answer.code} {answer.text}")
            except BaseException:
                self._writer.transport.abort()
                raise
        self.extensions = frozenset(line.split()[0].upper() for line in answer.text.split("\n")[1:] if line)

    async def read_answer(self) -> Answer:
        """Wait for one reply."""
        lines: list[str] = []
        while True:
            line = (await self._reader.readuntil(b"\n")).rstrip(b"\r\n").decode("utf-8", "backslashreplace")
            lines.append(line[4:])
            if line[3:4] != "-":
                return Answer(int(line[:3]), "\n".join(lines))

    async def write(self, data: bytes) -> None:
        """Send octets as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def command(self, line: str) -> Answer:
        """Send one command line (no CRLF), wait for its reply."""
        async with asyncio.timeout(TIMEOUT_S):
            await self.write(f"{line}\r\n".encode())
            return await self.read_answer()

    async def send(
        self, sender: str, recipients: Sequence[str], content: bytes, *, params: str = "", pipelined: bool = True
    ) -> Answer:
        """Send one message; return the reply that decided: the first refusal of a command, or what DATA came to.

        `params` follow the address of MAIL. With `pipelined`, MAIL, RCPT and DATA go out in one write (RFC 2920).
        A refused recipient refuses the message here, even when others were taken; the session can go on afterwards.
        """
        lines = [f"MAIL FROM:<{sender}>{params and ' ' + params}", *(f"RCPT TO:<{to}>" for to in recipients), "DATA"]
        async with asyncio.timeout(TIMEOUT_S):
            answers = await self._group(lines) if pipelined else await self._one_by_one(lines)
            refusal = next((answer for answer in answers if answer.code >= 400), None)
            if answers[-1].code == 354 and len(answers) == len(lines):
                # Having been told to go on, only a dot line gets us out; of a refused message nothing shall be kept,
                # and with one recipient there is nobody left to keep it for.
                await self.write(b".\r\n" if refusal else stuff(content))
                done = await self.read_answer()
                return refusal or done
            if refusal is None:
                raise ConnectionError(f"out of step: {answers[-1].code} {answers[-1].text}")
            await self.command("RSET")
            return refusal

    async def _group(self, lines: list[str]) -> list[Answer]:
        await self.write("".join(f"{line}\r\n" for line in lines).encode())
        return [await self.read_answer() for _ in lines]

    async def _one_by_one(self, lines: list[str]) -> list[Answer]:
        answers: list[Answer] = []
        for line in lines:
            answers.append(await self.command(line))
            if answers[-1].code >= 400:
                break
        return answers

    async def close(self, *, quits: bool = True) -> None:
        """End the connection, with QUIT or without a word."""
        try:
            if quits:
                await self.command("QUIT")
        except (OSError, EOFError):
            pass
        finally:
            self._writer.transport.abort()

"""A blocking client of raw octets: sends what no honest client would, and reads replies line by line."""

import contextlib
import socket
from typing import Self

from bench.client import Answer

__all__ = ["Wire"]

TIMEOUT_S = 15.0


class Wire:
    """One connection. Raises OSError when it breaks, EOFError when it ends, TimeoutError after 15 s of silence."""

    def __init__(self, address: tuple[str, int], timeout_s: float = TIMEOUT_S, source: str = "127.0.0.1") -> None:
        """Connect from `source` and read the greeting."""
        self.sock = socket.create_connection(address, timeout_s, (source, 0))
        self._lines = self.sock.makefile("rb")
        self.greeting = self.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self.sock.close()

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self.sock.sendall(octets)

    def read(self) -> Answer:
        """Wait for one reply; each line of it must be a well-formed reply line. RFC 5321 s4.2."""
        lines: list[str] = []
        while True:
            line = self._lines.readline()
            if not line:
                raise EOFError("the server has closed the connection")
            text = line.decode("ascii")
            assert text.endswith("\r\n"), text
            assert text[:-2].isprintable(), text
            assert len(text) <= 512, text
            lines.append(text[4:-2])
            if text[3] == " ":
                return Answer(int(text[:3]), "\n".join(lines))
            assert text[3] == "-", text

    def say(self, line: str) -> Answer:
        """Send one command line (no CRLF), wait for its reply."""
        self.send(f"{line}\r\n".encode())
        return self.read()

    def hello(self) -> Self:
        """Say EHLO."""
        assert self.say("EHLO client.example.test").code == 250
        return self

    def begin(self, recipient: str = "b@sink.test", sender: str = "a@source.test") -> Self:
        """Open a transaction up to the 354."""
        for line, code in ((f"MAIL FROM:<{sender}>", 250), (f"RCPT TO:<{recipient}>", 250), ("DATA", 354)):
            answer = self.say(line)
            assert answer.code == code, answer
        return self

    def mail(self, content: bytes = b"Subject: x\r\n\r\nx\r\n", recipient: str = "b@sink.test") -> Answer:
        """Send one message, dots as they are; return the last reply."""
        self.begin(recipient).send(content + b".\r\n")
        return self.read()

    def is_over(self) -> bool:
        """Read up to the end of the connection; False if there is none within the time-out."""
        with contextlib.suppress(ConnectionError):
            try:
                while self._lines.readline():
                    pass
            except TimeoutError:
                return False
        return True

"""A peer that does what its script says, at any stage: a real TCP server for the client's side of SMTP.

    script = [*HELLO, C("MAIL"), "250 ok", C("RCPT"), "452 4.5.3 enough", RESET]
    with Peer(script) as peer:
        ...                                     # send something to peer.host
    assert peer.mails == []

A script is a list of steps for one connection, in order:

    "250 ok"            say this and CRLF; "\\n" stands between the lines of a longer reply
    b"250 o"            say just these octets
    C("MAIL")           read a command line, which must begin so
    BODY                read a message to its final dot, and keep it
    Read(1000)          read so many octets, whatever they are
    Pause(0.5)          do nothing meanwhile, seconds
    threading.Event()   do nothing until the test sets it
    Drip(b"...", 0.01)  say octet by octet, with a pause after each
    SILENCE             read on and say nothing, until the other side is gone
    DEAF                do not read any more, until the other side is gone or the peer is stopped
    CLOSE, RESET        end the connection: FIN, RST

After its last step a connection answers QUIT, and waits until the other side is gone. Each connection plays the next
script, those after the last one the last again. What does not go by the script is raised when the peer is left.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Self

import msgspec

__all__ = ["BODY", "CLOSE", "DEAF", "HELLO", "MAIL", "RESET", "SILENCE", "C", "Drip", "Pause", "Peer", "Read", "Step"]

PATIENCE_S = 30.0
# Small, so that little of a long message fits into the kernel's buffers.
BUFFER_OCTETS = 65_536


class C(msgspec.Struct, frozen=True):
    """A command line of the client."""

    verb: str


class Read(msgspec.Struct, frozen=True):
    """Octets of the client."""

    n_octets: int


class Pause(msgspec.Struct, frozen=True):
    """Time that passes, seconds."""

    seconds: float


class Drip(msgspec.Struct, frozen=True):
    """Octets said one by one."""

    octets: bytes
    every_s: float


class Act(msgspec.Struct, frozen=True):
    """What needs no more than its name."""

    name: str


BODY = Act("body")
SILENCE = Act("silence")
DEAF = Act("deaf")
CLOSE = Act("close")
RESET = Act("reset")

Step = str | bytes | C | Read | Pause | threading.Event | Drip | Act

HELLO: list[Step] = ["220 peer.test", C("EHLO"), "250-peer.test\n250-PIPELINING\n250-8BITMIME\n250 SMTPUTF8"]
MAIL: list[Step] = [C("MAIL"), "250 ok", C("RCPT"), "250 ok", C("DATA"), "354 go", BODY, "250 2.0.0 taken"]


class _Gone(Exception):
    """The other side has closed the connection."""


class Peer:
    """Listens until it is left; a context manager."""

    def __init__(self, *scripts: Sequence[Step], address: str = "127.0.0.1") -> None:
        self._scripts = scripts
        self._socket = socket.create_server((address, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_OCTETS)
        self.host: tuple[str, int] = self._socket.getsockname()[:2]
        self.via = f"[{self.host[0]}]:{self.host[1]}"
        """The same as a next hop."""
        self.lines: list[bytes] = []
        """All command lines, without CRLF."""
        self.mails: list[bytes] = []
        """Messages as they were sent, their final dot with them."""
        self.n_connections = 0
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, name="peer")]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is None and self.errors:
            raise AssertionError("\n".join(self.errors))

    def stop(self) -> None:
        """Close everything."""
        self._stop.set()
        # A listening socket that is only closed would leave accept() waiting.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def wait_connections(self, n_connections: int) -> None:
        """Wait until there were so many. Raises TimeoutError."""
        until = time.monotonic() + PATIENCE_S
        while self.n_connections < n_connections:
            if time.monotonic() > until:
                raise TimeoutError(f"{self.n_connections} connections instead of {n_connections}")
            time.sleep(0.01)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            script = self._scripts[min(self.n_connections, len(self._scripts) - 1)]
            self.n_connections += 1
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection, script), name="peer connection")
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, script: Sequence[Step]) -> None:
        connection.settimeout(PATIENCE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        talk = _Talk(self, connection)
        try:
            for step in script:
                if not talk.play(step, self._stop):
                    return
            talk.see_off()
        except (_Gone, ConnectionError):
            pass
        except (OSError, AssertionError) as error:
            if not self._stop.is_set():
                self.errors.append(f"{error} at {step!r}")
        finally:
            connection.close()
            self._open.discard(connection)


class _Talk:
    """One connection."""

    def __init__(self, peer: Peer, connection: socket.socket) -> None:
        self._peer = peer
        self._connection = connection
        self._held = bytearray()

    def play(self, step: Step, stop: threading.Event) -> bool:
        """Do one step; return whether the connection goes on."""
        send = self._connection.sendall
        match step:
            case str():
                send(step.replace("\n", "\r\n").encode("utf-8", "surrogateescape") + b"\r\n")
            case bytes():
                send(step)
            case C(verb):
                line = self._until(b"\n").rstrip(b"\r\n")
                self._peer.lines.append(line)
                assert line.upper().startswith(verb.encode()), f"{line!r} instead of {verb}"
            case Read(n_octets):
                while len(self._held) < n_octets:
                    self._more()
                del self._held[:n_octets]
            case Pause(seconds):
                return not stop.wait(seconds)
            case threading.Event():
                assert step.wait(PATIENCE_S), "nobody has set the event"
            case Drip(octets, every_s):
                for octet in octets:
                    send(bytes([octet]))
                    if stop.wait(every_s):
                        return False
            case Act("body"):
                # An empty message is its dot line alone.
                self._peer.mails.append(self._until(b".\r\n" if self._begins(b".\r\n") else b"\r\n.\r\n"))
            case Act("silence"):
                while True:
                    self._held.clear()
                    self._more()
            case Act("deaf"):
                stop.wait(PATIENCE_S)
                return False
            case Act("reset"):
                self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            case _:
                self._connection.shutdown(socket.SHUT_WR)
                # What was not read yet would turn the FIN into a RST.
                while True:
                    self._held.clear()
                    self._more()
        return True

    def see_off(self) -> None:
        """Answer QUIT; anything else was not in the script."""
        line = self._until(b"\n").rstrip(b"\r\n")
        self._peer.lines.append(line)
        assert line == b"QUIT", f"{line!r} behind the script"
        self._connection.sendall(b"221 bye\r\n")
        self._until(b"\n")

    def _begins(self, octets: bytes) -> bool:
        while len(self._held) < len(octets):
            self._more()
        return self._held.startswith(octets)

    def _until(self, end: bytes) -> bytes:
        looked_at = 0
        while (at := self._held.find(end, looked_at)) < 0:
            looked_at = max(0, len(self._held) - len(end))
            self._more()
        found = bytes(self._held[: at + len(end)])
        del self._held[: at + len(end)]
        return found

    def _more(self) -> None:
        data = self._connection.recv(65_536)
        if not data:
            raise _Gone
        self._held += data

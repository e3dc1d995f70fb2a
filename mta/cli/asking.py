"""The queue process in a command's hands: what it alone knows, and orders.

Rule: reading works with the server stopped; changing needs the server, and whoever asks is told so in a sentence.
"""

import socket
import time

from mta._fast import FrameReader
from mta.config import Config
from mta.errors import StartError
from mta.link import Kind, Leases, Order, Ordered, decoder, frame
from mta.linkpath import open_link

__all__ = ["Link", "active"]

ANSWER_S = 30.0
TRIES = 5
REST_S = 0.5
ANSWER_OCTETS = 16_777_216


def active(settings: Config) -> frozenset[bytes]:
    """Ask the queue process which parts are leased; none are without a server."""
    try:
        return frozenset(decoder(Leases).decode(Link(settings).ask(frame(Kind.ASK))).parts)
    except NoServer:
        return frozenset()


class NoServer(StartError):
    """Nobody is there to be asked."""


class Link:
    """A way to the queue process that outlasts one: whatever is asked may be asked again."""

    def __init__(self, settings: Config) -> None:
        self._data_dir = settings.data_dir
        self._sock: socket.socket | None = None
        self._frames = FrameReader(ANSWER_OCTETS)

    def ask(self, question: bytes) -> bytes:
        """Send a frame, return the payload of its answer.

        Raises NoServer when no server is running on the data_dir, StartError when it does not answer.
        """
        for attempt in range(TRIES):
            try:
                return self._ask(question)
            except TimeoutError:
                raise StartError(f"the queue process of {self._data_dir} does not answer") from None
            except (FileNotFoundError, ConnectionRefusedError):
                raise NoServer(f"no server is running on {self._data_dir}") from None
            except OSError as error:
                self.close()
                if attempt + 1 == TRIES:
                    what = error.strerror or str(error)
                    raise StartError(f"the queue process of {self._data_dir} cannot be asked: {what}") from error
                # It died, and another one is on its way: the master holds the socket that we connect to.
                time.sleep(REST_S)
        raise NoServer(f"no server is running on {self._data_dir}")

    def _ask(self, question: bytes) -> bytes:
        if self._sock is None:
            self._sock = open_link(self._data_dir)
            self._sock.settimeout(ANSWER_S)
            self._frames = FrameReader(ANSWER_OCTETS)
        self._sock.sendall(question)
        while data := self._sock.recv(65_536):
            for _, payload in self._frames.feed(data):
                return payload
        raise ConnectionResetError("it hung up")

    def order(self, order: Order) -> Ordered:
        """Give an order; return what came of it once that is on the disk. Given twice it is carried out once."""
        return decoder(Ordered).decode(self.ask(frame(Kind.ORDER, order)))

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

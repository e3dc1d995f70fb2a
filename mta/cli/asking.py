"""The queue process in a command's hands: what it alone knows, and orders.

Rule: reading works with the server stopped; changing needs the server, and whoever asks is told so in a sentence.
"""

import contextlib
import socket
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice

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
# So many orders are given ahead of their answers: while one commit is made, the next shall not wait for us.
AHEAD = 64


def active(settings: Config) -> frozenset[bytes]:
    """Ask the queue process which parts are leased; none are without a server."""
    try:
        with contextlib.closing(Link(settings)) as link:
            return frozenset(decoder(Leases).decode(link.ask(frame(Kind.ASK))).parts)
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
        self._n_sent = 0

    def ask(self, question: bytes) -> bytes:
        """Send a frame, return the payload of its answer. Raises as `exchange` does."""
        (answer,) = self.exchange(iter((question,)))
        return answer

    def exchange(self, questions: Iterator[bytes]) -> Iterator[bytes]:
        """Send frames, yield the payloads of their answers, in the same order.

        Raises NoServer when no server is running on the data_dir, StartError when it does not answer.
        """
        unanswered: deque[bytes] = deque()
        n_failed = 0
        while True:
            unanswered.extend(islice(questions, AHEAD - len(unanswered)))
            if not unanswered:
                return
            try:
                answers = self._exchange(unanswered)
            except TimeoutError:
                raise StartError(f"the queue process of {self._data_dir} does not answer") from None
            except (FileNotFoundError, ConnectionRefusedError):
                raise NoServer(f"no server is running on {self._data_dir}") from None
            except OSError as error:
                self.close()
                n_failed += 1
                if n_failed == TRIES:
                    what = error.strerror or str(error)
                    raise StartError(f"the queue process of {self._data_dir} cannot be asked: {what}") from error
                # It died, and another one is on its way: the master holds the socket that we connect to.
                time.sleep(REST_S)
                continue
            n_failed = 0
            for answer in answers:
                unanswered.popleft()
                yield answer

    def _exchange(self, unanswered: deque[bytes]) -> list[bytes]:
        """Send what this connection has not sent of these yet, and return the answers that come next."""
        if self._sock is None:
            self._sock = open_link(self._data_dir)
            self._sock.settimeout(ANSWER_S)
            self._frames = FrameReader(ANSWER_OCTETS)
            self._n_sent = 0
        self._sock.sendall(b"".join(islice(unanswered, self._n_sent, None)))
        self._n_sent = len(unanswered)
        while data := self._sock.recv(65_536):
            answers = [payload for _, payload in self._frames.feed(data)]
            if answers:
                self._n_sent -= len(answers)
                return answers
        raise ConnectionResetError("it hung up")

    def orders(self, orders: Iterator[Order]) -> Iterator[tuple[Order, Ordered]]:
        """Give orders; yield each with what came of it once that is on the disk. Given twice it is carried out once."""
        given: deque[Order] = deque()

        def frames() -> Iterator[bytes]:
            for order in orders:
                given.append(order)
                yield frame(Kind.ORDER, order)

        decode = decoder(Ordered).decode
        for answer in self.exchange(frames()):
            yield given.popleft(), decode(answer)

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

"""Orders that are given ahead of their answers: each is carried out, whatever becomes of the queue process."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta._fast import FrameReader
from mta.cli.asking import AHEAD, Link
from mta.config import Config, Listener
from mta.link import Kind, Order, Ordered, decoder, frame

N_ORDERS = 5 * AHEAD


class Process:
    """Takes orders and answers them, several at once; hangs up after each `n_answers`."""

    def __init__(self, data_dir: Path, n_answers: int) -> None:
        self.carried_out: list[bytes] = []
        self.most_ahead = 0
        self._n_answers = n_answers
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(os.path.relpath(data_dir / "link.sock"))
        self._listening.listen()
        self._listening.settimeout(10)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        n_left = N_ORDERS
        while n_left > 0:
            link, _ = self._listening.accept()
            with link:
                n_left -= self._answer(link, min(n_left, self._n_answers))

    def _answer(self, link: socket.socket, n_answers: int) -> int:
        frames, n_done = FrameReader(1 << 20), 0
        while n_done < n_answers:
            orders = [decoder(Order).decode(payload) for _, payload in frames.feed(link.recv(65_536))]
            self.most_ahead = max(self.most_ahead, len(orders))
            answered = orders[: n_answers - n_done]
            self.carried_out += [id_ for order in answered for id_ in order.ids]
            link.sendall(b"".join(frame(Kind.ORDERED, Ordered(1, order.ids, ())) for order in answered))
            n_done += len(answered)
        return n_done


def orders() -> Iterator[Order]:
    for number in range(N_ORDERS):
        yield Order("hold", (number.to_bytes(16, "big"),))


@pytest.mark.parametrize("n_answers", [N_ORDERS, 2 * AHEAD, AHEAD + 3])
def test_link_orders_given_ahead_are_answered_in_their_order(tmp_path: Path, n_answers: int) -> None:
    process = Process(tmp_path, n_answers)
    link = Link(Config(hostname="mx.test", data_dir=str(tmp_path), listener=(Listener(bind=("127.0.0.1:0",)),)))
    done = list(link.orders(orders()))
    link.close()
    process.join()
    assert [order for order, _ in done] == list(orders())
    assert [answer.unknown for _, answer in done] == [order.ids for order in orders()]
    assert process.carried_out == [id_ for order in orders() for id_ in order.ids]
    assert 1 < process.most_ahead <= AHEAD

"""The link's codec: the frames about each message, made by one end and read by the other.

PUT        worker to queue process    one a message, the messages of a group in one read
STORED     and back                   one for the group
LEASE      to a worker                one for two parts
SETTLE     and back                   one for the group
SETTLED    to the worker              one for the group
"""

from bench.work.mail import BODY, DELIVERED, FIELD, GROUP, HOSTS, RECIPIENT, SITE, T0, id_of, put_head
from mta._fast import FrameReader
from mta.link import (
    Kind,
    Lease,
    Settle,
    Settled,
    Settlement,
    decoder,
    frame,
    read_put,
)
from mta.link.frames import MAX_FRAME_OCTETS, encode
from mta.link.pending import Pending, Puts
from mta.reply import Reply
from mta.store import part_name

__all__ = ["LinkWork"]

LEASED_AT_ONCE = 2


class LinkWork:
    """Both ends of both connections of one worker, without the sockets. It is the waiter of its own messages."""

    def __init__(self) -> None:
        self._n_put = self._n_stored = 0
        self._puts = Puts()
        self._at_queue = FrameReader(MAX_FRAME_OCTETS)
        self._at_worker = FrameReader(MAX_FRAME_OCTETS)
        self._lease = decoder(Lease).decode
        self._settle = decoder(Settle).decode
        self._settled = decoder(Settled).decode

    def stored(self) -> None:
        """A message is on the disk, as its worker hears."""
        self._n_stored += 1

    def refused(self, reply: Reply) -> None:
        """It is not."""
        raise RuntimeError(f"a message is refused: {reply}")

    def run(self, n_messages: int) -> None:
        """Say everything about so many messages."""
        before = self._n_stored
        for start in range(0, n_messages, GROUP):
            self._group(min(GROUP, n_messages - start))
        if self._n_stored != before + n_messages:
            raise RuntimeError(f"{self._n_stored - before} of {n_messages} messages were stored")

    def _group(self, n_messages: int) -> None:
        said: list[bytes] = []
        for _ in range(n_messages):
            self._n_put += 1
            id_ = id_of(self._n_put)
            said += self._puts.add(id_, Pending(encode(put_head(self._n_put)), (FIELD, BODY), self, 0.0))
        puts = [read_put(payload) for _, payload in self._at_queue.feed(b"".join(said))]
        answers = [frame(Kind.STORED, b"".join([put.head.id for put in puts]))]
        parts = [part_name(put.head.id, 0) for put in puts]
        for at in range(0, len(parts), LEASED_AT_ONCE):
            lease = Lease(1, False, SITE, HOSTS, tuple(parts[at : at + LEASED_AT_ONCE]), (0,))
            answers.append(frame(Kind.LEASE, lease))
        settlements: list[Settlement] = []
        for kind, payload in self._at_worker.feed(b"".join(answers)):
            if kind == Kind.STORED:
                self._puts.stored(payload)
            else:
                results = ((0, RECIPIENT, DELIVERED),)
                leased = self._lease(payload).parts
                settlements += [Settlement(part, 0, T0, "default", results) for part in leased]
        wire = frame(Kind.SETTLE, Settle(self._puts.n_confirmed, tuple(settlements)))
        n_settled = 0
        for _, payload in self._at_queue.feed(wire):
            n_settled += len(self._settle(payload).settlements)
        for _, payload in self._at_worker.feed(frame(Kind.SETTLED, Settled(1))):
            self._settled(payload)
        if n_settled != n_messages:
            raise RuntimeError(f"{n_settled} of {n_messages} messages were settled")

    def close(self) -> None:
        """There is nothing to take down."""

"""The state process: hears what workers say, keeps the Ledger, answers.

Rule: nothing here is kept on a disk and nothing waits for one. One turn of the loop is read, decide, answer; whatever
came in one read is answered in one write.

After a start nobody is welcomed for GATHER_S: the workers that were there before us say what they hold, and only then
somebody new is counted against it.
"""

import select
import socket
import time
import traceback
from collections.abc import Callable

import msgspec

from mta.child import BEAT_S, ORPHAN_S, Child, say
from mta.errors import LinkLost, StartError
from mta.link import READ_OCTETS, Connection, decoder, frame
from mta.state.ledger import Holder, Ledger
from mta.state.words import Ask, Hello, Kind, Spent, Stress

__all__ = ["StateProcess"]

GATHER_S = 0.2
TURN_S = 0.5
# While somebody waits for credit to come back.
SHORT_TURN_S = 0.05


class Guest:
    """One connection, and the worker behind it once HELLO was said."""

    __slots__ = ("connection", "holder", "is_all", "is_welcome")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.holder: Holder | None = None
        self.is_welcome = False
        self.is_all = True

    @property
    def known(self) -> Holder:
        """The worker. Raises ValueError before HELLO."""
        if self.holder is None:
            raise ValueError("a frame came before HELLO")
        return self.holder


class StateProcess:
    """Everything the state process does, until a signal is seen on `wakeup`."""

    def __init__(self, child: Child, wakeup: socket.socket) -> None:
        """Raises StartError without a socket to listen on."""
        if child.link is None:
            raise StartError("the state process was started without its socket")
        self._child = child
        self._link = child.link
        self._wakeup = wakeup
        self._epoll = select.epoll()
        self._buffer = memoryview(bytearray(READ_OCTETS))
        self._ledger = Ledger()
        self._guests: dict[int, Guest] = {}
        self._was_stressed = False
        self._is_stopping = False
        self._beat_at = 0.0
        self._stop_at = 0.0
        self._now = time.monotonic()
        self._welcomes_at = self._now + GATHER_S
        self._on: dict[int, Callable[[Guest, bytes], None]] = {
            Kind.HELLO: self._on_hello,
            Kind.SPENT: self._on_spent,
            Kind.LEFT: self._on_left,
            Kind.ASK: self._on_ask,
        }
        self._decode_hello = decoder(Hello).decode
        self._decode_spent = decoder(tuple[Spent, ...]).decode
        self._decode_left = decoder(tuple[tuple[str, bytes], ...]).decode
        self._decode_ask = decoder(tuple[Ask, ...]).decode

    def run(self) -> None:
        """Serve until stopped."""
        special = {
            self._link.fileno(): self._accept,
            self._child.control.fileno(): self._hear_master,
            self._wakeup.fileno(): self._stop,
        }
        for fd in special:
            self._epoll.register(fd, select.EPOLLIN)
        self._child.tell("ready")
        while not self._is_stopping:
            ready = self._epoll.poll(self._timeout_s())
            self._now = time.monotonic()
            for fd, events in ready:
                if fd in special:
                    special[fd]()
                elif fd in self._guests:
                    self._serve(self._guests[fd], events)
            self._ledger.tick(self._now)
            self._beat()
            self._say()

    def _timeout_s(self) -> float:
        if self._ledger.is_recalling:
            return SHORT_TURN_S
        return max(0.0, self._welcomes_at - self._now) if self._now < self._welcomes_at else TURN_S

    def _beat(self) -> None:
        if self._now >= self._beat_at:
            self._beat_at = self._now + BEAT_S
            self._child.tell("beat")
        if self._stop_at and (self._now >= self._stop_at or not self._guests):
            self._is_stopping = True

    def _stop(self) -> None:
        self._wakeup.recv(64)
        self._is_stopping = True

    def _hear_master(self) -> None:
        if self._child.hear() is None:
            # The workers end what is open, and until then they ask.
            self._epoll.unregister(self._child.control.fileno())
            self._stop_at = self._now + ORPHAN_S

    # What workers say

    def _accept(self) -> None:
        try:
            while True:
                guest = Guest(Connection(self._link.accept()[0], self._buffer))
                self._guests[guest.connection.fd] = guest
                self._epoll.register(guest.connection.fd, select.EPOLLIN)
        except BlockingIOError:
            return

    def _serve(self, guest: Guest, events: int) -> None:
        if events == select.EPOLLOUT:
            return
        try:
            for kind, payload in guest.connection.read():
                self._on[kind](guest, payload)
        except LinkLost:
            self._drop(guest)
        except (ValueError, KeyError, msgspec.DecodeError):
            # Whoever says what we do not understand comes again, and tells everything anew.
            say(f"state: a worker's word was not understood\n{traceback.format_exc()}")
            self._drop(guest)

    def _drop(self, guest: Guest) -> None:
        self._epoll.unregister(guest.connection.fd)
        del self._guests[guest.connection.fd]
        guest.connection.close()
        if guest.holder is not None:
            self._ledger.gone(guest.holder, self._now)

    def _on_hello(self, guest: Guest, payload: bytes) -> None:
        guest.holder = self._ledger.hello(self._decode_hello(payload), self._now)

    def _on_spent(self, guest: Guest, payload: bytes) -> None:
        for spent in self._decode_spent(payload):
            self._ledger.spent(guest.known, spent, self._now)

    def _on_left(self, guest: Guest, payload: bytes) -> None:
        for listener, network in self._decode_left(payload):
            self._ledger.left(guest.known, listener, network, self._now)

    def _on_ask(self, guest: Guest, payload: bytes) -> None:
        for ask in self._decode_ask(payload):
            self._ledger.ask(guest.known, ask, self._now)

    # What workers are told

    def _say(self) -> None:
        ledger = self._ledger
        if self._now < self._welcomes_at:
            return
        has_changed = ledger.is_stressed != self._was_stressed
        self._was_stressed = ledger.is_stressed
        # One of them tells of it.
        tells = has_changed
        for guest in list(self._guests.values()):
            holder, connection = guest.holder, guest.connection
            if holder is None:
                continue
            if has_changed or not guest.is_welcome:
                kind = Kind.STRESS if guest.is_welcome else Kind.WELCOME
                connection.send(frame(kind, Stress(ledger.is_stressed, ledger.n_open, ledger.rules.connections, tells)))
                guest.is_welcome = True
                tells = False
            if holder.recalls:
                connection.send(frame(Kind.RECALL, holder.recalls))
                holder.recalls = []
            if holder.answers:
                connection.send(frame(Kind.ANSWER, holder.answers))
                holder.answers = []
            self._flush(guest)

    def _flush(self, guest: Guest) -> None:
        try:
            is_all = guest.connection.flush()
        except LinkLost:
            self._drop(guest)
            return
        if is_all != guest.is_all:
            guest.is_all = is_all
            self._epoll.modify(guest.connection.fd, select.EPOLLIN if is_all else select.EPOLLIN | select.EPOLLOUT)

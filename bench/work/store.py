"""The rows of messages in a real environment: put, settled and deleted by its writer; read for delivery by a reader.

A transaction holds what came of the group before, and the next group, as the queue process's do; and the events of the
transaction before are deleted, as when the report process has taken them. Reading is work of its own, because LMDB
bears an environment only once in a process.
"""

from bench.work.mail import BODY, DELIVERED, FIELD, GROUP, RECIPIENT, T0, put_head
from bench.work.place import MAP_OCTETS, temporary_directory
from mta.link import Settlement
from mta.queue.apply import put_message, settle_part
from mta.store import Reader, Writer

__all__ = ["ReadWork", "StoreWork"]

CONTENT = FIELD + BODY
ALL_EVENTS = 1 << 62
MANY = 1000


class StoreWork:
    """A writer."""

    def __init__(self) -> None:
        self._directory = temporary_directory()
        self._writer = Writer(self._directory.name, MAP_OCTETS)
        self._n_put = 0
        self._leased: list[bytes] = []

    def run(self, n_messages: int) -> None:
        """Put so many messages, and settle as many of those before."""
        for start in range(0, n_messages, GROUP):
            self._group(min(GROUP, n_messages - start))
        if self._writer.n_messages != len(self._leased):
            raise RuntimeError(f"{self._writer.n_messages} messages are left, not {len(self._leased)}")

    def _group(self, n_messages: int) -> None:
        writer = self._writer
        now = T0 + self._n_put
        writer.begin()
        for part in self._leased:
            settlement = Settlement(part, 0, T0, "default", ((0, RECIPIENT, DELIVERED),))
            settle_part(writer, settlement, now, 0, False)
        self._leased.clear()
        for _ in range(n_messages):
            self._n_put += 1
            arrived = put_message(writer, put_head(self._n_put), CONTENT, now, False)
            self._leased += [part.part for part in arrived or ()]
        writer.remove_events(ALL_EVENTS, MANY)
        writer.commit()

    def close(self) -> None:
        """Close the environment and delete it."""
        self._writer.close()
        self._directory.cleanup()


class ReadWork:
    """A reader of an environment with messages, and what is to be read of them."""

    def __init__(self) -> None:
        self._directory = temporary_directory()
        writer = Writer(self._directory.name, MAP_OCTETS)
        writer.begin()
        self._parts: list[bytes] = []
        for number in range(GROUP):
            arrived = put_message(writer, put_head(number), CONTENT, T0, False)
            self._parts += [part.part for part in arrived or ()]
        writer.commit()
        writer.close()
        self._reader = Reader(self._directory.name, MAP_OCTETS)

    def run(self, n_messages: int) -> None:
        """Read so many messages, in turn."""
        reader, parts = self._reader, self._parts
        for at in range(n_messages):
            part = parts[at % GROUP]
            leased = reader.leased(part)
            if leased is None or reader.piece(leased.message.extents, 0) != CONTENT:
                raise RuntimeError(f"part {part.hex()} cannot be read")

    def close(self) -> None:
        """Close the environment and delete it."""
        self._reader.close()
        self._directory.cleanup()

"""What the queue process's loop and its desk share, made once from the configuration and an open environment."""

import msgspec

from mta.child import QueuePart
from mta.config import Config
from mta.queue.batch import Batch
from mta.queue.clock import Clock
from mta.queue.plans import Plans
from mta.queue.room import Room
from mta.queue.schedule import Schedule
from mta.queue.workers import Workers
from mta.report import Event, StorageLow, StorageOk
from mta.report import encode as encode_event
from mta.store import Writer

__all__ = ["Shared"]

MOST_GONE = 1_000_000
AGAIN = 1.1
TIGHT = 0.75


class Shared:
    """Tables, plans, and everybody who is there."""

    def __init__(self, config: Config, writer: Writer) -> None:
        self.config = config
        self.writer = writer
        self.clock = Clock()
        self.batch = Batch(writer)
        self.workers = Workers({key for key, _ in writer.look("gone", b"", MOST_GONE)})
        self.schedule = Schedule(config.path, config.deliver.sessions)
        self.plans = Plans(self.schedule, writer, self.workers, self.batch)
        self._room = Room(config.data_dir, config.queue.map_octets, config.queue.reserve_octets, writer)
        self.has_room = True
        """New mail may come in."""
        self.is_tight = False
        """Events that nobody takes have filled what room there was: nothing should be done that makes more of them."""

    def reconfigure(self, part: QueuePart) -> None:
        """Work by another configuration from now on."""
        changes = {name: getattr(part, name) for name in part.__struct_fields__}
        self.config = msgspec.structs.replace(self.config, **changes)
        self.schedule.reconfigure(part.path, part.deliver.sessions)
        self._room.reconfigure(part.queue.reserve_octets)

    def tell(self, event: Event) -> None:
        """Put an event into the next commit."""
        self.batch.note(encode_event(event))

    def look_for_room(self) -> bool:
        """Look whether there is room for new mail; return whether that has changed."""
        before = self.has_room
        room = self._room
        room.look()
        # Taken again only when there is some more, or every other message would be refused.
        self.has_room = room.free_octets > room.reserve_octets * (1.0 if before else AGAIN)
        is_outbox = room.outbox_octets > room.reserve_octets
        self.is_tight = is_outbox and room.free_octets < room.reserve_octets * TIGHT
        if self.has_room == before:
            return False
        kind = StorageOk if self.has_room else StorageLow
        free = max(0, round(room.free_octets))
        self.tell(kind(self.clock.now_ms(), b"", "", free, round(room.reserve_octets)))
        return True

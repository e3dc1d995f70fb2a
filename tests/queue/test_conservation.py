"""The books balance: PUTs, settlements and commits in any order, against a plain model.

For each tenant received = delivered + bounced + expired + dropped + what is queued, after every commit;
live octets are the sum of the contents; the outbox tells what the counters count; and when everything is settled no row
is left over.
"""

import tempfile
from collections import Counter

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from mta.link import Notice, Put, Settlement
from mta.message import Status
from mta.queue.awake import Queue
from mta.report import Bounced, Delivered, Expired, Received
from mta.store import Writer, decode_queue, due_of, number
from mta.store.codec import decode_counter

from .samples import T0, Teller, events, n_rows, notice, put, settlement

FATES: st.SearchStrategy[Status] = st.sampled_from(("delivered", "deferred", "bounced", "expired"))
ADDRESSES = st.lists(st.integers(0, 99).map(lambda n: f"r{n}@b.test"), min_size=1, max_size=3).map(tuple)
LIFE_MS = 5_000
NOTICES = 1_000_000
TABLES = ("message", "part", "recipient", "body", "due", "timer")


def all_delivered(n: int) -> list[Status]:
    """Return the fates of `n` lucky recipients."""
    return ["delivered"] * n


class Machine(RuleBasedStateMachine):
    """Plays the queue process around a Batch on a real environment."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.writer = Writer(self.folder.name, 1 << 26)
        self.batch = Teller(self.writer)
        self.now = T0
        self.n = 0
        self.waiting: dict[bytes, Put] = {}
        self.told: dict[bytes, Settlement] = {}
        self.octets: dict[bytes, int] = {}
        self.open: dict[bytes, Settlement] = {}
        self.notices: dict[bytes, Notice] = {}
        self.fates: Counter[tuple[str, str]] = Counter()

    def teardown(self) -> None:
        """Settle everything, put every queue to sleep, and look what is left."""
        self.commit()
        for part in list(self.open):
            self.tell(part, all_delivered(len(self.open[part].results)))
        self.commit()
        for key, value in self.writer.look("queue", b"", 1000):
            row = decode_queue(value)
            self.batch.sleep(Queue(number(key), row.name))
        for id_ in self.batch.repeatable:
            self.batch.batch.forget(id_)
        self.commit()
        tables = (*TABLES, "queue", "queue_name", "wake", "gone")
        assert n_rows(self.writer, *tables) == dict.fromkeys(tables, 0)
        assert self.writer.live_octets == 0
        self.writer.close()
        self.folder.cleanup()

    @rule(
        parts=st.lists(ADDRESSES, min_size=1, max_size=3),
        octets=st.sampled_from([0, 1, 2016, 2017, 9000]),
        tenant=st.sampled_from(["default", "other"]),
    )
    def take(self, parts: list[tuple[str, ...]], octets: int, tenant: str) -> None:
        self.n += 1
        message = put(self.n, *parts, content=bytes(octets), tenant=tenant, lifetime_ms=LIFE_MS)
        self.waiting[message.head.id] = message
        self.batch.put(message)

    @precondition(lambda self: self.octets)
    @rule(data=st.data())
    def take_again(self, data: st.DataObject) -> None:
        """A worker that lost its link repeats a message that is stored."""
        id_ = data.draw(st.sampled_from(sorted(self.octets)))
        message = put(int.from_bytes(id_, "big"), ("x@b.test",), content=bytes(self.octets[id_]), repeat=True)
        if self.writer.look_up("message", id_) is not None:
            # As long as it may come again its id is kept, wherever in the batch it is settled.
            self.batch.repeatable.add(id_)
            self.batch.put(message)

    @rule()
    def take_what_does_not_fit(self) -> None:
        """Makes the commit start over."""
        self.n += 1
        self.batch.put(put(self.n, ("x" * 3000 + "@b.test",), ("y@b.test",)))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        part = data.draw(st.sampled_from(sorted(self.open)))
        self.tell(part, [data.draw(FATES) for _ in self.open[part].results])

    def tell(self, part: bytes, fates: list[Status]) -> None:
        if part in self.told:
            return
        stood = self.open[part]
        results = tuple(
            (at, address, msgspec.structs.replace(outcome, status=fate))
            for (at, address, outcome), fate in zip(stood.results, fates, strict=True)
        )
        written: Notice | None = None
        if any(fate in ("bounced", "expired") for fate in fates) and part not in self.notices:
            self.n += 1
            about = put(int.from_bytes(part[:16], "big"), ("x@b.test",), tenant=stood.tenant)
            written = self.notices[part] = notice(NOTICES + self.n, about)
        self.told[part] = msgspec.structs.replace(stood, results=results, notice=written)
        self.batch.settle(self.told[part], self.now + 700)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle_an_attempt_that_is_over(self, data: st.DataObject) -> None:
        part = data.draw(st.sampled_from(sorted(self.open)))
        self.batch.settle(
            msgspec.structs.replace(self.open[part], attempt=99, notice=notice(2 * NOTICES, put(1, ("x@b.test",)))),
            self.now + 700,
        )

    @rule(ms=st.sampled_from([1, 900, LIFE_MS]))
    def step(self, ms: int) -> None:
        self.now += ms

    @rule()
    def abort(self) -> None:
        """What a transaction did is gone with it, and so are its numbers."""
        live = self.writer.live_octets
        self.writer.begin()
        self.writer.add_extent(bytes(5000))
        self.writer.add_event(b"never")
        for tenant in ("default", "other"):
            self.writer.count(tenant, "received", 7)
        for _, part in ((key, due_of(key)[1]) for key, _ in self.writer.scan("due", b"", 3)):
            self.writer.remove("part", part)
        self.writer.abort()
        assert self.writer.live_octets == live

    @rule()
    def commit(self) -> None:
        done = self.batch.commit(self.now)
        assert not done.failed
        for id_, message in self.waiting.items():
            self.octets[id_] = len(message.content)
            for at, part in enumerate(message.head.parts):
                told = settlement(message, 0, *all_delivered(len(part.recipients)), number=at)
                self.open[told.part] = told
                self.fates[message.head.tenant, "received"] += len(part.recipients)
        for part_name, told in self.told.items():
            left = []
            for result in told.results:
                fate: str = result[2].status
                if fate == "deferred":
                    left.append(result)
                else:
                    self.fates[told.tenant, fate] += 1
            if told.notice is not None:
                head = told.notice.head
                self.octets[head.id] = len(told.notice.content)
                about = settlement(put(int.from_bytes(head.id, "big"), head.parts[0].recipients), 0, "delivered")
                self.open[about.part] = msgspec.structs.replace(about, tenant=head.tenant)
                self.fates[head.tenant, "received"] += 1
            if left:
                again = msgspec.structs.replace(told, attempt=told.attempt + 1, results=tuple(left))
                self.open[part_name] = again
            else:
                del self.open[part_name]
        self.waiting.clear()
        self.told.clear()
        self.check()

    def check(self) -> None:
        here = {part[:16] for part in self.open}
        assert self.writer.live_octets == sum(self.octets[id_] for id_ in here)
        n_open = sum(len(told.results) for told in self.open.values())
        assert n_rows(self.writer, "message", "part", "timer", "due", "recipient") == {
            "message": len(here),
            "part": len(self.open),
            "timer": len(self.open),
            "due": len(self.open),
            "recipient": n_open,
        }
        for _, value in self.writer.look("counter", b"", 10):
            row = decode_counter(value)
            queued = sum(len(told.results) for told in self.open.values() if told.tenant == row.tenant)
            assert row.received == row.delivered + row.bounced + row.expired + row.dropped + queued
            for fate in ("received", "delivered", "bounced", "expired"):
                assert getattr(row, fate) == self.fates[row.tenant, fate]
        told_of = Counter[tuple[str, str]]()
        for event in events(self.writer):
            if isinstance(event, Received):
                told_of[event.tenant, "received"] += event.n_recipients
            elif isinstance(event, Delivered | Bounced | Expired):
                told_of[event.tenant, str(type(event).__struct_config__.tag)] += 1
        assert told_of == +self.fates
        for key, _ in self.writer.look("wake", b"", 100):
            first = self.writer.look("due", key[8:], 1)
            # It is a lower bound of its queue's first due time; an empty queue has none until it goes to sleep.
            if first and first[0][0][:8] == key[8:]:
                assert number(key) <= due_of(first[0][0])[0]


TestConservation = Machine.TestCase
TestConservation.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

"""Messages in parts in any order of frames, repeats, aborts, deaths and restarts, against a plain model.

After every commit `incoming` holds exactly what came and is open, live octets are what is in `body`, and in the end
nothing is left.
"""

import tempfile

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from mta.link import Part, Put
from mta.queue.batch import Batch
from mta.queue.changes import PartChange, PutChange
from mta.report import Fault
from mta.store import Writer, decode_extents

from .samples import events, n_rows, put
from .test_incoming import Queue, id_of

SIZES = st.sampled_from([1, 2016, 2017, 262_144, 1 << 20])


class Machine(RuleBasedStateMachine):
    """Workers 7 and 8 before a Batch; `sent` are the parts of messages that are open, `ended` those that are stored."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.writer = Writer(self.folder.name, 1 << 28)
        self.queue = Queue(self.writer)
        self.n = 0
        self.sent: dict[bytes, list[int]] = {}
        self.ended: dict[bytes, Put] = {}
        self.sizes: dict[bytes, list[int]] = {}
        self.living = {7, 8}

    def teardown(self) -> None:
        for id_ in list(self.sent):
            self.abort(id_)
        for id_ in list(self.ended):
            self.deliver(id_)
        self.commit()
        self.queue.empty_trash()
        assert set(n_rows(self.writer, "incoming", "trash", "message", "body", "gone").values()) == {0}
        assert self.writer.live_octets == 0
        assert [event for event in events(self.writer) if isinstance(event, Fault)] == []
        self.writer.close()
        self.folder.cleanup()

    def take(self, id_: bytes, number: int, octets: int, *, repeat: bool) -> None:
        part = Part(id_, number, repeat, memoryview(bytes(octets)))
        self.queue.batch.add(PartChange(self.queue.guest, part))

    @rule(octets=SIZES, incarnation=st.sampled_from([7, 8]))
    def begin(self, octets: int, incarnation: int) -> None:
        if incarnation in self.living:
            self.n += 1
            self.sent[id_of(self.n, incarnation)] = []
            self.go_on(id_of(self.n, incarnation), octets)

    def go_on(self, id_: bytes, octets: int) -> None:
        self.take(id_, len(self.sent[id_]), octets, repeat=False)
        self.sent[id_].append(octets)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), octets=SIZES)
    def part(self, data: st.DataObject, octets: int) -> None:
        self.go_on(data.draw(st.sampled_from(sorted(self.sent))), octets)

    @precondition(lambda self: self.sent or self.ended)
    @rule(data=st.data())
    def say_again(self, data: st.DataObject) -> None:
        """The link was lost: some last parts come again, and the end if there was one."""
        id_ = data.draw(st.sampled_from(sorted(self.sent.keys() | self.ended.keys())))
        end = self.ended.get(id_)
        sizes = self.sent[id_] if end is None else self.sizes[id_]
        for number in range(data.draw(st.integers(0, len(sizes))), len(sizes)):
            self.take(id_, number, sizes[number], repeat=True)
        if end is not None:
            again = Put(end.head, end.content, 0, True, end.n_parts, end.octets)
            self.queue.batch.add(PutChange(self.queue.guest, again))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.sent)))
        self.sizes[id_] = sizes = self.sent.pop(id_)
        made = put(1, ("a@b.test",), content=b"front")
        head = msgspec.structs.replace(made.head, id=id_)
        self.ended[id_] = Put(head, b"front", 0, False, len(sizes), 5 + sum(sizes))
        self.queue.batch.add(PutChange(self.queue.guest, self.ended[id_]))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def break_off(self, data: st.DataObject) -> None:
        self.abort(data.draw(st.sampled_from(sorted(self.sent))))

    def abort(self, id_: bytes) -> None:
        del self.sent[id_]
        self.queue.abort(id_)

    @rule()
    def die(self) -> None:
        """The worker with number 8 dies; what it has said is committed before it is swept."""
        self.commit()
        self.living = {7}
        self.queue.sweep(self.living)
        self.sent = {id_: sizes for id_, sizes in self.sent.items() if id_[11] == 7}

    @rule()
    def restart(self) -> None:
        """The queue process starts again from what is committed."""
        self.commit()
        self.queue.batch = Batch(self.writer)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        self.commit()
        self.deliver(data.draw(st.sampled_from(sorted(self.ended))))
        self.commit()

    def deliver(self, id_: bytes) -> None:
        self.commit()
        self.queue.settle(self.ended.pop(id_), "delivered")

    @rule()
    def commit(self) -> None:
        done = self.queue.commit()
        assert [reply for _, reply in done.answers if reply is not None] == []
        rows = self.writer.look("incoming", b"", 1000)
        assert {id_: [octets for _, octets in decode_extents(value)] for id_, value in rows} == self.sent
        in_body = sum(len(value) for _, value in self.writer.look("body", b"", 1_000_000))
        assert self.writer.live_octets == in_body
        assert n_rows(self.writer, "message")["message"] == len(self.ended)


TestIncoming = Machine.TestCase
TestIncoming.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

"""One commit for everyone, and what a frame that cannot be applied costs the others: nothing."""

import msgspec
import pytest

from mta.link import Settlement
from mta.message import Outcome
from mta.queue.awake import Queue
from mta.report import Bounced, Delivered, Fault
from mta.report import encode as encode_event
from mta.store import Writer, decode_part, decode_queue, decode_recipient, due_key, due_of, number, number_key

from .samples import T0, Teller, events, n_rows, name, part_of, put, settlement


def faults(writer: Writer) -> list[str]:
    return [event.detail for event in events(writer) if isinstance(event, Fault)]


def test_batch_of_everything_is_one_commit(writer: Writer) -> None:
    batch = Teller(writer)
    assert not batch.batch.has_work
    old, new = put(1, ("x@b.test",)), put(2, ("y@b.test",))
    batch.put(old)
    assert batch.batch.is_awaited
    done = batch.commit()
    assert done.answers == [(old, None)]
    assert [a.part for a in done.arrived] == [part_of(old)]
    batch.put(new)
    batch.settle(settlement(old, 0, "delivered"), T0 + 9)
    batch.batch.note(encode_event(Fault(T0, b"", "", "here", "noted")))
    batch.batch.taken(1)
    done = batch.commit(T0 + 1)
    assert [off.removed for off in done.off] == [old.head.id]
    assert n_rows(writer, "message", "event", "gone") == {"message": 1, "event": 3, "gone": 0}
    assert not batch.batch.has_work


def test_batch_full_of_messages_or_octets_says_so(writer: Writer) -> None:
    batch = Teller(writer)
    batch.put(put(1, ("x@b.test",), content=bytes(1_048_576)))
    assert batch.batch.is_full
    batch.commit()
    for n in range(128):
        assert not batch.batch.is_full
        batch.put(put(n + 2, ("x@b.test",)))
    assert batch.batch.is_full


# Ids that may come again


@pytest.mark.parametrize("keep_all", [False, True])
def test_batch_id_that_may_come_again_is_kept_until_it_may_not(writer: Writer, keep_all: bool) -> None:
    batch = Teller(writer)
    message = put(1, ("x@b.test",))
    batch.put(message)
    batch.commit()
    batch.settle(settlement(message, 0, "delivered"), 0)
    batch.repeatable = set() if keep_all else {message.head.id}
    batch.is_all_repeatable = keep_all
    assert batch.commit(T0).kept_ids == [message.head.id]
    again = msgspec.structs.replace(message, repeat=True)
    batch.put(again)
    assert batch.commit().answers == [(again, None)]
    assert n_rows(writer, "message", "gone") == {"message": 0, "gone": 1}
    batch.batch.forget(message.head.id)
    batch.commit()
    assert n_rows(writer, "gone") == {"gone": 0}


# Frames that cannot be applied


def bad_settlement(kind: str) -> Settlement:
    message = put(1, ("x@b.test",))
    delivered = Outcome("delivered", 250, "", "", "", "")
    told = settlement(message, 0, "delivered")
    results = {
        "missing recipient": ((5, "x@b.test", delivered),),
        "a number too large for its key": ((70_000, "x@b.test", delivered),),
        "a row too long": ((0, "x" * 3000 + "@b.test", Outcome("deferred", 450, "", "", "", "")),),
    }[kind]
    return msgspec.structs.replace(told, results=results)


@pytest.mark.parametrize("kind", ["missing recipient", "a number too large for its key", "a row too long"])
def test_batch_settlement_that_fails_costs_nobody_else(writer: Writer, kind: str) -> None:
    batch = Teller(writer)
    for n in (1, 2):
        batch.put(put(n, ("x@b.test",)))
    batch.commit()
    bad = bad_settlement(kind)
    batch.settle(bad, T0 + 9)
    batch.settle(settlement(put(2, ("x@b.test",)), 0, "bounced"), T0 + 9)
    batch.put(put(3, ("x@b.test",)))
    done = batch.commit()
    assert done.failed == [bad]
    assert [off.removed for off in done.off] == [put(2).head.id]
    assert [reply for _, reply in done.answers] == [None]
    assert n_rows(writer, "message", "recipient") == {"message": 2, "recipient": 2}
    assert len(faults(writer)) == 1
    assert sum(isinstance(event, Bounced) for event in events(writer)) == 1


def test_batch_settlement_without_results_sets_the_part_aside(writer: Writer) -> None:
    batch = Teller(writer)
    batch.put(put(1, ("x@b.test",)))
    batch.commit()
    told = settlement(put(1, ("x@b.test",)), 0, "delivered")
    batch.settle(msgspec.structs.replace(told, attempt=7, results=()), 0)
    done = batch.commit()
    assert done.failed == []
    assert [off.due for off in done.off] == [0]
    (part, row) = writer.look("part", b"", 1)[0]
    assert (decode_part(row).state, decode_part(row).attempt) == ("aside", 0)
    # Its queue is there for it, and is not woken by it.
    ((key, _),) = writer.look("due", b"", 9)
    assert due_of(key)[1] == part
    assert due_of(key)[0] > T0 * 1000


def test_batch_diagnostic_of_any_length_fits_its_row(writer: Writer) -> None:
    batch = Teller(writer)
    batch.put(put(1, ("x@b.test",)))
    batch.commit()
    told = settlement(put(1, ("x@b.test",)), 0, "delivered")
    long = ((0, "x@b.test", Outcome("deferred", 450, "", "r" * 3000, "m" * 3000, "\u00e9" * 3000)),)
    batch.settle(msgspec.structs.replace(told, results=long), T0 + 9)
    assert batch.commit().failed == []
    row = decode_recipient(writer.look("recipient", b"", 1)[0][1])
    assert row.last is not None
    assert (len(row.last.reason), len(row.last.remote_mta), len(row.last.diagnostic)) == (250, 250, 500)


@pytest.mark.parametrize(
    "kind", ["an address too long", "a tenant too long", "a number too large", "an id too long", "taken id"]
)
def test_batch_message_that_fails_costs_nobody_else(writer: Writer, kind: str) -> None:
    batch = Teller(writer)
    batch.put(put(7, ("x@b.test",)))
    batch.commit()
    good = put(1, ("x@b.test",))
    head = good.head
    bad = {
        "an address too long": put(2, ("x" * 3000 + "@b.test",)),
        "a tenant too long": put(2, ("x@b.test",), tenant="t" * 3000),
        "a number too large": msgspec.structs.replace(
            good, head=msgspec.structs.replace(head, parts=(msgspec.structs.replace(head.parts[0], first=70_000),))
        ),
        "an id too long": msgspec.structs.replace(good, head=msgspec.structs.replace(head, id=bytes(600))),
        "taken id": put(7, ("y@b.test",)),
    }[kind]
    batch.put(bad)
    batch.put(good)
    batch.settle(settlement(put(7, ("x@b.test",)), 0, "delivered"), 0)
    done = batch.commit()
    assert [(p, reply.code if reply else 250) for p, reply in done.answers] == [(bad, 451), (good, 250)]
    assert [a.part for a in done.arrived] == [part_of(good)]
    assert len(done.off) == 1
    assert len(faults(writer)) == 1
    assert n_rows(writer, "message", "body") == {"message": 1, "body": 1}
    assert writer.live_octets == len(good.content)


def test_batch_note_too_long_becomes_a_fault(writer: Writer) -> None:
    batch = Teller(writer)
    batch.batch.note(encode_event(Fault(T0, b"", "", "session", "x" * 5000)))
    batch.put(put(1, ("x@b.test",)))
    assert [reply for _, reply in batch.commit().answers] == [None]
    assert len(faults(writer)) == 1
    assert "over the limit" in faults(writer)[0]


def test_batch_full_map_refuses_messages_and_keeps_settlements(tmp_path_factory: pytest.TempPathFactory) -> None:
    writer = Writer(str(tmp_path_factory.mktemp("full")), 1 << 20)
    batch = Teller(writer)
    big = bytes(100_000)
    stored = []
    for n in range(100):
        batch.put(put(n, ("x@b.test",), content=big))
        _, reply = batch.commit().answers[0]
        if reply is not None:
            assert (reply.code, reply.enhanced) == (452, "4.3.1")
            break
        stored.append(n)
    assert stored
    for n in stored:
        batch.put(put(1000 + n, *[("x@b.test",)] * 3, content=big * 9))
        batch.settle(settlement(put(n, ("x@b.test",)), 0, "delivered"), 0)
        done = batch.commit()
        assert [reply.code for _, reply in done.answers if reply] == [452]
        assert len(done.off) == 1
    assert sum(isinstance(event, Delivered) for event in events(writer)) == len(stored)
    assert writer.live_octets == 0
    # Room is there again.
    batch.put(put(5000, ("x@b.test",), content=big))
    assert batch.commit().answers[0][1] is None
    writer.close()


def test_batch_message_refused_for_a_full_map_has_not_arrived(tmp_path_factory: pytest.TempPathFactory) -> None:
    writer = Writer(str(tmp_path_factory.mktemp("full")), 1 << 20)
    batch = Teller(writer)
    batch.put(put(1, ("x@b.test",), content=bytes(980_000)))
    told = batch.commit()
    writer.close()
    assert [reply.code for _, reply in told.answers if reply] == [452]
    # It is not there, and must not be leased.
    assert told.arrived == []


# Queues that go to sleep


def wake_of(writer: Writer, queue: int) -> int:
    (key, _), *rest = writer.look("wake", b"", 9)
    assert not rest
    assert number(key[8:]) == queue
    assert decode_queue(writer.look_up("queue", number_key(queue)) or b"").wake == number(key)
    return number(key)


def test_batch_queue_that_sleeps_moves_its_wake_row_or_goes(writer: Writer) -> None:
    batch = Teller(writer)
    message = put(1, ("x@b.test",))
    batch.put(message)
    arrived = batch.commit().arrived[0]
    queue = Queue(arrived.queue, arrived.name)
    batch.settle(settlement(message, 0, "deferred"), T0 + 900)
    batch.sleep(queue)
    assert batch.commit().wakes == [T0 + 900]
    assert wake_of(writer, queue.number) == T0 + 900
    batch.settle(settlement(message, 1, "delivered"), 0)
    batch.sleep(queue)
    # It may have woken for a moment and be put to sleep again before its rows were gone.
    batch.sleep(queue)
    assert batch.commit().wakes == []
    assert n_rows(writer, "queue", "queue_name", "wake") == {"queue": 0, "queue_name": 0, "wake": 0}


def test_batch_queue_that_sleeps_while_mail_comes_can_sleep_again(writer: Writer) -> None:
    batch = Teller(writer)
    first, second = put(1, ("x@b.test",)), put(2, ("x@b.test",))
    batch.put(first)
    arrived = batch.commit().arrived[0]
    queue = Queue(arrived.queue, arrived.name)
    batch.settle(settlement(first, 0, "delivered"), 0)
    batch.commit()
    batch.sleep(queue)
    batch.put(second)
    again = batch.commit(T0 + 50).arrived[0]
    assert again.queue == queue.number
    assert wake_of(writer, queue.number) == T0 + 50
    batch.settle(settlement(second, 0, "delivered"), 0)
    batch.sleep(Queue(again.queue, again.name))
    batch.commit(T0 + 60)
    assert n_rows(writer, "queue", "wake") == {"queue": 0, "wake": 0}


def test_batch_part_whose_settlement_failed_does_not_hide_the_others_of_its_queue(writer: Writer) -> None:
    batch = Teller(writer)
    bad, good = put(1, ("x@b.test",)), put(2, ("x@b.test",))
    batch.put(bad)
    batch.put(good)
    arrived = batch.commit().arrived[1]
    queue = Queue(arrived.queue, arrived.name)
    queue.read_from = due_key(queue.number, T0, part_of(good))
    batch.settle(bad_settlement("missing recipient"), T0 + 9)
    batch.settle(settlement(good, 0, "deferred"), T0 + 900)
    batch.sleep(queue)
    assert batch.commit().wakes == [T0 + 900]
    batch.settle(settlement(good, 1, "delivered"), 0)
    batch.sleep(queue)
    batch.commit()
    assert n_rows(writer, "queue", "part", "due") == {"queue": 1, "part": 1, "due": 1}
    assert name("b.test") == queue.name

"""What is broken on the disk is set aside alone, and is told."""

import json
import time
from collections.abc import Callable
from typing import NamedTuple

import lmdb

from bench.server import Server
from bench.sink import Rule, Sink
from bench.wait import wait_until
from tests.harness import Ledger, relaying, run_async
from tests.server.conftest import Serve


class Damaged(NamedTuple):
    """A server, the id of the message that was damaged, and those of the others."""

    server: Server
    first: str
    others: list[str]


def test_row_that_cannot_be_decoded_is_set_aside_and_the_rest_goes_on(sink: Sink, serve: Serve) -> None:
    sink.rule(Rule(stage="rcpt", reply="451 4.2.0 later"))
    server = serve(relaying(sink.via, retry={"first_s": 2}))
    ledger = Ledger(server.address)
    run_async(ledger.send(3, 1))
    server.wait_events(3, "deferred")
    assert server.stop() == 0
    first, *others = ledger.acknowledged.items()
    with lmdb.open(str(server.data_dir / "queue"), map_size=1 << 30, max_dbs=32) as env:
        table = env.open_db(b"message", create=False)
        with env.begin(write=True) as txn:
            assert txn.replace(bytes.fromhex(first[1]), b"\xc1 garbage", db=table) is not None
    sink.rule()
    server.start()
    sink.wait_count(2)
    wait_until(lambda: server.count()["aside"] == 1, "one aside", step_s=0.2)
    assert server.count()["recipients"] == 1
    assert sorted(to for message in sink.messages() for to in message.recipients) == sorted(to for to, _ in others)
    (fault,) = server.wait_events(1, "fault")
    assert fault["id"] == first[1]
    # It is told once, and nobody comes back to it.
    time.sleep(0.4)
    assert len(server.events("fault")) == 1
    assert server.stop() == 0


def _damaged(sink: Sink, serve: Serve, table: str, spoil: Callable[[lmdb.Transaction, bytes], None]) -> Damaged:
    """A server with three deferred messages that was stopped, damaged in the first of them, and started again."""
    sink.rule(Rule(stage="rcpt", match="@sink.test", reply="451 4.2.0 later"))
    server = serve(relaying(sink.via, retry={"first_s": 600}))
    ledger = Ledger(server.address)
    run_async(ledger.send(3, 1))
    server.wait_events(3, "deferred")
    assert server.stop() == 0
    first, *others = ledger.acknowledged.values()
    with lmdb.open(str(server.data_dir / "queue"), map_size=1 << 30, max_dbs=32) as env:
        db = env.open_db(table.encode(), create=False)
        with env.begin(write=True, db=db) as txn:
            spoil(txn, bytes.fromhex(first))
    sink.rule()
    server.start()
    return Damaged(server, first, others)


def _garble(txn: lmdb.Transaction, key: bytes) -> None:
    cursor = txn.cursor()
    assert cursor.set_range(key)
    txn.put(cursor.key(), b"\xc1 garbage")


def _lose_first(txn: lmdb.Transaction, _: bytes) -> None:
    cursor = txn.cursor()
    assert cursor.first()
    assert cursor.delete()


def test_message_that_cannot_be_read_keeps_the_others_from_nobodys_hands(sink: Sink, serve: Serve) -> None:
    server, _, others = _damaged(sink, serve, "message", _garble)
    done = server.run("queue", "list", "--json")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == others
    assert (done.returncode, done.stderr) == (1, "mta: 1 row of the queue cannot be read: see mta queue verify\n")
    done = server.run("queue", "remove", "--all")
    assert done.stdout == "2 messages matched, 2 changed\n"
    assert done.returncode == 1
    assert len(server.wait_events(2, "dropped")) == 2


def test_queue_row_that_cannot_be_read_costs_new_mail_nothing(sink: Sink, serve: Serve) -> None:
    server, _, _ = _damaged(sink, serve, "queue", lambda txn, _: _garble(txn, b""))
    before = server.children()
    ledger = Ledger(server.address)
    run_async(ledger.send(2, 1))
    sink.wait_count(2)
    assert ledger.refused == []
    assert server.children() == before
    assert "queue" in server.run("queue", "verify").stdout


def test_message_whose_content_is_lost_is_set_aside_and_the_reports_on_others_go_out(sink: Sink, serve: Serve) -> None:
    server, first, others = _damaged(sink, serve, "body", _lose_first)
    assert server.run_json("queue", "retry", first)[0]["changed"] == 1
    (row,) = server.wait_events(1, "set_aside")
    assert row["id"] == first
    assert server.count()["aside"] == 1
    assert server.run_json("queue", "bounce", "--all")[0] == {"matched": 3, "changed": 3}
    # The damaged one can neither end nor be told of: it stays aside until its queue is repaired.
    assert {row["id"] for row in server.wait_events(2, "bounced")} == set(others)
    sink.wait_count(2)

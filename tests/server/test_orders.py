"""An operator's hands on a live queue: hold, release, retry, remove."""

import asyncio
import time

import lmdb
import pytest

from bench.server import Server
from bench.sink import Rule, Sink
from bench.wait import wait_until
from tests.harness import Ledger, relaying, run_async
from tests.server.conftest import Serve


def _deferred(sink: Sink, serve: Serve, n_messages: int) -> tuple[Server, list[str]]:
    """A server with messages that were refused for now, and their ids."""
    sink.rule(Rule(stage="rcpt", match="@sink.test", reply="451 4.2.0 Later"))
    server = serve(relaying(sink.via, retry={"first_s": 600}))
    ledger = Ledger(server.address)
    run_async(ledger.send(n_messages, 2))
    server.wait_events(n_messages, "deferred")
    sink.rule()
    return server, list(ledger.acknowledged.values())


def _order(server: Server, *words: str) -> tuple[int, int]:
    (answer,) = server.run_json("queue", *words)
    return answer["matched"], answer["changed"]


def test_held_mail_waits_for_its_release_and_retry_tries_the_rest(sink: Sink, serve: Serve) -> None:
    server, ids = _deferred(sink, serve, 6)
    assert _order(server, "hold", *ids[:2]) == (2, 2)
    assert _order(server, "hold", *ids[:2]) == (2, 0)
    count = server.count()
    assert (count["held"], count["deferred"]) == (2, 4)
    (row,) = server.run_json("queue", "show", ids[0])
    assert (row["state"], row["next_at"], row["attempts"]) == ("held", "", 1)
    assert _order(server, "retry", "--all") == (6, 4)
    sink.wait_count(4)
    assert server.count()["recipients"] == 2
    # Held is held, also for a new process.
    server.wait_replaced("queue", server.kill_child("queue"))
    assert _order(server, "release", "--state", "held") == (2, 2)
    sink.wait_count(6)
    server.wait_empty()
    assert {row["attempts"] for row in server.wait_events(6, "delivered")} == {2}


def test_remove_leaves_a_dropped_event_and_no_bounce(sink: Sink, serve: Serve) -> None:
    server, ids = _deferred(sink, serve, 3)
    assert _order(server, "remove", ids[0]) == (1, 1)
    (row,) = server.wait_events(1, "dropped")
    assert (row["id"], row["attempts"], row["reason"]) == (ids[0], 1, "removed by the operator")
    assert _order(server, "remove", "--sender", "ledger@source.test") == (2, 2)
    server.wait_empty()
    assert len(server.wait_events(3, "dropped")) == 3
    assert sink.count() == 0
    assert server.events("bounced") == []


def test_orders_on_mail_that_is_being_delivered_take_effect_when_that_is_settled(sink: Sink, serve: Serve) -> None:
    sink.rule(Rule(stage="rcpt", match="@sink.test", delay_s=60, reply="451 4.2.0 Later", times=3))
    server = serve(relaying(sink.via, retry={"first_s": 600}))
    ledger = Ledger(server.address)
    run_async(ledger.send(3, 3))
    held, removed, retried = ledger.acknowledged.values()
    assert _order(server, "hold", held) == (1, 1)
    assert _order(server, "remove", removed) == (1, 1)
    assert _order(server, "retry", retried) == (1, 1)
    assert server.count()["messages"] == 3
    # A change of the rules ends the wait.
    sink.rule()
    server.wait_events(1, "dropped")
    sink.wait_count(1)
    count = server.count()
    assert (count["recipients"], count["held"]) == (1, 1)
    (delivered,) = server.wait_events(1, "delivered")
    assert delivered["id"] == retried


def test_orders_unknown_id_and_bad_calls_are_told_apart(sink: Sink, serve: Serve) -> None:
    server, ids = _deferred(sink, serve, 1)
    done = server.run("queue", "remove", "0" * 32, ids[0])
    assert done.returncode == 1
    assert done.stderr == f"mta: not in the queue: {'0' * 32}\n"
    server.wait_empty()
    for words in (("hold",), ("hold", "nonsense"), ("hold", "--all", "--domain", "a.test"), ("hold", "--state", "odd")):
        assert server.run("queue", *words).returncode == 2
    assert server.stop() == 0
    done = server.run("queue", "retry", "--all")
    assert done.returncode == 1
    assert done.stderr == f"mta: no server is running on {server.data_dir}\n"


def test_orders_on_thousands_of_messages_hold_up_no_new_mail(sink: Sink, serve: Serve) -> None:
    server, ids = _deferred(sink, serve, 3000)
    ledger = Ledger(server.address, domain="new.test")

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ordering = asyncio.create_task(asyncio.to_thread(_order, server, "remove", "--domain", "sink.test"))
        while not ordering.done():
            began = loop.time()
            await ledger.send(len(ledger.acknowledged) + 1, 1)
            assert loop.time() - began < 2.0
        assert await ordering == (3000, 3000)

    run_async(scenario())
    assert len(server.wait_events(len(ids), "dropped")) == 3000
    sink.wait_count(len(ledger.acknowledged))
    server.wait_empty()


@pytest.mark.parametrize("order", ["remove", "hold"])
def test_order_on_mail_whose_session_ends_without_a_word_about_it_is_carried_out(
    sink: Sink, serve: Serve, order: str
) -> None:
    sink.rule(Rule(stage="connect", delay_s=60, reply="421 4.3.2 Not now", times=1))
    server = serve(relaying(sink.via, path={"pause_s": 1}))
    ledger = Ledger(server.address)
    run_async(ledger.send(1, 1))
    (id_,) = ledger.acknowledged.values()
    wait_until(lambda: server.count()["active"] == 1, "a lease")
    assert _order(server, order, id_) == (1, 1)
    assert server.count()["active"] == 1
    sink.rule()
    server.wait_events(1, "path_paused")
    wait_until(lambda: server.count()["active"] == 0, "its end")
    if order == "remove":
        server.wait_empty()
        assert [row["id"] for row in server.wait_events(1, "dropped")] == [id_]
    else:
        wait_until(lambda: server.count()["held"] == 1, "it is held")
        assert _order(server, "release", id_) == (1, 1)
        sink.wait_count(1)
    assert sink.count() == (0 if order == "remove" else 1)


def test_bounce_all_does_not_send_its_own_notices_back(sink: Sink, serve: Serve) -> None:
    server, ids = _deferred(sink, serve, 200)
    sink.rule(Rule(stage="message", delay_s=0.02))
    assert _order(server, "bounce", "--all") == (200, 200)
    sink.wait_count(200)
    server.wait_empty()
    assert {tuple(message.recipients) for message in sink.messages()} == {("ledger@source.test",)}
    assert sorted(row["id"] for row in server.wait_events(200, "bounced")) == sorted(ids)


def test_retry_tries_a_path_whose_queues_went_to_sleep(sink: Sink, serve: Serve) -> None:
    sink.rule(Rule(stage="connect", reply="421 4.3.2 Not now"))
    server = serve(relaying(sink.via, path={"pause_s": 600}))
    run_async(Ledger(server.address).send(3, 1))
    server.wait_events(1, "path_paused")
    sink.rule()
    # Longer than a queue without work stays awake.
    wait_until(lambda: _wakes_later(server), "a queue asleep", 15)
    assert _order(server, "retry", "--all") == (3, 3)
    sink.wait_count(3)
    server.wait_empty()


def _wakes_later(server: Server) -> bool:
    """Whether the one queue there is sleeps until the pause is over."""
    with lmdb.open(str(server.data_dir / "queue"), readonly=True, max_dbs=32, map_size=1 << 40) as env:
        table = env.open_db(b"wake", create=False)
        with env.begin(db=table) as txn:
            (key,) = (key for key, _ in txn.cursor())
    return int.from_bytes(key[:8], "big") > time.time() * 1000 + 300_000

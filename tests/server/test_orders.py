"""An operator's hands on a live queue: hold, release, retry, remove."""

import asyncio

from bench.server import Server
from bench.sink import Rule, Sink
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
    sink.rule(Rule(stage="rcpt", match="@sink.test", delay_s=2.0, reply="451 4.2.0 Later", times=3))
    server = serve(relaying(sink.via, retry={"first_s": 600}))
    ledger = Ledger(server.address)
    run_async(ledger.send(3, 3))
    held, removed, retried = ledger.acknowledged.values()
    assert _order(server, "hold", held) == (1, 1)
    assert _order(server, "remove", removed) == (1, 1)
    assert _order(server, "retry", retried) == (1, 1)
    assert server.count()["messages"] == 3
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

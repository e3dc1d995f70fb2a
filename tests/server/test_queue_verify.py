"""`mta queue verify`, `--repair` and `compact` on a server's own queue: at work, stopped, and started again."""

import asyncio
import subprocess

from bench.server import Server
from bench.sink import Rule, Sink
from tests.harness import Ledger, relaying, run_async
from tests.server.conftest import Serve
from tests.store.damage import raw


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines of `verify` about a queue that should be good; ["ok"] when it is."""
    return done.stdout.splitlines()


def held_up(sink: Sink, serve: Serve, n_messages: int) -> tuple[Server, Ledger]:
    """A server with messages for a sink that answers, but never greets."""
    sink.rule(Rule(stage="connect", delay_s=60))
    server = serve(relaying(sink.via, process={"drain_s": 1}))
    ledger = Ledger(server.address)
    run_async(ledger.send(n_messages, 4))
    return server, ledger


def test_queue_verify_says_ok_each_time_while_the_server_is_under_load(sink: Sink, serve: Serve) -> None:
    # Some are deferred again and again, some bounce, most are delivered while we look.
    sink.rule(
        Rule(stage="rcpt", match="@later.test", reply="451 4.2.0 Later"),
        Rule(stage="rcpt", match="@never.test", reply="550 5.1.1 Never"),
    )
    server = serve(relaying(sink.via))
    ledgers = [Ledger(server.address, domain=domain) for domain in ("sink.test", "later.test", "never.test")]
    heard: list[list[str]] = []

    async def look() -> None:
        for _ in range(5):
            done = await asyncio.to_thread(server.run, "queue", "verify")
            heard.append(said(done))

    async def scenario() -> None:
        looking = asyncio.create_task(look())
        async with asyncio.TaskGroup() as group:
            for ledger in ledgers:
                group.create_task(ledger.send(1_000_000, 2, is_needed=lambda: not looking.done()))
        await looking

    run_async(scenario())
    assert heard == [["ok"]] * 5
    assert all(len(ledger.acknowledged) > 50 for ledger in ledgers)
    assert server.events("deferred")
    assert server.events("bounced")


def test_queue_verify_repair_and_compact_refuse_while_a_server_runs(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    for words in (("verify", "--repair"), ("compact",)):
        done = server.run("queue", *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"mta: a server is running on data_dir {server.data_dir}: stop it first\n"


def test_queue_repaired_and_compacted_is_delivered_by_the_next_start(sink: Sink, serve: Serve) -> None:
    server, ledger = held_up(sink, serve, 30)
    assert server.stop() == 0
    with raw(server.data_dir) as tables:
        for table in ("due", "wake"):
            for key, _ in tables.rows(table):
                tables.delete(table, key)
    assert server.run("queue", "verify").returncode == 1
    done = server.run("queue", "verify", "--repair")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ok"
    done = server.run("queue", "verify")
    assert (done.returncode, done.stdout) == (0, "ok\n")
    done = server.run("queue", "compact")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("before ")
    assert server.run("queue", "verify").stdout == "ok\n"
    sink.rule()
    server.start()
    sink.wait_count(30)
    server.wait_empty()
    assert {to for message in sink.messages() for to in message.recipients} == set(ledger.acknowledged)
    # Numbers go on where they were: nothing is given twice.
    again = Ledger(server.address, domain="again.test")
    run_async(again.send(10, 2))
    sink.wait_count(40)
    server.wait_empty()
    assert said(server.run("queue", "verify")) == ["ok"]

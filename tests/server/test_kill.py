"""kill -9 under load: what got 250 arrives, whoever dies. It may arrive twice, never not at all, never altered."""

import signal
import socket
import time
from collections import Counter

from bench.server import Server
from bench.sink import Message, Rule, Sink
from bench.wait import wait_until
from tests.harness import Ledger, kill_under_load, relaying, run_async
from tests.server.conftest import Serve


async def _killing(server: Server, sink: Sink, ledger: Ledger, kills: list[str]) -> None:
    await kill_under_load(server, sink, ledger, kills)


def _assert_kept(messages: list[Message], ledger: Ledger, least: int = 50) -> None:
    arrived = {to: message for message in messages for to in message.recipients}
    assert len(ledger.acknowledged) >= least
    assert sorted(ledger.acknowledged.keys() - arrived.keys()) == []
    for recipient, message in arrived.items():
        assert message.content.endswith(ledger.content(int(recipient[1:7]))), recipient


def _n_twice(sink: Sink) -> int:
    counted = Counter(to for message in sink.messages() for to in message.recipients)
    return sum(count > 1 for count in counted.values())


def _assert_contiguous(server: Server) -> None:
    numbers = [row["seq"] for row in server.events()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_kill_worker_under_load_loses_nothing_acknowledged(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    ledger = Ledger(server.address)
    run_async(_killing(server, sink, ledger, ["worker", "worker", "250", "250"]))
    server.wait_empty()
    _assert_kept(sink.messages(), ledger)
    # Its own connections broke, but nobody was told anything wrong.
    assert ledger.refused == []
    assert {row["name"] for row in server.wait_events(4, "child_died")} <= {"worker 1", "worker 2"}
    # Two of them had the next hop's 250 and could not say so: that is the one window in which mail goes out twice.
    assert _n_twice(sink) >= 2
    assert server.stop() == 0


def test_kill_queue_under_load_loses_nothing_and_no_client_sees_it(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    ledger = Ledger(server.address)
    run_async(_killing(server, sink, ledger, ["queue", "commit", "hello", "link", "link"] * 2))
    server.wait_empty()
    _assert_kept(sink.messages(), ledger)
    assert ledger.refused == []
    assert ledger.n_broken == 0
    assert _n_twice(sink) == 0
    # Each id was taken in once, however often its frame was repeated.
    received = [row["id"] for row in server.wait_events(len(ledger.acknowledged), "received")]
    assert len(received) == len(set(received))
    assert set(ledger.acknowledged.values()) <= set(received)
    _assert_contiguous(server)
    assert server.stop() == 0


def test_kill_report_under_load_leaves_no_gap_in_the_events(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    ledger = Ledger(server.address)
    run_async(_killing(server, sink, ledger, ["report", "report", "report"]))
    server.wait_empty()
    n_messages = len(ledger.acknowledged)
    delivered = server.wait_events(n_messages, "delivered")
    assert sorted(row["id"] for row in delivered) == sorted(ledger.acknowledged.values())
    assert sorted(row["id"] for row in server.events("received")) == sorted(ledger.acknowledged.values())
    _assert_contiguous(server)
    assert server.stop() == 0
    # The end of the server is told, too, and still without a gap.
    assert server.events()[-1]["event"] == "stopped"
    _assert_contiguous(server)


def test_kill_everything_at_once_loses_nothing_acknowledged(sink: Sink, serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = serve(relaying(sink.via, listener=[{"name": "mx", "bind": [f"127.0.0.1:{port}"]}]))
    ledger = Ledger(server.address)
    run_async(_killing(server, sink, ledger, ["all", "all", "all"]))
    server.wait_empty()
    _assert_kept(sink.messages(), ledger)
    _assert_contiguous(server)
    assert server.stop() == 0


def test_worker_that_is_stopped_in_mid_delivery_is_killed_and_its_mail_goes_on(sink: Sink, serve: Serve) -> None:
    sink.rule(Rule(stage="message", delay_s=60))
    server = serve(relaying(sink.via, process={"hang_s": 2, "drain_s": 5}))
    ledger = Ledger(server.address)
    run_async(ledger.send(10, 4))
    wait_until(lambda: sink.n_open() > 0, "a delivery under way")
    stopped = {name: server.kill_child(name, signal.SIGSTOP) for name in server.children() if name.startswith("worker")}
    sink.rule()
    began = time.monotonic()
    sink.wait_count(10, 32)
    server.wait_empty(32)
    assert time.monotonic() - began < 32
    _assert_kept(sink.messages(), ledger, least=10)
    for name, pid in stopped.items():
        server.wait_replaced(name, pid)
    assert ledger.refused == []

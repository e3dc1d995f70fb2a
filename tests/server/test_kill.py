"""kill -9 under load: what got 250 arrives, whoever dies. It may arrive twice, never not at all, never altered."""

from bench.server import Server
from bench.sink import Message, Sink
from tests.harness import Ledger, kill_under_load, relaying, run_async
from tests.server.conftest import Serve

SESSIONS = 8
# At most SESSIONS / PACE_S messages a second: enough to hit every stage, few enough for two cores.
PACE_S = 0.008
REST_S = 0.4


async def _killing(server: Server, ledger: Ledger, names: list[str]) -> None:
    await kill_under_load(server, ledger, names, SESSIONS, rest_s=REST_S, pace_s=PACE_S)


def _assert_kept(messages: list[Message], ledger: Ledger) -> None:
    arrived = {to: message for message in messages for to in message.recipients}
    assert len(ledger.acknowledged) > 50
    assert sorted(ledger.acknowledged.keys() - arrived.keys()) == []
    for recipient, message in arrived.items():
        assert message.content.endswith(ledger.content(int(recipient[1:7]))), recipient


def _assert_contiguous(server: Server) -> None:
    numbers = [row["seq"] for row in server.events()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_kill_worker_under_load_loses_nothing_acknowledged(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    ledger = Ledger(server.address)
    run_async(_killing(server, ledger, ["worker 1", "worker 2", "worker 1"]))
    server.wait_empty()
    _assert_kept(sink.messages(), ledger)
    # Its own connections broke, but nobody was told anything wrong.
    assert ledger.refused == []
    assert [row["name"] for row in server.wait_events(3, "child_died")] == ["worker 1", "worker 2", "worker 1"]
    assert server.stop() == 0


def test_kill_queue_under_load_loses_nothing_and_no_client_sees_it(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    ledger = Ledger(server.address)
    run_async(_killing(server, ledger, ["queue", "queue", "queue"]))
    server.wait_empty()
    _assert_kept(sink.messages(), ledger)
    assert ledger.refused == []
    assert ledger.n_broken == 0
    # Each id was taken in once, however often its frame was repeated.
    received = [row["id"] for row in server.wait_events(len(ledger.acknowledged), "received")]
    assert len(received) == len(set(received))
    assert set(ledger.acknowledged.values()) <= set(received)
    _assert_contiguous(server)
    assert server.stop() == 0


def test_kill_report_under_load_leaves_no_gap_in_the_events(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    ledger = Ledger(server.address)
    run_async(_killing(server, ledger, ["report", "report", "report"]))
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

"""`mta queue list|show|count` on a queue that cannot empty, with the server running and stopped."""

import subprocess

from bench.server import MTA, Server
from bench.sink import Rule, Sink
from tests.harness import Ledger, relaying, run_async
from tests.server.conftest import Serve

ROW = {
    "id",
    "state",
    "sender",
    "octets",
    "received_at",
    "expires_at",
    "tenant",
    "campaign",
    "domains",
    "n_recipients",
    "n_open",
    "attempts",
    "next_at",
    "last",
}
LAST = {"status", "code", "enhanced", "reason", "remote_mta", "diagnostic", "at"}
RECIPIENT = {"number", "address", "domain", "state", "attempts", "next_at", "last"}
STATES = ("waiting", "deferred", "active", "held", "aside")


def _held_up(sink: Sink, serve: Serve) -> tuple[Server, Ledger]:
    """A server with three messages for a sink that answers, but never greets."""
    sink.rule(Rule(stage="connect", delay_s=60))
    server = serve(relaying(sink.via, process={"drain_s": 1}))
    ledger = Ledger(server.address)
    run_async(ledger.send(3, 1))
    return server, ledger


def _check(server: Server, ledger: Ledger) -> None:
    ids = list(ledger.acknowledged.values())
    count = server.count()
    assert (count["messages"], count["recipients"]) == (3, 3)
    assert sum(count[state] for state in STATES) == 3
    rows = server.run_json("queue", "list")
    assert [row["id"] for row in rows] == ids
    assert all(set(row) >= ROW and set(row["last"]) >= LAST for row in rows)
    assert {(row["sender"], row["n_recipients"], row["n_open"]) for row in rows} == {("ledger@source.test", 1, 1)}
    assert {tuple(row["domains"]) for row in rows} == {("sink.test",)}
    # One filter that fits, one that does not, and a limit.
    assert len(server.run_json("queue", "list", "--domain", "sink.test")) == 3
    assert server.run_json("queue", "list", "--sender", "nobody@source.test") == []
    assert [row["id"] for row in server.run_json("queue", "list", "--limit", "2")] == ids[:2]
    (shown,) = server.run_json("queue", "show", ids[1])
    assert set(shown) >= ROW | {"recipients"}
    (recipient,) = shown["recipients"]
    assert set(recipient) >= RECIPIENT
    assert recipient["address"] == list(ledger.acknowledged)[1]


def _content(server: Server, message_id: str) -> bytes:
    command = [str(MTA), "queue", "show", message_id, "--content", "-c", str(server.config_file)]
    return subprocess.run(command, capture_output=True, timeout=30, check=True).stdout


def test_queue_commands_show_held_up_mail_running_and_stopped(sink: Sink, serve: Serve) -> None:
    server, ledger = _held_up(sink, serve)
    _check(server, ledger)
    first = next(iter(ledger.acknowledged.values()))
    assert _content(server, first).endswith(ledger.content(0))
    assert _content(server, first).startswith(b"Received: ")

    assert server.stop() == 0
    _check(server, ledger)
    assert _content(server, first).endswith(ledger.content(0))

    # The mail is not only shown: with the sink awake, a new start delivers it.
    sink.rule()
    server.start()
    sink.wait_count(3)
    server.wait_empty()
    assert server.run_json("queue", "list") == []


def test_queue_show_unknown_id_exits_1_with_a_sentence(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    done = server.run("queue", "show", "0" * 32, "--json")
    assert done.returncode == 1
    assert done.stderr.strip()
    assert done.stdout == ""

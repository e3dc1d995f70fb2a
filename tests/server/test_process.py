"""The processes of a running server: who they are, how they end, and what becomes of the mail when one does not."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from bench.client import Client
from bench.cpu import title_of
from bench.server import MTA, Server
from bench.sink import Rule, Sink
from bench.wait import wait_until
from tests.accept.wire import Wire
from tests.harness import Ledger, relaying, run_async
from tests.server.conftest import Serve

ORPHANS_GONE_S = 8.0
IDLE_S = 3.0
IDLE_SHARE = 0.03


def living(pids: Iterable[int]) -> list[str]:
    """Return the titles of those that are still processes of a server."""
    return [title for pid in pids if (title := title_of(pid)).startswith("mta: ")]


def assert_arrived(sink: Sink, ledger: Ledger) -> None:
    """Everything that was acknowledged is at the sink."""
    arrived = {to for message in sink.messages() for to in message.recipients}
    assert sorted(ledger.acknowledged.keys() - arrived) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_under_load_ends_open_transactions_first_and_loses_nothing(
    sink: Sink, serve: Serve, number: signal.Signals
) -> None:
    server = serve(relaying(sink.via))
    ledger = Ledger(server.address)
    pids = [server.pid, *server.children().values()]

    async def scenario() -> None:
        client = Client(*server.address)
        await client.connect()
        for line in ("MAIL FROM:<a@source.test>", "RCPT TO:<open@sink.test>", "DATA"):
            assert (await client.command(line)).code in (250, 354)
        sending = asyncio.create_task(ledger.send(100_000, 4, pace_s=0.005, is_needed=lambda: len(stopped) == 0))
        stopped: list[bool] = []
        await asyncio.sleep(0.5)
        server.send_signal(number)
        await asyncio.sleep(0.3)
        stopped.append(True)
        await sending
        # The others were told 421 or cut off; this one may finish, and only then is told.
        await client.write(b"Subject: x\r\n\r\nx\r\n.\r\n")
        assert (await client.read_answer()).code == 250
        ledger.acknowledged["open@sink.test"] = ""
        last = await client.read_answer()
        assert (last.code, last.enhanced) == (421, "4.3.2")
        await client.close(quits=False)

    run_async(scenario())
    assert server.wait(15) == 0
    assert living(pids) == []
    assert len(ledger.acknowledged) > 20
    events = server.events()
    assert [row["event"] for row in events][-1] == "stopped"
    assert [row["seq"] for row in events] == list(range(1, len(events) + 1))
    server.start()
    server.wait_empty()
    assert_arrived(sink, ledger)


def test_stop_tells_idle_clients_421_at_once(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    with Wire(server.address).hello() as idle, Wire(server.address) as silent:
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        for wire in (idle, silent):
            assert wire.read().code == 421
            assert wire.is_over()
        assert server.wait(10) == 0
        assert time.monotonic() - began < 4
    assert {row["reason"] for row in server.events("connection_closed")} == {"shutdown"}


def test_stop_while_deliveries_hang_is_over_in_time_and_they_come_back(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via, process={"drain_s": 1}))
    sink.rule(Rule(stage="message", delay_s=60))
    ledger = Ledger(server.address)
    run_async(ledger.send(3, 3))
    wait_until(lambda: sink.n_open() > 0, "a delivery under way")
    server.send_signal(signal.SIGTERM)
    assert server.wait(10) == 0
    sink.rule()
    server.start()
    server.wait_empty()
    assert_arrived(sink, ledger)


def test_quit_ends_everybody_at_once(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    pids = [server.pid, *server.children().values()]
    with Wire(server.address).hello() as wire:
        wire.begin()
        began = time.monotonic()
        server.send_signal(signal.SIGQUIT)
        server.wait(5)
        assert time.monotonic() - began < 2
        assert wire.is_over()
    assert living(pids) == []


def test_master_killed_children_leave_and_the_next_server_delivers_the_rest(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    sink.down()
    ledger = Ledger(server.address)
    run_async(ledger.send(20, 4))
    pids = server.children()
    assert len(pids) == 5
    os.kill(server.pid, signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: not server.is_running, "the end of the master")
    wait_until(lambda: not living(pids.values()), "the end of the children", ORPHANS_GONE_S)
    print(f"children gone {time.monotonic() - began:.1f} s after their master")
    sink.up()
    server.start()
    server.wait_empty()
    assert_arrived(sink, ledger)
    assert server.stop() == 0


def test_master_killed_next_server_waits_for_the_children_by_itself(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    with Wire(server.address).hello() as wire:
        wire.begin()
        os.kill(server.pid, signal.SIGKILL)
        # The transaction that was open may still end, for a moment.
        wire.send(b"\r\n.\r\n")
        assert wire.read().code == 250
        wait_until(lambda: not server.is_running, "the end of the master")
        server.start()
    sink.wait_count(1)
    assert server.stop() == 0


def test_data_dir_in_use_second_server_gives_up_after_ten_seconds(sink: Sink, serve: Serve, tmp_path: Path) -> None:
    first = serve(relaying(sink.via))
    config = tmp_path / "second.toml"
    config.write_text(first.config_file.read_text())
    began = time.monotonic()
    second = subprocess.run([MTA, "serve", "-c", config], capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert 9.5 < time.monotonic() - began < 13
    assert f"another server is running on data_dir {first.data_dir}" in second.stderr
    with Wire(first.address).hello() as wire:
        assert wire.mail().code == 250
    sink.wait_count(1)


def test_worker_that_hangs_is_killed_and_mail_goes_on(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via, process={"hang_s": 2, "drain_s": 5}))
    ledger = Ledger(server.address)
    run_async(ledger.send(10, 2))
    pid = server.kill_child("worker 1", signal.SIGSTOP)
    server.wait_replaced("worker 1", pid)
    (died,) = server.wait_events(1, "child_died")
    assert (died["name"], died["pid"], died["status"]) == ("worker 1", pid, "signal 9")
    run_async(ledger.send(40, 4))
    server.wait_empty()
    assert_arrived(sink, ledger)
    assert "worker 1" in server.stderr()


@pytest.mark.parametrize("name", ["queue", "report"])
def test_child_that_hangs_is_killed_and_nothing_is_lost(sink: Sink, serve: Serve, name: str) -> None:
    server = serve(relaying(sink.via, process={"hang_s": 2, "drain_s": 5}))
    pid = server.kill_child(name, signal.SIGSTOP)
    ledger = Ledger(server.address)
    run_async(ledger.send(10, 2))
    server.wait_replaced(name, pid)
    server.wait_empty()
    assert_arrived(sink, ledger)
    assert ledger.refused == []
    assert server.wait_events(1, "child_died")[0]["name"] == name
    assert len(server.wait_events(10, "delivered")) == 10


def test_service_manager_hears_ready_when_the_server_is(
    sink: Sink, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        server = serve(relaying(sink.via))
        assert manager.recv(100) == b"READY=1"
        assert server.address[1] > 0
        assert manager.recv(100).startswith(b"STATUS=serving ")
        server.stop()
        assert manager.recv(100) == b"STOPPING=1"


def test_idle_server_takes_next_to_no_cpu(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    with Wire(server.address).hello() as wire:
        assert wire.mail().code == 250
        server.wait_empty()
        time.sleep(0.5)
        before = server.cpu_s()
        time.sleep(IDLE_S)
        used = server.cpu_s() - before
    for name, pid in {"master": server.pid, **server.children()}.items():
        (line,) = [row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("RssAnon")]
        print(f"{name}: {line}")
    print(f"CPU: {used / IDLE_S:.1%}")
    assert used < IDLE_SHARE * IDLE_S


def test_check_names_every_problem_of_a_private_server(serve: Serve, sink: Sink) -> None:
    server: Server = serve(relaying(sink.via))
    assert server.run("check").stdout == f"{server.config_file}: ok\n"
    server.configure({"hostname": 7, "limits": {"recipients": "many", "nonsense": 1}})
    done = server.run("check")
    assert done.returncode == 2
    assert done.stdout == ""
    problems = sorted(line.split(": ")[1] for line in done.stderr.splitlines())
    assert problems == ["hostname", "limits.nonsense", "limits.recipients"]
    assert server.run("serve").returncode == 2


def test_report_that_was_stopped_for_a_while_goes_on(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    before = server.children()
    server.kill_child("report", signal.SIGSTOP)
    time.sleep(0.4)
    server.kill_child("report", signal.SIGCONT)
    run_async(Ledger(server.address).send(3, 1))
    server.wait_events(3, "delivered")
    assert server.children() == before

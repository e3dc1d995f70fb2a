"""What one site gets: turns for every queue, as many connections as it bears, and a rest when its host fails."""

import asyncio
import contextlib
import signal
import socket

from bench.client import Client
from bench.server import Server
from bench.sink import Rule, Sink
from bench.wait import wait_until
from tests.harness import Ledger, relaying, run_async
from tests.server.conftest import Serve

MAIL = b"Subject: x\r\n\r\nx\r\n"


async def _send(server: Server, recipients: list[str], n_sessions: int = 20) -> None:
    """Send each recipient a mail of its own; every one must be taken."""
    left = iter(recipients)

    async def work() -> None:
        client = Client(*server.address)
        await client.connect()
        for recipient in left:
            answer = await client.send("a@source.test", [recipient], MAIL)
            assert answer.code == 250, answer
        await client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(n_sessions):
            group.create_task(work())


def _arrived(sink: Sink) -> list[str]:
    return [to for message in sink.messages() for to in message.recipients]


def test_small_queue_behind_a_bulk_one_on_the_same_next_hop_is_not_buried(sink: Sink, serve: Serve) -> None:
    """10,000 for a.test wait at a slow sink; then 10 for b.test are among the next 40 that it gets."""
    sink.rule(Rule(stage="message", delay_s=0.25))
    server = serve(relaying(sink.via))
    run_async(_send(server, [f"m{number}@a.test" for number in range(10_000)]))
    # Its window is open and every connection busy.
    wait_until(lambda: sink.n_open() == 20, "20 connections", 30)
    run_async(_send(server, [f"m{number}@b.test" for number in range(10)], n_sessions=1))
    before = len(_arrived(sink))
    wait_until(lambda: sum(to.endswith("@b.test") for to in _arrived(sink)) == 10, "10 mails for b.test", 30)
    arrived = _arrived(sink)
    assert sum(to.endswith("@b.test") for to in arrived[before : before + 40]) == 10, arrived[before : before + 60]


def test_window_settles_below_what_the_next_hop_refuses(sink: Sink, serve: Serve) -> None:
    """A sink that refuses more than 8 connections: by its own count there are 8, and soon no refusals any more."""
    sink.limit(8)
    sink.rule(Rule(stage="message", delay_s=0.02))
    server = serve(relaying(sink.via))
    ledger = Ledger(server.address)
    run_async(ledger.send(1500, 40))
    n_refused = sink.n_refused()
    run_async(ledger.send(3000, 40))
    server.wait_empty(60)
    assert sink.most_open() == 8
    assert 0 < n_refused < 40
    assert sink.n_refused() - n_refused <= 1
    # Nobody's mail counted an attempt for it.
    assert {row["attempts"] for row in server.events("delivered")} == {1}
    assert server.events("deferred", "path_paused") == []


def test_two_workers_never_open_more_than_the_path_may_have(sink: Sink, serve: Serve) -> None:
    sink.rule(Rule(stage="message", delay_s=0.01))
    path = {"connections": 5, "messages_per_connection": 7, "pause_s": 1}
    server = serve(relaying(sink.via, path=path))
    ledger = Ledger(server.address)
    run_async(ledger.send(2000, 40))
    server.wait_empty(60)
    assert sink.most_open() == 5
    assert sink.n_sessions() >= 2000 / 7
    assert len(sink.messages()) == 2000


def test_host_that_fails_rests_its_path_and_counts_no_attempt(sink: Sink, serve: Serve) -> None:
    sink.rule(Rule(stage="connect", reply="421 4.3.2 Not now"))
    server = serve(relaying(sink.via, path={"pause_s": 2}))
    ledger = Ledger(server.address)
    run_async(ledger.send(20, 4))
    (paused, *_) = server.wait_events(1, "path_paused")
    assert (paused["site"], paused["code"], paused["enhanced"]) == (sink.via, 421, "4.3.2")
    assert "Not now" in paused["diagnostic"]
    n_sessions = sink.n_sessions()
    assert n_sessions == 1
    count = server.count()
    assert (count["waiting"], count["deferred"]) == (20, 0)
    sink.rule()
    sink.wait_count(20)
    server.wait_empty()
    assert {row["attempts"] for row in server.wait_events(20, "delivered")} == {1}
    assert [row["site"] for row in server.wait_events(1, "path_resumed")] == [sink.via]


def test_path_state_survives_a_restart(sink: Sink, serve: Serve) -> None:
    sink.rule(Rule(stage="connect", reply="421 4.3.2 Not now"))
    server = serve(relaying(sink.via, path={"pause_s": 60}))
    run_async(Ledger(server.address).send(3, 1))
    server.wait_events(1, "path_paused")
    assert server.stop() == 0
    n_sessions = sink.n_sessions()
    sink.rule()
    server.start()
    run_async(Ledger(server.address).send(3, 1))
    # It rests on: neither the start nor new mail makes it try.
    assert server.count()["waiting"] == 6
    assert sink.n_sessions() == n_sessions
    # An operator's word does.
    assert server.run("queue", "retry", "--all").returncode == 0
    sink.wait_count(6)
    server.wait_empty()


def test_expiry_comes_on_time_on_a_path_that_rests(sink: Sink, serve: Serve) -> None:
    sink.rule(Rule(stage="rcpt", match="@gone.test", reply="421 4.3.2 Not now"))
    with Sink() as home:
        config = relaying(
            sink.via,
            path={"pause_s": 600},
            retry={"first_s": 1, "give_up_s": 3},
            route=[{"match": "source.test", "via": home.via}, {"match": "*", "via": sink.via}],
        )
        server = serve(config)
        run_async(Ledger(server.address, domain="gone.test").send(5, 1))
        server.wait_events(1, "path_paused")
        expired = server.wait_events(5, "expired", timeout_s=10)
        assert all(3.0 <= row["queued_s"] < 5.0 for row in expired)
        home.wait_count(5)
        notices = [message.content.decode() for message in home.messages()]
        assert all(message.sender == "" for message in home.messages())
        assert all("Not now" in notice and "Status: 4.4.7" in notice for notice in notices)
        server.wait_empty()


def test_hanging_destinations_do_not_hold_up_the_good_ones(sink: Sink, serve: Serve) -> None:
    """50 destinations that never greet beside 50 good ones: at a fixed offered load nobody waits for them."""
    rate, seconds = 100, 5
    with contextlib.ExitStack() as stack:
        # The kernel takes their connections; nobody ever says a word.
        hanging = [stack.enter_context(socket.create_server((f"127.0.1.{n + 1}", 0))) for n in range(50)]
        ways = [f"[{sock.getsockname()[0]}]:{sock.getsockname()[1]}" for sock in hanging]
        routes = [{"match": f"bad{n}.test", "via": way} for n, way in enumerate(ways)]
        deliver = {"command_timeout_s": 300, "sessions": 60}
        server = serve(relaying(sink.via, route=[*routes, {"match": "*", "via": sink.via}], deliver=deliver))

        async def offered(bad: bool) -> None:
            client = Client(*server.address)
            await client.connect()
            loop = asyncio.get_running_loop()
            began = loop.time()
            for number in range(rate * seconds):
                await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
                good = await client.send("a@source.test", [f"m{number}@good{number % 50}.test"], MAIL)
                assert good.code == 250
                if bad:
                    await client.send("a@source.test", [f"m{number}@bad{number % 50}.test"], MAIL)
            await client.close()

        run_async(offered(False))
        sink.wait_count(rate * seconds)
        before = sink.count()
        run_async(offered(True))
        # Whoever had to wait for one of the others would wait for five minutes.
        wait_until(lambda: sink.count() - before == rate * seconds, "all of the good ones", 60.0)
        wait_until(lambda: server.n_queued() == rate * seconds, "a queue of the bad ones alone", 60.0)
        server.send_signal(signal.SIGQUIT)
        server.wait()

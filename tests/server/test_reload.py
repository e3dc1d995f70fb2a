"""Reload, upgrade and stop as clients, next hops and operators see them."""

import asyncio
import os
import signal
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import uvloop

from bench.cpu import children_of, title_of
from bench.openload import OpenLoad
from bench.reload import order, reload_under_load
from bench.server import Server
from bench.sink import Rule, Sink
from bench.wait import wait_until
from tests.accept.wire import Wire
from tests.harness import relaying
from tests.server.conftest import Serve

ORDERS = [signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP, signal.SIGHUP]


def workers(server: Server) -> list[int]:
    """Return the pids of all workers, those that are leaving included."""
    return [pid for pid in children_of(server.pid) if title_of(pid).startswith("mta: worker")]


def reload(server: Server, config: dict[str, object]) -> None:
    """Change the configuration of a running server."""
    server.configure(config)
    order(server, signal.SIGHUP)


def wait_gone(pids: list[int]) -> None:
    """Wait until these have ended."""
    wait_until(lambda: not any(title_of(pid).startswith("mta: ") for pid in pids), "the end of the old workers")


def test_reloads_and_an_upgrade_under_load_no_client_notices(sink: Sink, serve: Serve) -> None:
    config = relaying(sink.via)
    server = serve(config)
    load = OpenLoad(server.address, 200)
    uvloop.run(reload_under_load(server, load, ORDERS, config, n_kept=4, rest_s=0.4))
    server.wait_empty()
    arrived = Counter(to for message in sink.messages() for to in message.recipients)
    assert load.fates == {"ok": load.n_begun}
    assert load.n_begun > 300
    # A kept connection is told between two messages, and comes again.
    assert load.kept_fates.keys() == {"ok", "421 4.3.2"}
    assert load.acknowledged == arrived.keys()
    assert set(arrived.values()) == {1}
    assert server.events("child_died", "fault", "reload_failed") == []
    kinds = [event["kind"] for event in server.wait_events(len(ORDERS), "reloaded")]
    assert kinds == ["upgrade" if number == signal.SIGUSR2 else "reload" for number in ORDERS]
    events = server.events()
    assert [row["seq"] for row in events] == list(range(1, len(events) + 1))
    assert not [event for event in events if event["event"] == "stopped"]
    wait_until(lambda: len(workers(server)) == 2, "the end of the old workers")


def offers(server: Server, row: str) -> bool:
    """Say whether a new connection is offered this."""
    with Wire(server.address) as wire:
        return row in wire.say("EHLO client.test").text.split("\n")


def test_reload_sessions_that_are_open_go_on_and_end_between_messages(sink: Sink, serve: Serve) -> None:
    config = relaying(sink.via)
    server = serve(config)
    old = workers(server)
    with ExitStack() as stack:
        fresh, busy, kept, silent = (stack.enter_context(Wire(server.address)) for _ in range(4))
        busy.hello().begin("busy@sink.test")
        for wire in (kept, silent):
            assert wire.hello().mail().code == 250
        reload(server, config | {"limits": {"message_octets": 5000}})
        # A new connection has the new limits, once those who leave have taken what was on its way to them.
        wait_until(lambda: offers(server, "SIZE 5000"), "the new limits")
        # One that has sent nothing yet may do so, one in the middle may end it: nobody is told before that.
        assert fresh.hello().mail(recipient="fresh@sink.test").code == 250
        assert fresh.say("QUIT").code == 221
        busy.send(b"x" * 6000 + b"\r\n.\r\n")
        assert busy.read().code == 250
        # Whoever pipelines the next message hears 421 once, in order, and is not cut off.
        kept.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@sink.test>\r\nDATA\r\n")
        answer = kept.read()
        assert (answer.code, answer.enhanced) == (421, "4.3.2")
        assert kept.is_over()
        # Whoever is silent is told after a moment.
        assert silent.read().code == 421
        assert silent.is_over()
        assert busy.read().code == 421
    wait_gone(old)
    reasons = Counter(event["reason"] for event in server.wait_events(5, "connection_closed"))
    assert reasons == {"shutdown": 3, "quit": 1, "lost": 1}


def test_reload_delivery_past_its_final_dot_is_waited_for_and_not_repeated(sink: Sink, serve: Serve) -> None:
    config = relaying(sink.via, process={"drain_s": 0.2})
    server = serve(config)
    sink.rule(Rule(stage="message", match="slow@sink.test", delay_s=60))
    old = workers(server)
    with Wire(server.address).hello() as wire:
        assert wire.mail(recipient="slow@sink.test").code == 250
    wait_until(lambda: sink.n_open() > 0, "a delivery under way")
    reload(server, config)
    with Wire(server.address).hello() as wire:
        assert wire.mail(recipient="other@sink.test").code == 250
    sink.wait_count(1)
    # The one that delivers is still there, and a second reload does not end it.
    reload(server, config)
    wait_until(lambda: len(set(old) & set(workers(server))) == 1, "the end of the one that has nothing to do")
    assert server.count()["active"] == 1
    sink.rule()
    sink.wait_count(2)
    wait_gone(old)
    server.wait_empty()
    assert Counter(to for m in sink.messages() for to in m.recipients) == {"slow@sink.test": 1, "other@sink.test": 1}
    sink.rule(Rule(stage="message", delay_s=60))
    with Wire(server.address).hello() as wire:
        assert wire.mail().code == 250
    wait_until(lambda: server.count()["active"] == 1, "another delivery under way")
    reload(server, config)
    # A stop waits for it no longer than for any other.
    assert server.stop() == 0


def test_reload_changed_route_and_retry_hold_for_the_next_message(sink: Sink, serve: Serve) -> None:
    config = relaying(sink.via, retry={"first_s": 3000})
    server = serve(config)
    with Sink() as other, Wire(server.address).hello() as wire:
        assert wire.mail().code == 250
        sink.wait_count(1)
        reload(server, relaying(other.via, retry={"first_s": 1, "jitter": 0}))
        other.rule(Rule(stage="rcpt", reply="451 4.2.0 Later", times=1))
        with Wire(server.address).hello() as new:
            assert new.mail().code == 250
        # To the same domain, whose way was known; and the next attempt comes as soon as it is allowed now.
        other.wait_count(1)
        assert sink.count() == 1


def test_reload_changed_limits_of_the_machine_and_new_listeners_hold_for_the_next_connection(
    sink: Sink, serve: Serve
) -> None:
    def config(n_client: int, n_at_listener: int, *more: dict[str, object]) -> dict[str, object]:
        limits = {"client": {"connections": n_client, "exempt_relay": False}}
        listener = [{"name": "mx", "bind": ["127.0.0.1:0"], "connections": n_at_listener}, *more]
        return relaying(sink.via, limits=limits, listener=listener)

    server = serve(config(2, 3))
    with ExitStack() as stack:

        def greetings(*sources: str, address: tuple[str, int] = server.address) -> list[int]:
            return [stack.enter_context(Wire(address, source=source)).greeting.code for source in sources]

        assert greetings(*["127.0.0.1"] * 3, "127.0.0.2", "127.0.0.3") == [220, 220, 421, 220, 421]
        # Who is there still counts, by the new numbers.
        reload(server, config(3, 5, {"name": "new", "bind": ["127.0.0.2:0"], "connections": 1}))
        assert greetings(*["127.0.0.1"] * 2, "127.0.0.3", "127.0.0.4") == [220, 421, 220, 421]
        (line,) = [line for line in server.stderr().splitlines() if line.startswith("mta: reloaded ")]
        host, _, port = line.partition(" new=")[2].partition(":")
        assert greetings("127.0.0.5", "127.0.0.6", address=(host, int(port))) == [220, 421]
        server.configure(config(1, 9, {"name": "new", "bind": ["127.0.0.2:0"], "connections": 1}))
        order(server, signal.SIGUSR2)
        assert greetings("127.0.0.7", "127.0.0.7", "127.0.0.2") == [220, 421, 421]


def test_reload_failed_is_told_and_the_old_configuration_serves(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    before = workers(server)
    server.configure(relaying(sink.via, limits={"recipients": 0, "nonsense": 1}))
    server.send_signal(signal.SIGHUP)
    (event,) = server.wait_events(1, "reload_failed")
    assert event["kind"] == "reload"
    assert len(event["problems"]) == 2
    # The same lines as those of `mta check`.
    assert server.run("check").stderr.splitlines() == event["problems"]
    assert all(f"{problem}\n" in server.stderr() for problem in event["problems"])
    assert workers(server) == before
    with Wire(server.address).hello() as wire:
        assert wire.mail().code == 250


def test_reload_failed_of_many_problems_has_an_event_that_says_how_many(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    server.configure(relaying(sink.via, limits={f"nonsense_{number}": 1 for number in range(60)}))
    server.send_signal(signal.SIGHUP)
    (event,) = server.wait_events(1, "reload_failed")
    lines = server.run("check").stderr.splitlines()
    assert len(lines) == 60
    *told, last = event["problems"]
    assert told == lines[: len(told)]
    assert last == f"and {60 - len(told)} more"
    assert server.events("fault") == []


def test_reload_events_go_on_in_another_directory(sink: Sink, serve: Serve, tmp_path: Path) -> None:
    server = serve(relaying(sink.via))
    with Wire(server.address).hello() as wire:
        assert wire.mail().code == 250
    server.wait_events(1, "connection_closed")
    reload(server, relaying(sink.via, events={"directory": str(tmp_path / "events")}))
    wait_until(lambda: any((tmp_path / "events").glob("*.jsonl")), "events in the other directory")
    assert server.events("fault", "child_died") == []


def test_stop_under_load_resets_nobody(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    load = OpenLoad(server.address, 200)

    async def scenario() -> None:
        is_over = asyncio.Event()
        loading = asyncio.create_task(load.run(is_over))
        await asyncio.sleep(0.5)
        server.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.6)
        is_over.set()
        await loading

    uvloop.run(scenario())
    assert server.wait(15) == 0
    assert load.fates.keys() <= {"ok", "421 4.3.2", "refused"}
    assert load.fates["ok"] > 30
    server.start()
    server.wait_empty()
    arrived = Counter(to for message in sink.messages() for to in message.recipients)
    assert arrived.keys() == load.acknowledged
    assert set(arrived.values()) == {1}


def at_the_door(server: Server, n_clients: int, stack: ExitStack) -> list[socket.socket]:
    """Have clients connect to a server whose workers are stopped: they wait in accept queues."""
    for pid in workers(server):
        os.kill(pid, signal.SIGSTOP)
    return [stack.enter_context(socket.create_connection(server.address, 20)) for _ in range(n_clients)]


def test_stop_answers_who_was_at_the_door(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    with ExitStack() as stack:
        clients = at_the_door(server, 20, stack)
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: "mta: stopping" in server.stderr(), "the stop")
        for pid in workers(server):
            os.kill(pid, signal.SIGCONT)
        for client in clients:
            with client.makefile("rb") as lines:
                # Some were greeted before the worker heard of the stop.
                assert lines.readlines()[-1].startswith(b"421 4.3.2 ")
    assert server.wait(15) == 0


def test_reload_dropped_listener_serves_who_was_at_its_door(sink: Sink, serve: Serve) -> None:
    both = [{"name": "old", "bind": ["127.0.0.1:0"]}, {"name": "new", "bind": ["127.0.0.2:0"]}]
    server = serve(relaying(sink.via, listener=both))
    with ExitStack() as stack:
        old = workers(server)
        clients = at_the_door(server, 20, stack)
        server.configure(relaying(sink.via, listener=both[1:]))
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: "mta: reloaded" in server.stderr(), "the reload")
        for pid in old:
            os.kill(pid, signal.SIGCONT)
        for number, client in enumerate(clients):
            client.sendall(b"EHLO client.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<m%d@sink.test>\r\nDATA\r\n" % number)
        for client in clients:
            client.sendall(b"Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n")
            with client.makefile("rb") as lines:
                assert [line[:3] for line in lines if line[3:4] == b" "] == [
                    b"220",
                    b"250",
                    b"250",
                    b"250",
                    b"354",
                    b"250",
                    b"221",
                ]
        # And now nobody is there any more.
        wait_until(lambda: is_refused(server.address), "the end of the dropped listener")
    wait_gone(old)
    sink.wait_count(20)


def is_refused(address: tuple[str, int]) -> bool:
    """Say whether nobody listens on an address."""
    try:
        socket.create_connection(address, 20).close()
    except ConnectionRefusedError:
        return True
    return False

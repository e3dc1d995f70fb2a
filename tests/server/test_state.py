"""Limits for the whole machine, as clients of two workers meet them, and what becomes of them when somebody dies."""

import contextlib
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bench.client import Answer
from bench.cpu import title_of
from bench.server import Server
from bench.sink import Sink
from bench.wait import wait_until
from mta._fast import FrameReader
from mta.link import frame
from mta.linkpath import STATE_NAME, open_link
from mta.state.words import VERSION, Ask, Hello, Kind, Rules, Spent
from tests.accept.wire import Wire
from tests.harness import relaying
from tests.server.conftest import Serve

MAIL = "MAIL FROM:<a@source.test>"
RCPT = "RCPT TO:<b@sink.test>"


def limited(via: str, total: int = 5000, **client: object) -> dict[str, object]:
    """Return a configuration in which loopback is a client like any other."""
    return relaying(via, limits={"connections": total, "client": {"exempt_relay": False, **client}})


class Clients:
    """Connections that are kept until the test ends."""

    def __init__(self, server: Server, stack: contextlib.ExitStack) -> None:
        self._server = server
        self._stack = stack
        self.all: list[Wire] = []

    def add(self, n: int, source: str = "127.0.0.1") -> list[int]:
        """Open connections and return the codes of their greetings."""
        wires = [self._stack.enter_context(Wire(self._server.address, source=source)) for _ in range(n)]
        self.all += [wire for wire in wires if wire.greeting.code == 220]
        return [wire.greeting.code for wire in wires]

    def drop(self, n: int) -> None:
        """Close the oldest ones."""
        for wire in self.all[:n]:
            wire.__exit__()
        del self.all[:n]

    def hello(self) -> list[Wire]:
        """Say EHLO on all, and return them."""
        return [wire.hello() for wire in self.all]


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Closes what it was given."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """A server that gives every network one connection."""
    with Sink() as sink, Server(limited(sink.via, connections=1)) as server:
        yield server


def is_let_in(server: Server, source: str = "127.0.0.1") -> bool:
    """Come, and go."""
    with Wire(server.address, source=source) as wire:
        return wire.greeting.code == 220


def test_client_connections_are_counted_over_all_workers(sink: Sink, serve: Serve, stack: contextlib.ExitStack) -> None:
    server = serve(limited(sink.via, connections=5))
    clients = Clients(server, stack)
    assert sorted(clients.add(12)) == [220] * 5 + [421] * 7
    assert clients.add(5, "127.0.0.2") == [220] * 5
    with Wire(server.address) as wire:
        assert (wire.greeting.code, wire.greeting.enhanced) == (421, "4.7.0")
    clients.drop(2)
    wait_until(lambda: is_let_in(server), "room for one more")
    rows = server.wait_events(8, "rejected")
    assert {(row["stage"], row["code"], row["client"]) for row in rows} == {("connect", 421, "127.0.0.1")}


def test_client_addresses_of_one_network_are_one_client(sink: Sink, serve: Serve, stack: contextlib.ExitStack) -> None:
    clients = Clients(serve(limited(sink.via, connections=2, prefix_ipv4=24)), stack)
    assert [clients.add(1, f"127.0.5.{number}") for number in (1, 2, 3)] == [[220], [220], [421]]
    assert clients.add(1, "127.0.6.1") == [220]


def test_client_new_connections_in_a_minute_are_counted(sink: Sink, serve: Serve) -> None:
    server = serve(limited(sink.via, connections_per_minute=6))
    assert [is_let_in(server) for _ in range(9)] == [True] * 6 + [False] * 3
    assert is_let_in(server, "127.0.0.2")


@pytest.mark.parametrize(
    ("key", "lines", "code", "enhanced"),
    [("messages_per_minute", [MAIL], 450, "4.7.1"), ("recipients_per_minute", [MAIL, RCPT], 452, "4.7.1")],
)
def test_client_messages_and_recipients_reach_the_limit_and_not_more(
    sink: Sink, serve: Serve, stack: contextlib.ExitStack, key: str, lines: list[str], code: int, enhanced: str
) -> None:
    server = serve(limited(sink.via, **{key: 30}))
    clients = Clients(server, stack)
    clients.add(8)
    wires = clients.hello()
    n_taken = 0
    refused = []
    for turn in range(48):
        wire = wires[turn % len(wires)]
        *before, last = lines
        for line in before:
            assert wire.say(line).code == 250
        answer = wire.say(last)
        n_taken += answer.code == 250
        if answer.code != 250:
            refused.append((answer.code, answer.enhanced))
        assert wire.say("RSET").code == 250
    assert n_taken == 30
    assert refused == [(code, enhanced)] * 18
    with Wire(server.address, source="127.0.0.2").hello() as other:
        assert [other.say(line).code for line in lines] == [250] * len(lines)
    rows = server.wait_events(18, "rejected")
    assert {(row["stage"], row["code"]) for row in rows} == {(lines[-1][:4].lower(), code)}


def test_client_errors_past_the_limit_end_the_session_and_close_the_door(
    sink: Sink, serve: Serve, stack: contextlib.ExitStack
) -> None:
    server = serve(limited(sink.via, errors_per_minute=6))
    clients = Clients(server, stack)
    clients.add(4)
    wires = clients.hello()
    for turn in range(6):
        assert wires[turn % 4].say("XYZZY").code == 500
    assert wires[0].say("NOOP").code == 250
    assert wires[0].say("XYZZY").code == 500
    answer = wires[0].read()
    assert (answer.code, answer.enhanced) == (421, "4.7.0")
    assert wires[0].is_over()
    assert wires[1].mail().code == 250
    assert not is_let_in(server)
    assert is_let_in(server, "127.0.0.2")


def test_client_in_relay_networks_is_exempt_unless_the_operator_says_otherwise(
    sink: Sink, serve: Serve, stack: contextlib.ExitStack
) -> None:
    client = {"connections": 1, "connections_per_minute": 1, "messages_per_minute": 1, "errors_per_minute": 1}
    relay = {"networks": ["127.0.0.1/32"]}
    local = {"domains": ["sink.test"], "maildir": "/nonexistent/{local}"}
    server = serve(relaying(sink.via, limits={"client": client}, relay=relay, local=local))
    clients = Clients(server, stack)
    assert clients.add(5) == [220] * 5
    for wire in clients.hello():
        assert wire.say("XYZZY").code == 500
        assert wire.say(MAIL).code == 250
    assert clients.add(2, "127.0.0.2") == [220, 421]


def test_totals_hold_exactly_for_the_machine_and_for_a_listener(
    sink: Sink, serve: Serve, stack: contextlib.ExitStack
) -> None:
    listener = [
        {"name": "mx", "bind": ["127.0.0.1:0"]},
        {"name": "small", "bind": ["127.0.0.1:0"], "connections": 3},
    ]
    server = serve(relaying(sink.via, listener=listener, limits={"connections": 9}))
    small = [stack.enter_context(Wire(server.addresses["small"])).greeting for _ in range(6)]
    assert sorted(answer.code for answer in small) == [220] * 3 + [421] * 3
    codes = Clients(server, stack).add(12)
    assert sorted(codes) == [220] * 6 + [421] * 6


def test_death_of_the_state_process_interrupts_nobody_and_connections_still_count(
    sink: Sink, serve: Serve, stack: contextlib.ExitStack
) -> None:
    server = serve(limited(sink.via, connections=6, messages_per_minute=1000))
    clients = Clients(server, stack)
    assert clients.add(6) == [220] * 6
    wires = clients.hello()
    for _ in range(2):
        server.wait_replaced("state", server.kill_child("state"))
        # Asked while it is away, answered once it has heard who is there.
        assert clients.add(2) == [421] * 2
        assert [wire.mail().code for wire in wires] == [250] * 6
    clients.drop(6)
    wait_until(lambda: is_let_in(server), "room")
    assert sorted(clients.add(8)) == [220] * 6 + [421] * 2
    assert "Traceback" not in server.stderr()


@pytest.mark.parametrize("shut", [[], ["connections", "messages_per_minute"]], ids=["open", "shut"])
def test_state_process_that_does_not_answer_lets_in_or_refuses_as_configured(
    sink: Sink, serve: Serve, stack: contextlib.ExitStack, shut: list[str]
) -> None:
    server = serve(limited(sink.via, connections=3, messages_per_minute=4, shut=shut))
    clients = Clients(server, stack)
    assert clients.add(2) == [220] * 2
    first, _ = clients.hello()
    server.kill_child("state", signal.SIGSTOP)
    try:
        codes = clients.add(4)
        # What it had credit for, it may send; and then it is not stopped, or it is.
        answers = [(first.say(MAIL), first.say("RSET"))[0] for _ in range(8)]
    finally:
        server.kill_child("state", signal.SIGCONT)
    if shut:
        assert codes == [421] * 4
        assert {answer.code for answer in answers} <= {250, 451}
        assert answers[-1].code == 451
    else:
        assert codes == [220] * 4
        assert {answer.code for answer in answers} == {250}
    # Who came in meanwhile counts; so there is room for one only if all were refused.
    wait_until(lambda: is_let_in(server) is bool(shut), "an answer by the counts")
    clients.drop(len(clients.all) - 2)
    wait_until(lambda: is_let_in(server), "room")
    assert sorted(clients.add(3)) == [220, 421, 421]


@pytest.mark.parametrize("is_shut", [False, True], ids=["open", "shut"])
@pytest.mark.parametrize("key", ["connections_per_minute", "recipients_per_minute", "errors_per_minute"])
def test_each_limit_lets_in_or_refuses_while_nobody_counts(
    sink: Sink, serve: Serve, stack: contextlib.ExitStack, key: str, is_shut: bool
) -> None:
    server = serve(limited(sink.via, **{key: 4}, shut=[key] if is_shut else []))
    clients = Clients(server, stack)
    assert clients.add(1) == [220]
    (wire,) = clients.hello()
    assert wire.say(MAIL).code == 250
    server.kill_child("state", signal.SIGSTOP)
    try:
        # Past its number, and past whatever was lent of it before.
        lines = [RCPT if key == "recipients_per_minute" else "XYZZY"] * 8
        answers = [] if key == "connections_per_minute" else list(_answers_up_to_421(wire, lines))
        doors = clients.add(1)
    finally:
        server.kill_child("state", signal.SIGCONT)
    last = (answers[-1].code, answers[-1].enhanced) if answers else None
    if not is_shut:
        assert doors == [220]
        assert len(answers) == (8 if answers else 0)
        assert last in (None, (250, "2.0.0"), (500, "5.5.1"))
    elif key == "recipients_per_minute":
        assert (doors, last, len(answers)) == ([220], (451, "4.3.0"), 8)
    elif key == "errors_per_minute":
        assert (doors, last) == ([421], (421, "4.3.2"))
    else:
        assert doors == [421]


def _answers_up_to_421(wire: Wire, lines: list[str]) -> Iterator[Answer]:
    """Say one line after the other, and yield what is said to each; a 421 stands behind the reply to an error."""
    for line in lines:
        answer = wire.say(line)
        yield answer
        if answer.code == 421:
            return
    # It is there by now, if there is one.
    answer = wire.say("NOOP")
    if answer.code == 421:
        yield answer


def test_death_of_a_worker_gives_its_connections_back(sink: Sink, serve: Serve, stack: contextlib.ExitStack) -> None:
    server = serve(limited(sink.via, connections=8))
    clients = Clients(server, stack)
    assert sorted(clients.add(10)) == [220] * 8 + [421] * 2
    server.wait_replaced("worker 1", server.kill_child("worker 1"))
    n_lost = sum(_has_ended(wire) for wire in clients.all)
    assert 0 < n_lost <= 8
    wait_until(lambda: is_let_in(server), "room")
    assert sorted(clients.add(n_lost + 2)) == [220] * n_lost + [421] * 2


def _has_ended(wire: Wire) -> bool:
    wire.sock.settimeout(10)
    try:
        wire.send(b"NOOP\r\n")
        wire.read()
    except (OSError, EOFError):
        return True
    return False


def test_stress_begins_near_the_limit_has_little_patience_and_ends(
    sink: Sink, serve: Serve, stack: contextlib.ExitStack
) -> None:
    server = serve(limited(sink.via, total=20))
    clients = Clients(server, stack)
    for number in range(1, 18):
        assert clients.add(1, f"127.0.1.{number}") == [220]
    idle, wrong, *_ = clients.hello()
    assert idle.mail().code == 250
    assert wrong.say("XYZZY").code == 500
    assert wrong.say("NOOP").code == 250
    assert clients.add(1, "127.0.1.18") == [220]
    (began,) = server.wait_events(1, "stress_began")
    assert (began["n_connections"], began["limit"]) == (18, 20)
    # Nobody gets a second connection while others have none.
    assert clients.add(1, "127.0.1.3") == [421]
    # One error is the end, whatever was forgiven before.
    assert wrong.say("XYZZY").code == 500
    assert wrong.read().code == 421
    # Whose message was taken makes room for others, and who has not begun yet may take longer than that.
    answer = idle.read()
    assert (answer.code, answer.enhanced) == (421, "4.3.2")
    assert clients.all[2].say("NOOP").code == 250
    clients.drop(8)
    (ended,) = server.wait_events(1, "stress_ended")
    assert ended["n_connections"] <= 14
    assert clients.add(2, "127.0.1.17") == [220] * 2
    last = clients.all[0]
    assert last.say("XYZZY").code == 500
    assert last.say("NOOP").code == 250


def test_stress_silence_is_allowed_for_ten_seconds_only(sink: Sink, serve: Serve, stack: contextlib.ExitStack) -> None:
    server = serve(limited(sink.via, total=20))
    clients = Clients(server, stack)
    for number in range(1, 19):
        assert clients.add(1, f"127.0.1.{number}") == [220]
    server.wait_events(1, "stress_began")
    silent, in_data, *others = clients.all
    silent.hello()
    in_data.hello().begin()
    for wire in others:
        assert wire.hello().say(MAIL).code == 250
    began_at = time.monotonic()
    gone: dict[Wire, float] = {}
    while len(gone) < 2 and time.monotonic() < began_at + 30:
        # They come further all the time, and keep the number up.
        assert {wire.say(RCPT).code for wire in others} == {250}
        ended, _, _ = select.select([wire.sock for wire in (silent, in_data) if wire not in gone], [], [], 0.2)
        for wire in (silent, in_data):
            if wire.sock in ended:
                gone[wire] = time.monotonic() - began_at
                answer = wire.read()
                assert (answer.code, answer.enhanced) == (421, "4.4.2")
    assert len(gone) == 2
    assert min(gone.values()) > 9
    assert server.events("stress_ended") == []


IDLING = {
    "octets": b"x",
    "noop": b"NOOP\r\n",
    "anew": b"RSET\r\nMAIL FROM:<a@source.test>\r\n",
    "drops": b"x",
}


def test_stress_who_only_keeps_a_connection_busy_loses_it(
    sink: Sink, serve: Serve, stack: contextlib.ExitStack
) -> None:
    config = limited(sink.via, total=20)
    limits = config["limits"]
    assert isinstance(limits, dict)
    server = serve({**config, "limits": {**limits, "command_timeout_s": 2, "data_timeout_s": 2}})
    clients = Clients(server, stack)
    for number in range(1, 20):
        assert clients.add(1, f"127.0.1.{number}") == [220]
    server.wait_events(1, "stress_began")
    # All but the idle ones do what they came for, if slowly; they are so many that the stress goes on.
    slow, *others = clients.hello()
    idle = dict(zip(IDLING, others, strict=False))
    busy = others[len(idle) :]
    for wire in (slow, idle["drops"]):
        wire.begin()
    for wire in busy:
        assert wire.say(MAIL).code == 250
    for _ in range(16):
        time.sleep(0.25)
        for name, wire in idle.items():
            with contextlib.suppress(OSError):
                wire.send(IDLING[name])
        for wire in busy:
            assert wire.say(RCPT).code == 250
        slow.send(b"x" * 248 + b"\r\n")
    assert not server.events("stress_ended")
    for name, wire in idle.items():
        assert wire.is_over(), name
    slow.send(b".\r\n")
    assert slow.read().code == 250
    assert busy[0].say("DATA").code == 354
    assert is_let_in(server, "127.0.2.1")


def test_flood_of_addresses_costs_no_memory_without_end(sink: Sink, serve: Serve) -> None:
    server = serve(limited(sink.via, connections_per_minute=10))
    pid = server.children()["state"]
    with open_link(str(server.data_dir), STATE_NAME) as worker:
        rules = Rules(5000, {}, 50, (0, 0, 0, 10))
        worker.sendall(frame(Kind.HELLO, Hello(VERSION, 1, 1e12, rules, ())))
        seen = [_flood(worker, first, 40_000) for first in (0, 40_000, 80_000)]
    assert title_of(pid) == "mta: state"
    assert seen == [40_000] * 3
    assert _rss_octets(pid) < 100_000_000
    assert is_let_in(server)


def _flood(worker: socket.socket, first: int, n_networks: int) -> int:
    """Come once from each of so many networks, and go; return how many were let in."""
    frames, n_in = FrameReader(1 << 20), 0
    for start in range(first, first + n_networks, 1000):
        names = [number.to_bytes(4) for number in range(start, start + 1000)]
        worker.sendall(frame(Kind.ASK, [Ask(start + at, name, "mx") for at, name in enumerate(names)]))
        n_waiting = 1000
        while n_waiting:
            for kind, payload in frames.feed(worker.recv(1 << 16)):
                if kind == Kind.ANSWER:
                    answers = _answers(payload)
                    n_waiting -= len(answers)
                    n_in += answers.count(0)
        worker.sendall(frame(Kind.LEFT, [("mx", name) for name in names]))
        worker.sendall(frame(Kind.SPENT, [Spent(name, (0, 0, 0, 1), (0, 0, 0, 1), False) for name in names]))
    return n_in


def _answers(payload: bytes) -> list[int]:
    return [refusal for _, refusal, _ in msgspec.msgpack.decode(payload)]


def _rss_octets(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.parametrize(
    "said",
    [
        b"\xff" * 64,
        frame(Kind.ASK, [Ask(1, b"\0\0\0\0", "mx")]),
        frame(Kind.HELLO, [1]),
        frame(99),
        frame(Kind.LEFT, 5),
    ],
    ids=["noise", "before hello", "short hello", "unknown", "no list"],
)
def test_word_that_makes_no_sense_costs_its_sender_the_connection_and_nobody_else_anything(
    strict: Server, said: bytes
) -> None:
    pid = strict.children()["state"]
    with Wire(strict.address) as client, open_link(str(strict.data_dir), STATE_NAME) as sock:
        sock.settimeout(10)
        sock.sendall(said)
        assert sock.recv(100) == b""
        assert not is_let_in(strict)
        assert client.say("NOOP").code == 250
    assert strict.children()["state"] == pid
    wait_until(lambda: is_let_in(strict), "room")

"""Bad input by SMTP: it ends no process, costs no neighbour more than a moment, and shows nowhere as it came: not in a
reply, not in an event, not on stderr.

The servers here have one worker, so that the neighbour is surely served by the process that is under attack.
"""

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.server import Server
from bench.sink import Sink
from bench.wait import wait_until
from tests.accept.wire import Wire
from tests.harness import relaying

MOMENT_S = 2.0
SIZE_OCTETS = 50 * 1024 * 1024
LOST = (ConnectionError, TimeoutError, EOFError)


@pytest.fixture(scope="module")
def attacked() -> Iterator[tuple[Server, Sink]]:
    """A server with one worker, and the sink behind it."""
    limits = {"error_delay_s": 0.05, "command_timeout_s": 3, "data_timeout_s": 3}
    with Sink() as sink, Server(relaying(sink.via, workers={"count": 1}, limits=limits)) as server:
        yield server, sink


@contextlib.contextmanager
def unharmed(server: Server) -> Iterator[None]:
    """Let a neighbour send mail meanwhile; in the end it was never kept waiting and nothing has died or shows."""
    before = server.children()
    is_over = threading.Event()

    def behave() -> list[float]:
        waits: list[float] = []
        with Wire(server.address).hello() as wire:
            while not waits or not is_over.is_set():
                began = time.monotonic()
                assert wire.mail(recipient="neighbour@sink.test").code == 250
                waits.append(time.monotonic() - began)
                is_over.wait(0.02)
        return waits

    with ThreadPoolExecutor(1) as pool:
        neighbour = pool.submit(behave)
        try:
            yield
        finally:
            is_over.set()
        assert max(neighbour.result(20)) < MOMENT_S
    assert server.children() == before
    assert server.stderr().count("\n") == 1, server.stderr()
    for path in (server.data_dir / "events").glob("*"):
        text = path.read_bytes().decode("utf-8")
        assert all(line.isprintable() for line in text.split("\n")), path


def rss_anon(pid: int) -> int:
    """Return the octets of RAM that belong to a process alone."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(256)) * 2
EVERY_OCTET = b"".join(bytes([octet]) * 3 + b" x\r\n" for octet in range(256) if octet not in b"\r\n")


@pytest.mark.parametrize(
    "octets",
    [
        # Other protocols.
        b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 60\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.test>\r\n",
        TLS_HELLO,
        b"\x80\x2e\x01\x00\x02" + TLS_HELLO,
        # No line end, or nothing but.
        b"x" * 1_000_000,
        b"x" * 1_000_000 + b"\r\n",
        b"\r\n" * 20_000,
        b"\n" * 20_000,
        b"\r" * 20_000,
        # No letters.
        b"\0" * 100_000,
        b"\0\r\n" * 10_000,
        EVERY_OCTET,
        b"\xff\xfe\xfd\r\n\xc0\x80\r\n\xed\xa0\x80\r\n",
        # A lot of it.
        b"junk of every kind\r\n" * 10_000,
        random.Random(7).randbytes(500_000),
        b"EHLO c.test\r\n" + b"MAIL FROM:<a@b.test>\r\nRSET\r\n" * 5_000,
    ],
    ids=range(16),
)
def test_junk_harms_nobody(attacked: tuple[Server, Sink], octets: bytes) -> None:
    server, _ = attacked
    with unharmed(server), contextlib.suppress(*LOST), Wire(server.address, 5) as wire:
        wire.send(octets)
        wire.sock.shutdown(socket.SHUT_WR)
        while True:
            assert wire.read().code in (250, 421, 500, 501, 502, 503)


@pytest.mark.parametrize(
    "argument",
    [
        "\x00",
        "a\x1b[2Jb.test",
        "a\x7fb.test",
        "a\tb.test",
        "a\x85b.test",
        "\u202ec.test",
        "c.test\\r\\n250 OK",
        '"><script>',
        "%s%n%x",
        "x" * 1900,
        "\ud800",
        "\udcff\udcfe",
    ],
    ids=range(12),
)
def test_odd_characters_in_arguments_are_refused_and_escaped(attacked: tuple[Server, Sink], argument: str) -> None:
    server, _ = attacked
    odd = argument.encode("utf-8", "surrogatepass" if argument == "\ud800" else "surrogateescape")
    with unharmed(server), Wire(server.address).hello() as wire:
        wire.send(b"EHLO " + odd + b"\r\n")
        assert wire.read().code // 100 == 5
        wire.send(b"MAIL FROM:<" + odd + b"> SMTPUTF8\r\n")
        assert wire.read().code // 100 == 5
        wire.send(b"MAIL FROM:<a@b.test> SMTPUTF8 X=" + odd + b"\r\n")
        assert wire.read().code // 100 == 5
        assert wire.say("MAIL FROM:<a@source.test> SMTPUTF8").code == 250
        wire.send(b"RCPT TO:<" + odd + b">\r\n")
        assert wire.read().code // 100 == 5
        assert wire.say("RCPT TO:<b@sink.test>").code == 250
        assert wire.say("QUIT").code == 221


STAGES = {
    "connected": b"",
    "in a command": b"EHLO c.te",
    "after MAIL": b"EHLO c.test\r\nMAIL FROM:<a@source.test>\r\n",
    "after RCPT": b"EHLO c.test\r\nMAIL FROM:<a@source.test>\r\nRCPT TO:<gone@sink.test>\r\n",
}
STAGES["after DATA"] = STAGES["after RCPT"] + b"DATA\r\n"
STAGES["in DATA"] = STAGES["after DATA"] + b"Subject: x\r\n\r\n" + b"x" * 50_000
STAGES["before the dot"] = STAGES["in DATA"] + b"\r\n"
STAGES["in the dot"] = STAGES["in DATA"] + b"\r\n.\r"


@pytest.mark.parametrize("is_reset", [False, True], ids=["half closed", "reset"])
@pytest.mark.parametrize("stage", STAGES)
def test_client_gone_before_the_dot_leaves_nothing(attacked: tuple[Server, Sink], stage: str, is_reset: bool) -> None:
    server, sink = attacked
    with unharmed(server), Wire(server.address, 2) as wire:
        wire.send(STAGES[stage])
        if is_reset:
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            wire.sock.shutdown(socket.SHUT_WR)
            assert wire.is_over()
    assert "gone@sink.test" not in {to for message in sink.messages() for to in message.recipients}


def test_client_half_closed_after_the_dot_is_answered(attacked: tuple[Server, Sink]) -> None:
    server, sink = attacked
    with unharmed(server):
        for number in range(20):
            with Wire(server.address) as wire:
                to = f"half{number}@sink.test"
                wire.send(STAGES["after MAIL"] + f"RCPT TO:<{to}>\r\nDATA\r\n\r\nx\r\n.\r\nQUIT\r\n".encode())
                wire.sock.shutdown(socket.SHUT_WR)
                assert [wire.read().code for _ in range(6)] == [250, 250, 250, 354, 250, 221]
                assert wire.is_over()
    wait_until(
        lambda: sum(to.startswith("half") for message in sink.messages() for to in message.recipients) == 20,
        "each of them once",
    )


def test_connections_made_and_dropped_harm_nobody(attacked: tuple[Server, Sink]) -> None:
    server, _ = attacked
    with unharmed(server):
        for number in range(300):
            with socket.create_connection(server.address) as sock:
                if number % 3 == 0:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if number % 3 == 1:
                    sock.sendall(b"QUIT\r\n")


def test_dialog_one_octet_at_a_time_is_a_dialog(attacked: tuple[Server, Sink]) -> None:
    server, sink = attacked
    with unharmed(server), Wire(server.address) as wire:
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        said = STAGES["after MAIL"] + b"RCPT TO:<slow@sink.test>\r\nDATA\r\nSubject: slow\r\n\r\n..x\r\n.\r\nQUIT\r\n"
        for octet in said:
            wire.send(bytes([octet]))
            time.sleep(0.002)
        assert [wire.read().code for _ in range(6)] == [250, 250, 250, 354, 250, 221]
    wait_until(lambda: any(message.recipients == ["slow@sink.test"] for message in sink.messages()), "the slow mail")
    (slow,) = [message for message in sink.messages() if message.recipients == ["slow@sink.test"]]
    assert slow.content.endswith(b"Subject: slow\r\n\r\n.x\r\n")


def test_client_that_reads_no_replies_is_held_back(attacked: tuple[Server, Sink]) -> None:
    server, _ = attacked
    n_noops = 100_000
    worker = server.children()["worker 1"]
    with unharmed(server), socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(server.address)
        before = rss_anon(worker)
        sock.settimeout(1.0)
        left = memoryview(b"NOOP\r\n" * n_noops)
        with contextlib.suppress(TimeoutError):
            while left:
                left = left[sock.send(left) :]
        assert rss_anon(worker) - before < 8 * 1024 * 1024
        # Once it reads, it gets what it asked for, up to the last one.
        with ThreadPoolExecutor(1) as pool:
            sock.settimeout(10)
            sending = pool.submit(sock.sendall, left)
            got = 0
            expected = n_noops * len(b"250 2.0.0 Ok\r\n")
            while got < expected and (piece := sock.recv(65_536)):
                got += len(piece)
            sending.result(10)
        assert got >= expected
        assert rss_anon(worker) - before < 8 * 1024 * 1024


def test_client_that_never_reads_its_replies_is_dropped(attacked: tuple[Server, Sink]) -> None:
    server, _ = attacked
    n_closed = len(server.events("connection_closed"))
    with unharmed(server), socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(server.address)
        me = sock.getsockname()
        sock.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            sock.sendall(b"HELP\r\n" * 2_000_000)

        def is_dropped() -> bool:
            try:
                sock.send(b"HELP\r\n")
            except TimeoutError:
                return False
            except ConnectionError:
                return True
            return False

        # Three seconds of silence, and ten to read the last reply.
        wait_until(is_dropped, f"the end of {me}", 18, step_s=0.1)
    assert len(server.wait_events(n_closed + 1, "connection_closed")) > n_closed


SMUGGLED = b"MAIL FROM:<x@evil.test>\r\nRCPT TO:<smuggled@sink.test>\r\nDATA\r\nevil\r\n"


@pytest.mark.parametrize("is_in_pieces", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize(
    ("false_end", "code"),
    [
        # A CR or LF alone: refused, at the true end.
        *((end, 550) for end in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n.\r\r\n")),
        *((end, 550) for end in (b"\n\n.\n\n", b"\r\r\n.\r\r\n", b"\r\n\n.\r\n", b"\n\r.\n\r", b"\r\n.\n\r\n")),
        (b"\r\0\n.\r\0\n", 550),
        # A NUL, a blank or a form feed is an octet like any other.
        *((end, 250) for end in (b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n. \r\n", b"\r\n.\t\r\n", b"\r\n\x0c.\r\n")),
        # Other alphabets' line ends.
        *((end, 250) for end in (b"\xc2\x85.\xc2\x85", b"\xe2\x80\xa8.\xe2\x80\xa8", b"\x0b.\x0b", b"\x8d.\x8d")),
    ],
)
def test_false_end_of_data_smuggles_nothing(
    attacked: tuple[Server, Sink], false_end: bytes, code: int, is_in_pieces: bool
) -> None:
    server, sink = attacked
    with Wire(server.address).hello() as wire:
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.begin("outer@sink.test").send(b"Subject: x\r\n\r\na")
        for octet in false_end if is_in_pieces else (false_end,):
            wire.send(bytes([octet]) if isinstance(octet, int) else octet)
            time.sleep(0.003)
        wire.send(SMUGGLED + b".\r\n")
        answer = wire.read()
        assert answer.code == code, answer
        assert wire.say("NOOP").text == "2.0.0 Ok"
    assert "smuggled@sink.test" not in {to for message in sink.messages() for to in message.recipients}


def test_true_end_of_data_in_pieces_is_the_end(attacked: tuple[Server, Sink]) -> None:
    server, _ = attacked
    end = b"\r\n.\r\n"
    with Wire(server.address).hello() as wire:
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(1, len(end)):
            wire.begin().send(b"Subject: x\r\n\r\na" + end[:cut])
            time.sleep(0.01)
            wire.send(end[cut:] + b"NOOP\r\n")
            assert [wire.read().code, wire.read().code] == [250, 250]


def test_message_larger_than_announced_is_read_to_its_end_and_not_kept(attacked: tuple[Server, Sink]) -> None:
    server, _ = attacked
    worker = server.children()["worker 1"]
    line = b"x" * 1022 + b"\r\n"
    with unharmed(server), Wire(server.address, 30) as wire:
        assert f"SIZE {SIZE_OCTETS}" in wire.say("EHLO c.test").text
        wire.begin().send(line * (SIZE_OCTETS // 1024) + b"\r\n.\r\n")
        assert wire.read().code == 552
        before = rss_anon(worker)
        wire.begin()
        for _ in range(4):
            wire.send(line * (SIZE_OCTETS // 1024))
        assert rss_anon(worker) - before < 8_000_000
        wire.send(b".\r\n")
        assert wire.read().code == 552
        assert wire.mail().code == 250


def test_everything_so_far_was_no_fault(attacked: tuple[Server, Sink]) -> None:
    assert attacked[0].events("fault") == []


def test_client_that_sends_on_without_waiting_is_held_back_and_grows_nothing(attacked: tuple[Server, Sink]) -> None:
    """It pours in mail after mail, faster than they can be stored: it waits in its own kernel."""
    server, _ = attacked
    worker = server.children()["worker 1"]
    mail = b"MAIL FROM:<a@source.test>\r\nRCPT TO:<b@sink.test>\r\nDATA\r\n" + b"x" * 76 + b"\r\n.\r\n"
    with Wire(server.address).hello() as wire, unharmed(server):
        wire.mail()
        warm = rss_anon(worker)
        wire.sock.setblocking(False)
        until = time.monotonic() + 3.0
        most = 0
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                wire.sock.send(mail * 500)
            with contextlib.suppress(BlockingIOError):
                wire.sock.recv(1 << 20)
            most = max(most, rss_anon(worker))
    assert most - warm < 16 * 1024 * 1024

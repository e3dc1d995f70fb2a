"""`mta serve` from the outside: readiness, its processes, its end."""

import asyncio
import contextlib
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

from bench.client import Client
from bench.cpu import title_of
from bench.server import Server
from bench.sink import Sink
from bench.wait import wait_until
from tests.harness import relaying, run_async
from tests.server.conftest import Serve


def _connects(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=5):
        return True
    return False


def test_serve_when_ready_names_every_listener_with_its_real_port(sink: Sink, serve: Serve) -> None:
    listeners = [
        {"name": "mx", "bind": ["127.0.0.1:0"]},
        {"name": "submit", "bind": ["127.0.0.2:0"], "tenant": "us"},
    ]
    server = serve({**relaying(sink.via), "listener": listeners})
    assert set(server.addresses) == {"mx", "submit"}
    for host, port in server.addresses.values():
        assert port > 0
        with socket.create_connection((host, port), timeout=5) as sock:
            assert sock.recv(512).startswith(b"220 mx.example.test ")


def test_serve_when_ready_runs_titled_children(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via, workers={"count": 3}))
    assert {"queue", "report", "worker 1", "worker 2", "worker 3"} <= set(server.children())
    assert title_of(server.pid) == "mta: master"


def test_serve_after_sigint_and_sigterm_exits_0_and_leaves_nobody(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    for number in (signal.SIGINT, signal.SIGTERM):
        pids = server.children().values()
        server.send_signal(number)
        assert server.wait(15) == 0
        assert not [pid for pid in pids if title_of(pid).startswith("mta: ")]
        server.start()


def test_serve_sigterm_inside_data_takes_the_message_first(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    run_async(_end_inside_data(server))
    assert server.wait(15) == 0
    # It was promised: if it has not gone out before the end, it does after the next start.
    server.start()
    sink.wait_count(1)
    server.wait_empty()
    (message,) = sink.messages()
    assert message.content.endswith(b"Subject: x\r\n\r\none\r\ntwo\r\n")


async def _end_inside_data(server: Server) -> None:
    client = Client(*server.address)
    await client.connect()
    for line in ("MAIL FROM:<a@source.test>", "RCPT TO:<b@sink.test>", "DATA"):
        assert (await client.command(line)).code in (250, 354)
    await client.write(b"Subject: x\r\n\r\none\r\n")
    server.send_signal(signal.SIGTERM)
    await asyncio.to_thread(wait_until, lambda: not _connects(server.address), "a closed door", 5)
    await client.write(b"two\r\n.\r\n")
    answer = await client.read_answer()
    assert answer.code == 250, answer
    await client.close()


def test_serve_data_dir_in_use_waits_until_the_other_has_left(sink: Sink, serve: Serve) -> None:
    first = serve(relaying(sink.via))
    second = serve(relaying(sink.via))
    second.stop()
    second.configure({**relaying(sink.via), "data_dir": str(first.data_dir)})
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(second.start)
        wait_until(lambda: "another server" in second.stderr(), "a word about waiting", 10)
        assert not starting.done()
        assert first.stop() == 0
        starting.result(15)
    assert second.stop() == 0

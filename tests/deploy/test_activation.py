"""Sockets that a service manager has opened for us: sd_listen_fds(3), by systemd's own tool and by a stand-in."""

import os
import signal
import socket
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.server import StartFailed
from bench.sink import Sink
from bench.wait import wait_until
from mta.errors import StartError
from mta.master.activation import Inherited
from tests.deploy.conftest import PATIENCE_S, Launch, free_port, send
from tests.harness import relaying, require_tool

HANDOVER = str(Path(__file__).with_name("handover.py"))


def handing_over(*what: str) -> list[str]:
    """Return the words in front of a command that has it start with these sockets."""
    return [sys.executable, HANDOVER, *what, "--"]


def sockets_of(pid: int) -> set[str]:
    """Return which sockets a process has open."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        link = f"/proc/{pid}/fd/{name}"
        if os.path.lexists(link):
            found.add(os.readlink(link))
    return {link for link in found if link.startswith("socket:")}


def listening(port: int) -> dict[str, str]:
    """Return the inodes of the sockets that listen on an IPv4 port, as links name them, and their addresses."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        f"socket:[{row[9]}]": row[1] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port
    }


def test_systemd_hands_over_a_socket_and_the_first_client_is_served(sink: Sink, launch: Launch) -> None:
    tool = require_tool("systemd-socket-activate", "systemd")
    port = free_port()
    address = f"127.0.0.1:{port}"
    server = launch(
        relaying(sink.via, listener=[{"name": "mx", "bind": [address, "127.0.0.1:0"]}]), [tool, "-l", address]
    )
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(server.start)
        wait_until(lambda: "Listening on" in server.stderr() or starting.done(), "systemd-socket-activate", PATIENCE_S)
        # It is this client that has the server started.
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
            client.settimeout(PATIENCE_S)
            assert client.recv(512).startswith(b"220 mx.example.test ")
        starting.result(PATIENCE_S)
    assert f"mta: ready mx={address} mx=127.0.0.1:" in server.stderr()
    (ours,) = listening(port)
    has_it = {name for name, pid in server.children().items() if ours in sockets_of(pid)}
    assert has_it == {"worker 1", "worker 2"}
    send(("127.0.0.1", port), "a@sink.test")
    sink.wait_count(1)
    # A worker that comes later has it, too.
    for name in ("worker 1", "worker 2"):
        server.wait_replaced(name, server.kill_child(name))
    send(("127.0.0.1", port), "b@sink.test")
    sink.wait_count(2)
    assert server.stop() == 0


def test_sockets_of_one_address_are_dealt_out_among_the_workers(launch: Launch) -> None:
    port = free_port()
    port6 = free_port("::1")
    what = [*[f"shared=127.0.0.1:{port}"] * 2, f"tcp=[::1]:{port6}"]
    config = {"workers": {"count": 3}, "listener": [{"bind": [f"[::1]:{port6}", f"127.0.0.1:{port}"]}]}
    server = launch(config, handing_over(*what))
    server.start()
    family = server.children()
    found = listening(port)
    assert len(found) == 2
    held = [sockets_of(family[f"worker {number}"]) & found.keys() for number in (1, 2, 3)]
    assert [len(one) for one in held] == [1, 1, 1]
    assert held[0] == held[2] != held[1]
    with socket.create_connection(("::1", port6), PATIENCE_S) as client:
        assert client.recv(512).startswith(b"220 ")
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("tcp=127.0.0.2:{port}", "the socket socket0 for 127.0.0.2:{port} was handed over, but no [[listener]] binds"),
        ("dual=[::]:{port}", "takes IPv4 connections on [::]:{port}, too: set BindIPv6Only=ipv6-only"),
        ("quiet=127.0.0.1:{port}", "file descriptor 3 (socket0), handed over by LISTEN_FDS, is not a listening TCP"),
        ("udp=127.0.0.1:{port}", "is not a listening TCP socket: expected ListenStream=ADDRESS:PORT"),
        ("unix={tmp}/sock", "is not a listening TCP socket"),
        ("file={tmp}/file", "file descriptor 3 (socket0), handed over by LISTEN_FDS, is not a socket"),
        ("none=", "file descriptor 3 (socket0), handed over by LISTEN_FDS, cannot be used: Bad file descriptor"),
    ],
)
def test_socket_that_cannot_be_served_keeps_the_server_from_starting(
    launch: Launch, tmp_path: Path, what: str, sentence: str
) -> None:
    port = free_port("::")
    given = what.format(port=port, tmp=tmp_path)
    server = launch({"workers": {"count": 1}}, handing_over(given))
    with pytest.raises(StartFailed) as failed:
        server.start()
    assert sentence.format(port=port) in str(failed.value)
    assert "Traceback" not in str(failed.value)
    assert "mta serve ended with 1" in str(failed.value)


def test_more_sockets_of_one_address_than_workers_are_all_served(launch: Launch) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    config = {"workers": {"count": 1}, "listener": [{"bind": [address]}]}
    server = launch(config, handing_over(*[f"shared={address}"] * 3))
    server.start()
    worker = server.children()["worker 1"]
    assert sockets_of(worker) >= listening(port).keys()
    # The kernel deals them out over all three.
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
            assert client.recv(512).startswith(b"220 ")
    # And none of them is closed, or lost, by a reload.
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: "mta: reloaded" in server.stderr(), "the reload", PATIENCE_S)
    assert len(listening(port)) == 3
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
            assert client.recv(512).startswith(b"220 ")
    assert server.stop() == 0


def test_variables_meant_for_somebody_else_are_removed_and_not_followed() -> None:
    environ = {"LISTEN_FDS": "7", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a", "HOME": "/"}
    Inherited(environ, os.getpid()).finish()
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(("count", "said"), [("two", "two"), ("-1", "-1"), ("9" * 5000, "9999999999")])
def test_count_that_is_no_number_is_an_error(count: str, said: str) -> None:
    with pytest.raises(StartError, match=f"LISTEN_FDS: expected a number, got '{said}'"):
        Inherited({"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())}, os.getpid())


def test_name_that_is_not_fit_to_be_shown_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "a\x1b[31m\nb"}
    with tempfile.TemporaryFile() as file:
        monkeypatch.setattr("mta.master.activation.FIRST_FD", file.fileno())
        with pytest.raises(StartError, match=r"\(a\?\[31m\?b\)"):
            Inherited(environ, os.getpid())

"""kill -9 under load: at random, and at the points where most is at stake.

worker, queue, report, state   one of them, at whatever stage each message happens to be
all               every process of the server at once, the master too; then it is started again
commit            the queue process, when a commit has returned and its answer is about to be written (strace sees to
                  it: the process dies on entering the first send to a worker after the write of the meta page)
250               a worker, when the next hop has said 250 and the settlement is not written (the sink sees to it)
hello             the queue process, when workers are checking in with the one that replaced another
link              nobody: one connection between a worker and the queue process is cut
"""

import asyncio
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from bench.server import Server
from bench.sink import Rule, Sink
from bench.wait import wait_until
from mta.linkpath import LINK_NAME
from tests.harness.ledger import Ledger

__all__ = ["KILLS", "kill_under_load"]

STRACE_S = 10.0
PIDFD_GETFD = 438
# Within this the workers have checked in with a new queue process.
HELLO_S = 0.03


def _kill(server: Server, name: str) -> None:
    server.wait_replaced(name, server.kill_child(name))


def _kill_worker(server: Server, sink: Sink) -> None:
    _kill(server, random.choice([name for name in server.children() if name.startswith("worker ")]))


def _kill_queue(server: Server, sink: Sink) -> None:
    _kill(server, "queue")


def _kill_report(server: Server, sink: Sink) -> None:
    _kill(server, "report")


def _kill_state(server: Server, sink: Sink) -> None:
    _kill(server, "state")


def _kill_all(server: Server, sink: Sink) -> None:
    server.kill_all()
    server.start()


def _kill_after_commit(server: Server, sink: Sink) -> None:
    pid = server.children()["queue"]
    # Only what the process does after its next flush: a send before that answers an older commit.
    script = ["strace", "-qq", "-p", str(pid), "-e", "trace=fdatasync,sendto"]
    kill = ["-e", "inject=sendto:signal=SIGKILL:when=2"]
    with subprocess.Popen([*script, *kill], stderr=subprocess.DEVNULL) as tracer:
        try:
            server.wait_replaced("queue", pid, STRACE_S)
        finally:
            tracer.send_signal(signal.SIGINT)


def _kill_after_250(server: Server, sink: Sink) -> None:
    pids = {name: pid for name, pid in server.children().items() if name.startswith("worker ")}
    sink.rule(Rule(stage="message", kills=tuple(pids.values()), times=1))
    try:
        wait_until(lambda: any(server.children().get(name) != pid for name, pid in pids.items()), "a dead worker", 20)
        wait_until(lambda: pids.keys() <= server.children().keys(), "another worker", 20)
    finally:
        sink.rule()


def _kill_during_hello(server: Server, sink: Sink) -> None:
    pid = server.wait_replaced("queue", server.kill_child("queue"))
    time.sleep(random.uniform(0, HELLO_S))
    server.kill_child("queue")
    server.wait_replaced("queue", pid)


def _cut_link(server: Server, sink: Sink) -> None:
    """Shut down one of a worker's connections to the queue process, from outside: pidfd_getfd(2), for root only."""
    pid = random.choice([pid for name, pid in server.children().items() if name.startswith("worker ")])
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.pidfd_open(pid)
    ends: list[socket.socket] = []
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                continue
            sock = socket.socket(fileno=libc.syscall(PIDFD_GETFD, handle, int(name), 0))
            is_stream = sock.family == socket.AF_UNIX and sock.type == socket.SOCK_STREAM
            if is_stream and LINK_NAME in str(_peer(sock)):
                ends.append(sock)
            else:
                sock.close()
        if ends:
            random.choice(ends).shutdown(socket.SHUT_RDWR)
    finally:
        for sock in ends:
            sock.close()
        os.close(handle)


def _peer(sock: socket.socket) -> object:
    try:
        return sock.getpeername()
    except OSError:
        return None


KILLS: Mapping[str, Callable[[Server, Sink], None]] = {
    "worker": _kill_worker,
    "report": _kill_report,
    "state": _kill_state,
    "queue": _kill_queue,
    "all": _kill_all,
    "commit": _kill_after_commit,
    "250": _kill_after_250,
    "hello": _kill_during_hello,
    "link": _cut_link,
}


async def kill_under_load(
    server: Server,
    sink: Sink,
    ledger: Ledger,
    kills: Sequence[str],
    *,
    n_sessions: int = 8,
    rest_s: float = 0.4,
    pace_s: float = 0.008,
) -> None:
    """Send without end, do one of KILLS after the other `rest_s` apart, stop a moment after the last was replaced.

    Each session rests `pace_s` between its messages.
    """
    is_over = False

    async def kill() -> None:
        nonlocal is_over
        try:
            for name in kills:
                await asyncio.sleep(rest_s)
                await asyncio.to_thread(KILLS[name], server, sink)
            await asyncio.sleep(rest_s)
        finally:
            is_over = True

    async with asyncio.TaskGroup() as group:
        group.create_task(ledger.send(1_000_000, n_sessions, pace_s=pace_s, is_needed=lambda: not is_over))
        group.create_task(kill())

"""A service manager that is told states: readiness, signs of life, what it shows, the end. sd_notify(3)."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.sink import Sink
from mta.master.notify import Watchdog, notify, reloading
from tests.deploy.conftest import PATIENCE_S, Launch
from tests.harness import relaying

WATCHDOG_S = 0.4


class Manager:
    """The receiving end of a NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.states: list[str] = []
        self._n_seen = 0
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(address.replace("@", "\0"))
        self._sock.settimeout(0.05)

    def read(self) -> list[str]:
        """Return the states that came since the last call, after waiting a moment for one."""
        came: list[str] = []
        try:
            while True:
                came.append(self._sock.recv(4096).decode())
        except TimeoutError:
            self.states += came
            return came

    def wait_for(self, is_it: Callable[[str], bool], what: str) -> None:
        """Read on, from where the last call ended, to a state that is the one."""
        end = time.monotonic() + PATIENCE_S
        while True:
            while self._n_seen < len(self.states):
                self._n_seen += 1
                if is_it(self.states[self._n_seen - 1]):
                    return
            assert time.monotonic() < end, f"no {what} in {self.states}"
            self.read()

    def close(self) -> None:
        """Take nothing any more."""
        self._sock.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A manager at a path of the file system."""
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


def test_manager_sees_readiness_signs_of_life_trouble_and_the_end(manager: Manager, sink: Sink, launch: Launch) -> None:
    usec = str(round(WATCHDOG_S * 1e6))
    server = launch(relaying(sink.via), NOTIFY_SOCKET=manager.address, WATCHDOG_USEC=usec)
    server.start()
    manager.wait_for(lambda state: state.startswith("STATUS=serving mx=127.0.0.1:"), "status")
    assert "READY=1" in manager.states
    assert {"queue", "report", "worker 1", "worker 2"} <= set(server.children())
    for _ in range(3):
        manager.wait_for(lambda state: state == "WATCHDOG=1", "sign of life")
    pid = server.kill_child("worker 1")
    manager.wait_for(lambda state: state.endswith("; starting: worker 1"), "word about the worker")
    server.wait_replaced("worker 1", pid)
    manager.wait_for(lambda state: state.startswith("STATUS=serving") and "again" not in state, "end of the trouble")
    # A master that stands still gives none.
    server.send_signal(signal.SIGSTOP)
    manager.read()
    time.sleep(2 * WATCHDOG_S)
    assert manager.read() == []
    n_before = len(manager.states)
    server.send_signal(signal.SIGCONT)
    manager.wait_for(lambda _: "WATCHDOG=1" in manager.states[n_before:], "sign of life")
    assert server.stop() == 0
    manager.read()
    assert manager.states.count("READY=1") == manager.states.count("STOPPING=1") == 1
    assert manager.states.index("READY=1") < manager.states.index("STOPPING=1")


def test_manager_that_is_not_there_does_not_keep_the_server_from_serving(tmp_path: Path, launch: Launch) -> None:
    server = launch({}, NOTIFY_SOCKET=str(tmp_path / "nobody"), WATCHDOG_USEC="100000")
    server.start()
    assert f"mta: cannot send READY=1 to NOTIFY_SOCKET {tmp_path}/nobody: No such file" in server.stderr()
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("environ", "is_wanted"),
    [
        ({"WATCHDOG_USEC": "2000000"}, True),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, True),
        # Meant for who started us.
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, False),
        # Nothing asked for, or nothing that makes sense.
        ({}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "²"}, False),
        ({"WATCHDOG_USEC": "9" * 5000}, False),
    ],
)
def test_watchdog_gives_signs_of_life_to_who_wants_them(
    manager: Manager, environ: dict[str, str], is_wanted: bool
) -> None:
    watchdog = Watchdog(manager.address, environ, os.getpid())
    watchdog.pet()
    # The next is due in a second.
    watchdog.pet()
    assert manager.read() == (["WATCHDOG=1"] if is_wanted else [])
    assert (watchdog.due_at < time.monotonic() + 1.1) is is_wanted


def test_reloading_carries_the_time_at_which_it_began() -> None:
    manager = Manager(f"@posthaste-test-{os.getpid()}")
    before = time.monotonic_ns() // 1000
    notify(manager.address, reloading())
    (state,) = manager.read()
    manager.close()
    word, began = state.split("\n")
    assert word == "RELOADING=1"
    assert before <= int(began.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000

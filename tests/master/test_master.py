"""The master over real child processes: births, deaths, stops. What the children do is in `kids`."""

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.tomltext import to_toml
from tests.harness import read_by_all, require_root

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
STEADY = {"queue": "steady", "report": "steady", "state": "steady", "worker": "steady"}


class Server:
    """A master in a process of its own, and what it and its children wrote."""

    def __init__(
        self, file: Path, data_dir: Path, process: dict[str, float | str], mains: dict[str, str], **more: object
    ) -> None:
        self.file = file
        self.data_dir = data_dir
        self.config: dict[str, object] = {
            "hostname": "mx.example.test",
            "data_dir": str(data_dir),
            "listener": [{"name": "mx", "bind": more.get("bind", ["127.0.0.1:0"])}],
            "process": {"drain_s": 5.0, **process},
            "workers": more.get("workers", {"count": 2}),
            "events": {"directory": str(data_dir / "events")},
        }
        self.configure()
        given = {
            "file": str(file),
            "mains": {**STEADY, **mains},
            "module": "tests.master.kids",
            "lock_wait_s": more.get("lock_wait_s", 5.0),
        }
        before, program = more.get("before", []), more.get("program", ["-m", "tests.master.run"])
        assert isinstance(before, list)
        assert isinstance(program, list)
        self.text = ""
        self.process = subprocess.Popen(
            [*before, sys.executable, *program, json.dumps(given)],
            cwd=ROOT,
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(more.get("manager", "")),
                "PYTHONPATH": str(more.get("path", os.environ.get("PYTHONPATH", ""))),
            },
            stderr=subprocess.PIPE,
        )

    def configure(self, **changes: object) -> None:
        """Write the configuration file, with other tables in place of some."""
        self.config |= changes
        self.file.write_text(to_toml(self.config), encoding="utf-8")

    def read_until(self, pattern: str) -> re.Match[str]:
        """Return the match of `pattern` in stderr, reading until there is one."""
        assert self.process.stderr is not None
        end = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < end, f"no {pattern!r} in:\n{self.text}"
            if select.select([self.process.stderr], [], [], 0.2)[0]:
                octets = os.read(self.process.stderr.fileno(), 65_536)
                assert octets, f"ended without {pattern!r}:\n{self.text}"
                self.text += octets.decode()
        return found

    def wait(self) -> int:
        """Return the exit code, when it has ended."""
        assert self.process.stderr is not None
        self.text += self.process.stderr.read().decode()
        return self.process.wait(PATIENCE_S)

    def log(self) -> list[str]:
        """Return what the children wrote down: `NAME PID TEXT` each."""
        path = self.data_dir / "log"
        return path.read_text().splitlines() if path.exists() else []

    def said(self, text: str) -> list[str]:
        """Return the names of the children that wrote exactly `text`, in order."""
        return [found[1] for line in self.log() if (found := re.fullmatch(rf"(.+?) \d+ {re.escape(text)}", line))]

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until `is_so()`."""
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < end, f"{self.log()}\n{self.text}"
            time.sleep(0.02)

    def pids(self) -> dict[str, int]:
        """Return the pids of the living children by name, out of their process titles."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        found = {}
        for pid in Path(path).read_text().split():
            # It may end meanwhile.
            with contextlib.suppress(OSError):
                title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ").decode()
                found[title.removeprefix("mta: ")] = int(pid)
        return found


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a Server; all are ended when the test is over."""
    servers: list[Server] = []

    def begin(
        mains: dict[str, str] | None = None, process: dict[str, float | str] | None = None, **more: object
    ) -> Server:
        data_dir = more.pop("data_dir", tmp_path / "data")
        assert isinstance(data_dir, Path)
        file = tmp_path / f"server{len(servers)}.toml"
        servers.append(Server(file, data_dir, process or {}, mains or {}, **more))
        return servers[-1]

    yield begin
    for server in servers:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGQUIT)
        assert server.process.stderr is not None
        server.process.stderr.read()
        server.process.wait(PATIENCE_S)
        server.process.stderr.close()


def test_serve_all_children_checked_in_says_ready_with_real_ports(start: Start) -> None:
    server = start(bind=["127.0.0.1:0", "[::1]:0"])
    ready = server.read_until(r"mta: ready mx=127\.0\.0\.1:(\d+) mx=\[::1\]:(\d+)\n")
    for host, port in (("127.0.0.1", ready[1]), ("::1", ready[2])):
        with socket.create_connection((host, int(port)), 5.0) as client:
            assert client.recv(100) == b"220 hello\r\n"
    assert set(server.pids()) == {"queue", "report", "state", "worker 1", "worker 2"}
    title = Path(f"/proc/{server.process.pid}/cmdline").read_bytes().rstrip(b"\0 ")
    assert title == b"mta: master"


def test_serve_service_manager_is_told_ready_and_stopping(start: Start, tmp_path: Path) -> None:
    # The second is an abstract address.
    for manager in (str(tmp_path / "notify"), f"@posthaste-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(manager.replace("@", "\0"))
            sock.settimeout(PATIENCE_S)
            server = start(manager=manager)
            assert sock.recv(100) == b"READY=1"
            assert sock.recv(100).startswith(b"STATUS=serving mx=127.0.0.1:")
            server.process.terminate()
            assert sock.recv(100) == b"STOPPING=1"
            assert server.wait() == 0


def test_serve_queue_is_told_the_living_workers_once_all_are_born(start: Start) -> None:
    server = start()
    server.read_until("mta: ready")
    pids = server.pids()
    family = [[1, pids["worker 1"]], [2, pids["worker 2"]]]
    server.wait_for(lambda: f"queue {pids['queue']} heard {['workers', family]}" in server.log())


def test_children_have_only_the_sockets_that_are_theirs_and_the_lock(start: Start) -> None:
    kinds = ("queue", "report", "state", "worker")
    server = start(dict.fromkeys(kinds, "shows_files"))
    server.read_until("mta: ready")
    assert sorted(server.said("sockets 0 locks 1")) == ["queue", "report", "state", "worker 1", "worker 2"], (
        server.log()
    )
    assert len(server.said(f"user {os.getuid()} {os.getgid()} loaded []")) == 5
    server.process.terminate()
    assert server.wait() == 0
    assert "loaded []" in server.text


def test_children_drop_to_the_user_that_the_configuration_names(start: Start, tmp_path: Path) -> None:
    require_root()
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    (tmp_path / "hold").mkdir()
    before = read_by_all(tmp_path / "hold")
    server = start(dict.fromkeys(STEADY, "shows_files"), {"user": "nobody"}, before=before)
    server.read_until("mta: ready")
    data_dir = server.data_dir.stat()
    assert data_dir.st_uid == 65534
    assert data_dir.st_mode & 0o777 == 0o700
    for name in ("link.sock", "state.sock"):
        link = (server.data_dir / name).stat()
        assert (link.st_uid, link.st_mode & 0o777) == (65534, 0o600)
    assert len(server.said(f"user 65534 {data_dir.st_gid} loaded []")) == 5


@pytest.mark.parametrize("name", ["worker 2", "report", "state", "queue"])
def test_serve_killed_child_is_replaced_and_the_queue_told(start: Start, name: str) -> None:
    server = start()
    server.read_until("mta: ready")
    pid = server.pids()[name]
    os.kill(pid, signal.SIGKILL)
    server.read_until(rf"mta: {name} \(pid {pid}\) died with signal 9, starting another now\n")
    server.read_until(rf"mta: {name} is back, pid (\d+)\n")
    assert server.pids()[name] != pid
    queue = server.pids()["queue"]
    server.wait_for(lambda: f"queue {queue} heard ['died', '{name}', {pid}, 'signal 9']" in server.log())
    workers = [[n, server.pids()[f"worker {n}"]] for n in (1, 2)]
    server.wait_for(lambda: f"queue {queue} heard {['workers', workers]}" in server.log())


def test_serve_child_that_keeps_dying_young_is_wanted_back_soon(start: Start) -> None:
    server = start({"report": "dies_once_ready"})
    server.read_until("mta: ready")
    died = r"report \(pid \d+\) died with exit 70, starting another "
    # Clients wait for it: it rests a moment, and no longer the next time.
    for pauses in ("now", rf"now.*{died}in 0\.2 s", rf"now.*{died}in 0\.2 s.*{died}in 0\.2 s"):
        (server.data_dir / "die").touch()
        server.read_until(rf"(?s){died}{pauses}\n")
    assert "RuntimeError: told to die" in server.text
    server.read_until(r"(?s)(in 0\.2 s.*){2}report is back")


@pytest.mark.parametrize("main", ["dies_at_boot", "raises_at_boot"])
def test_serve_child_that_dies_at_boot_five_times_exits_1(start: Start, main: str) -> None:
    server = start({"worker": main})
    assert server.wait() == 1
    # Five times the same one, however many others fare like it.
    (name,) = re.findall(r"mta: giving up: (worker \d) died 5 times while starting", server.text)
    assert len(re.findall(rf"mta: {name} \(pid \d+\) died with exit", server.text)) == 5
    assert "mta: ready" not in server.text
    assert server.said("stop") == ["state", "queue", "report"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_stop_ends_workers_then_state_then_queue_then_report(start: Start, number: int) -> None:
    server = start()
    server.read_until("mta: ready")
    os.kill(server.process.pid, number)
    os.kill(server.process.pid, signal.SIGTERM)
    assert server.wait() == 0
    order = server.said("stop")
    assert sorted(order[:2]) == ["worker 1", "worker 2"]
    assert order[2:] == ["state", "queue", "report"]
    assert not list(server.data_dir.glob("*.sock"))
    assert "died" not in server.text


def test_serve_stop_worker_that_does_not_end_is_killed_after_the_drain(start: Start) -> None:
    # The wait beyond drain_s is five seconds, so the test takes as long.
    server = start({"worker": "ignores_stop"}, {"drain_s": 0.0})
    server.read_until("mta: ready")
    server.process.terminate()
    server.read_until(r"worker 1 \(pid \d+\) did not end in 5 s, killing it")
    assert server.wait() == 0
    assert server.said("stop") == ["state", "queue", "report"]


def test_serve_stop_while_starting_exits_0(start: Start) -> None:
    server = start({"report": "dies_at_boot"})
    server.read_until("died with exit 7")
    server.process.terminate()
    assert server.wait() == 0


def test_serve_quit_ends_all_at_once(start: Start) -> None:
    server = start({"worker": "ignores_stop"})
    server.read_until("mta: ready")
    pids = server.pids()
    started_at = time.monotonic()
    server.process.send_signal(signal.SIGQUIT)
    assert server.wait() == 0
    assert time.monotonic() - started_at < 2.0
    assert server.said("stop") == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())


def test_serve_child_without_sign_of_life_is_killed_and_replaced(start: Start) -> None:
    server = start({"report": "hangs"}, {"hang_s": 2.0})
    server.read_until(r"report \(pid \d+\) gave no sign of life for 2 s, killing it\n")
    server.read_until(r"report \(pid \d+\) died with signal 9")
    server.wait_for(lambda: len(server.said("start")) >= 5)


def test_serve_worker_that_the_queue_gives_up_is_killed(start: Start) -> None:
    server = start({"queue": "has_worker_killed"})
    server.read_until(r"worker 1 \(pid \d+\) does not answer the queue, killing it\n")
    server.read_until(r"worker 1 \(pid \d+\) died with signal 9")


def test_serve_master_killed_children_see_it_and_leave(start: Start) -> None:
    server = start()
    server.read_until("mta: ready")
    pids = server.pids()
    server.process.kill()
    server.wait_for(lambda: len(server.said("orphan")) == 5)
    server.wait_for(lambda: not any(Path(f"/proc/{pid}/fd").exists() and _is_alive(pid) for pid in pids.values()))


def _is_alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_serve_stderr_that_nobody_reads_keeps_nobody_from_working(start: Start) -> None:
    server = start()
    server.read_until("mta: ready")
    stderr = server.process.stderr
    assert stderr is not None
    fcntl.fcntl(stderr, fcntl.F_SETPIPE_SZ, 4096)
    # Each unknown key is a line, and the last word is one, too.
    server.configure(**{f"unknown{number}": 1 for number in range(300)})
    for _ in range(2):
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
    os.kill(server.pids()["worker 1"], signal.SIGKILL)
    server.wait_for(lambda: len(server.said("start")) == 6)
    server.process.terminate()
    assert server.process.wait(PATIENCE_S) == 0
    assert "unknown0: expected no such key" in stderr.read().decode()


def test_serve_data_dir_in_use_says_so_and_exits_1(start: Start) -> None:
    server = start()
    server.read_until("mta: ready")
    second = start(lock_wait_s=0.3)
    assert second.wait() == 1
    assert f"mta: another server is running on data_dir {server.data_dir}\n" in second.text
    assert (server.data_dir / "link.sock").exists()


def test_serve_children_outlive_their_master_lock_stays_theirs(start: Start) -> None:
    first = start({"worker": "hangs"})
    first.read_until("mta: ready")
    pids = first.pids()
    first.process.kill()
    second = start(lock_wait_s=PATIENCE_S)
    second.read_until("waiting up to")
    time.sleep(0.3)
    assert "mta: ready" not in second.text
    for name in ("worker 1", "worker 2"):
        os.kill(pids[name], signal.SIGKILL)
    second.read_until("mta: ready")


def test_serve_signal_while_waiting_for_the_lock_exits_0(start: Start) -> None:
    start().read_until("mta: ready")
    second = start()
    second.read_until("waiting up to")
    second.process.send_signal(signal.SIGINT)
    assert second.wait() == 0


def test_serve_address_in_use_names_it_and_exits_1(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = start(bind=[address])
        assert server.wait() == 1
    assert f"mta: cannot listen on mx {address}: Address already in use\n" in server.text


def test_serve_unknown_user_says_so_and_exits_1(start: Start) -> None:
    server = start(process={"user": "no-such-user"})
    assert server.wait() == 1
    assert "mta: process.user: there is no user no-such-user on this machine\n" in server.text


def test_serve_data_dir_that_cannot_be_made_says_why_and_exits_1(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = start(data_dir=tmp_path / "file" / "data")
    assert server.wait() == 1
    assert f"mta: cannot use data_dir {tmp_path}/file/data: Not a directory\n" in server.text


def test_serve_long_data_dir_and_stale_link_still_start(start: Start, tmp_path: Path) -> None:
    data_dir = tmp_path / ("d" * 200)
    data_dir.mkdir()
    (data_dir / "link.sock").touch()
    server = start(data_dir=data_dir)
    server.read_until("mta: ready")
    assert (data_dir / "link.sock").is_socket()

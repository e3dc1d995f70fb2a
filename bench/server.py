"""A private Posthaste in a temporary directory: started, watched, asked, hurt and stopped.

    with Server({"route": [{"match": "*", "via": sink.via}]}) as server:
        host, port = server.address

Runs the `mta` beside this Python, and nothing else. What the configuration leaves out of hostname, data_dir and
listener is filled in; the rest are the server's own defaults. Used by the benchmarks, and by tests/harness.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cpu import children_of, title_of, tree_cpu_s
from bench.program import Program
from bench.tomltext import to_toml
from bench.wait import wait_until

__all__ = ["MTA", "Server", "StartFailed"]

MTA = Path(sys.executable).parent / "mta"
READY_S = 30.0
STOP_S = 45.0
COMMAND_S = 60.0
READY = "mta: ready "


class StartFailed(Exception):
    """The server did not become ready; the text ends with what it wrote to stderr."""


class Server(Program):
    """One server and its directory. May be stopped and started again; the directory lives until `close`."""

    def __init__(
        self, config: Mapping[str, object], before: Sequence[str] = (), within: str | None = None, **environ: str
    ) -> None:
        """`before` are words in front of `mta serve`, which exec what follows; `environ` comes on top of ours.

        `within` is the folder that its directory is made in; without it that of temporary files.
        """
        self.before = before
        self._environ = environ
        self.directory = Path(tempfile.mkdtemp(prefix="posthaste-", dir=within))
        self.data_dir = self.directory / "data"
        self.config_file = self.directory / "mta.toml"
        self.addresses: dict[str, tuple[str, int]] = {}
        self._stderr_file = self.directory / "stderr"
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(config)

    def configure(self, config: Mapping[str, object]) -> None:
        """Write the configuration file; a running server is not told."""
        ours = {
            "hostname": "mx.example.test",
            "data_dir": str(self.data_dir),
            "listener": [{"name": "mx", "bind": ["127.0.0.1:0"]}],
        }
        self.config_file.write_text(to_toml({**ours, **config}), encoding="utf-8")

    def start(self) -> None:
        """Start and wait until it is ready. Raises StartFailed with what it wrote to stderr."""
        if not MTA.exists():
            raise StartFailed(f"{MTA} is missing: install the package first (make build)")
        with self._stderr_file.open("wb") as stderr:
            # A session of its own: whatever happens to the master, `close` can end the whole group.
            self._process = process = subprocess.Popen(
                [*self.before, MTA, "serve", "-c", self.config_file],
                env={**os.environ, **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        try:
            wait_until(lambda: process.poll() is not None or bool(self._ready_line()), "mta: ready", READY_S)
        except TimeoutError as error:
            raise StartFailed(f"{error}\n{self.stderr()}") from error
        if not self._ready_line():
            raise StartFailed(f"mta serve ended with {process.returncode}\n{self.stderr()}")
        self.addresses = {}
        for pair in self._ready_line()[len(READY) :].split():
            name, _, address = pair.partition("=")
            host, _, port = address.rpartition(":")
            self.addresses.setdefault(name, (host.strip("[]"), int(port)))

    def _ready_line(self) -> str:
        return next((line for line in self.stderr().splitlines(keepends=True) if line.startswith(READY)), "")

    def stop(self) -> int:
        """SIGTERM, wait, return the exit code. Raises TimeoutError when it does not end within 45 s."""
        self.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Wait for the end of the master, return its exit code. Raises TimeoutError."""
        process = self._started()
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"mta serve has not ended within {timeout_s:g} s\n{self.stderr()}") from error
        self._end_group(process)
        return code

    def close(self) -> None:
        """End whatever still runs, without waiting for mail, and delete the directory."""
        if self._process is not None:
            self._end_group(self._process)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end_group(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process

    @property
    def pid(self) -> int:
        """The master."""
        return self._started().pid

    @property
    def is_running(self) -> bool:
        """Whether the master lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first listener."""
        return next(iter(self.addresses.values()))

    def stderr(self) -> str:
        """Return what the server has written to stderr since its last start."""
        file = self._stderr_file
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def send_signal(self, number: int) -> None:
        """Send the master a signal."""
        os.kill(self.pid, number)

    def children(self) -> dict[str, int]:
        """Return the pids of the children by name: "queue", "report", "worker 1"..."""
        titles = {title_of(pid): pid for pid in children_of(self.pid)}
        return {title.removeprefix("mta: "): pid for title, pid in titles.items() if title.startswith("mta: ")}

    def kill_child(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a child a signal; return its pid. KeyError when there is none of this name."""
        pid = self.children()[name]
        os.kill(pid, number)
        return pid

    def kill_all(self) -> None:
        """kill -9 every process of the server at once; `start` starts it again, on the same ports."""
        process = self._started()
        pids = children_of(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._process = None
        wait_until(lambda: not any(title_of(pid).startswith("mta: ") for pid in pids), "the end of them all", 10)

    def wait_replaced(self, name: str, old_pid: int, timeout_s: float = 10.0) -> int:
        """Wait until the child of this name is another one than `old_pid`; return its pid. Raises TimeoutError."""
        wait_until(lambda: self.children().get(name, old_pid) != old_pid, f"a new {name}", timeout_s)
        return self.children()[name]

    def cpu_s(self) -> float:
        """Return the CPU seconds of the master and of every child it ever had."""
        return tree_cpu_s(self.pid)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `mta WORDS -c FILE` and return what came of it, whatever its exit code."""
        command = [str(MTA), *words, "-c", str(self.config_file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)

    def run_json(self, *words: str) -> list[dict[str, Any]]:
        """Run `mta WORDS --json -c FILE`, return its lines. Raises RuntimeError unless it exits 0."""
        done = self.run(*words, "--json")
        if done.returncode:
            raise RuntimeError(f"mta {' '.join(words)} ended with {done.returncode}: {done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def count(self) -> dict[str, int]:
        """Return what `mta queue count --json` says."""
        return dict(self.run_json("queue", "count")[0])

    def n_queued(self) -> int:
        """Return the number of messages in the queue."""
        return self.count()["messages"]

    def wait_empty(self, timeout_s: float = 30.0) -> None:
        """Wait until nothing is queued. Raises TimeoutError."""
        wait_until(lambda: self.n_queued() == 0, "an empty queue", timeout_s, step_s=0.1)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the events in the segment files, by sequence number; all, or only of these kinds."""
        folder = self.data_dir / "events"
        files = [path for path in folder.glob("*") if path.is_file()] if folder.is_dir() else []
        rows: list[dict[str, Any]] = []
        for path in files:
            # A line that is still being written has no end yet, and is not there yet.
            whole, _, _ = path.read_bytes().rpartition(b"\n")
            rows += [json.loads(line) for line in whole.split(b"\n") if line.startswith(b'{"seq":')]
        rows.sort(key=lambda row: int(row["seq"]))
        return [row for row in rows if not kinds or row["event"] in kinds]

    def wait_events(self, n_events: int, *kinds: str, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """Wait until there are `n_events` events of these kinds; return them. Raises TimeoutError."""
        wait_until(lambda: len(self.events(*kinds)) >= n_events, f"{n_events} events {' '.join(kinds)}", timeout_s)
        return self.events(*kinds)

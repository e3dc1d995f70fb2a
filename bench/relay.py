"""The headline figure: CPU microseconds a message of the whole server, smtp-source in, smtp-sink out.

    python -m bench.relay [-m 20000] [-s 50] [-l 4096] [--runs 5] [--workers 2] [--reconnect] [--postfix] [--mx]
        [--limits] [--json]

CPU is the growth of user and system time of the master and all its children, dead ones included, from before the first
connection until the sink has every message and the queue is empty. The rate runs from the start of smtp-source until
the sink has every message. A short run beforehand warms everything up. With --postfix a private Postfix takes turns
with Posthaste, both fresh in directories of one file system; give TMPDIR to choose which.
With --mx a second Posthaste takes turns, which finds the sink by MX in a private nsd instead of by a route; with
--limits one that counts all that `[limits.client]` can count, of which nothing is ever refused.
Source and sink share the machine with the server; their CPU is in no figure but the rate. They come with Postfix:
`apt-get install postfix`.
"""

import argparse
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Protocol, Self

import msgspec

from bench.nameserver import Nameserver, NsdMissing
from bench.peers import PeerMissing, Postfix, find_program
from bench.server import Server, StartFailed
from bench.wait import wait_until

__all__ = ["CountingSink", "Load", "Run", "Summary", "Target", "measure"]

RUN_S = 600.0
WARM_UP = 2000
RATES = ("connections", "messages", "recipients", "errors")
_COUNT = re.compile(rb"mesg=(\d+)")


class Target(Protocol):
    """A mail server that can be measured."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it takes mail."""

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far."""

    def n_queued(self) -> int:
        """Messages in its queue."""


class Load(msgspec.Struct, frozen=True):
    """What smtp-source sends."""

    messages: int
    sessions: int
    octets: int
    is_reconnecting: bool
    """A new connection for each message."""


class Run(msgspec.Struct, frozen=True):
    """One run's figures."""

    cpu_us: float
    """CPU microseconds a message."""
    rate: float
    """Messages a second, end to end."""


class Summary(msgspec.Struct, frozen=True):
    """Median, least and most of several runs."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, figures: list[float]) -> Self:
        """Sum up one figure of all runs."""
        return cls(round(median(figures), 1), round(min(figures), 1), round(max(figures), 1))


class CountingSink:
    """A smtp-sink that tells how many messages it has taken, by the counters that -c prints into a file."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._directory = Path(tempfile.mkdtemp(prefix="smtp-sink-"))
        self._counters = self._directory / "counters"
        # As root it asks for a user to become; its default of 256 connections would queue the rest in the kernel.
        command = [tool("smtp-sink"), "-u", "nobody", "-c", "-m", "2000", f"127.0.0.1:{self.port}", "1024"]
        with self._counters.open("wb") as counters:
            self._process = subprocess.Popen(command, stdout=counters, stderr=subprocess.DEVNULL)
        wait_until(self._listens, "smtp-sink", 10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def via(self) -> str:
        """The sink as the next hop of a route."""
        return f"[127.0.0.1]:{self.port}"

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
            sock.sendall(b"QUIT\r\n")
            return True
        return False

    def count(self) -> int:
        """Return how many messages it has taken since its start."""
        with self._counters.open("rb") as counters:
            counters.seek(max(0, counters.seek(0, 2) - 200))
            seen = _COUNT.findall(counters.read())
        # The last line may be cut in the middle of its number: what stands before it is whole.
        return max((int(number) for number in seen), default=0)


def tool(name: str) -> str:
    """Return the path of smtp-source or smtp-sink. Raises PeerMissing."""
    return find_program(name, "apt-get install postfix")


def measure(target: Target, sink: CountingSink, load: Load) -> Run:
    """Send one load through `target` and return its figures. Raises RuntimeError or TimeoutError when it fails."""
    host, port = target.address
    words = ["-s", str(load.sessions), "-m", str(load.messages), "-l", str(load.octets)]
    addresses = ["-f", "sender@source.test", "-t", "recipient@sink.test", f"{host}:{port}"]
    command = [tool("smtp-source"), *([] if load.is_reconnecting else ["-d"]), *words, *addresses]
    wanted = sink.count() + load.messages
    cpu_before_s, began_at = target.cpu_s(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)
    if done.returncode:
        raise RuntimeError(f"smtp-source ended with {done.returncode}: {done.stderr.strip()}")
    wait_until(lambda: sink.count() >= wanted, f"{load.messages} messages at smtp-sink", RUN_S, step_s=0.01)
    lasted_s = time.monotonic() - began_at
    wait_until(lambda: target.n_queued() == 0, "an empty queue", RUN_S, step_s=0.05)
    return Run((target.cpu_s() - cpu_before_s) / load.messages * 1e6, load.messages / lasted_s)


def file_system_of(path: str) -> str:
    """Return the type of the file system that holds `path`, as in "ext4"."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    holding = [(len(Path(point).parts), kind) for point, kind in mounts if Path(path).is_relative_to(point)]
    return max(holding)[1] if holding else ""


def run_all(options: argparse.Namespace) -> dict[str, object]:
    """Do every run, interleaved; return what is printed."""
    load = Load(options.messages, options.sessions, options.length, options.reconnect)
    warm_up = msgspec.structs.replace(load, messages=min(WARM_UP, load.messages))
    runs: dict[str, list[Run]] = {}
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(CountingSink())
        targets: dict[str, Target] = {}
        if options.postfix:
            targets["postfix"] = stack.enter_context(Postfix(sink.via))
        workers = {"count": options.workers}
        route = [{"match": "*", "via": sink.via}]
        targets["posthaste"] = stack.enter_context(Server({"workers": workers, "route": route}))
        if options.mx:
            nameserver = stack.enter_context(Nameserver({"sink.test": "@ MX 10 mx\nmx A 127.0.0.1"}))
            dns = {"nameservers": [nameserver.address]}
            by_mx = {"workers": workers, "dns": dns, "deliver": {"port": sink.port}}
            targets["posthaste by MX"] = stack.enter_context(Server(by_mx))
        if options.limits:
            client = {f"{kind}_per_minute": 100_000_000 for kind in RATES} | {"connections": 10_000}
            limits = {"client": {**client, "exempt_relay": False}}
            config = {"workers": workers, "route": route, "limits": limits}
            targets["posthaste, limits"] = stack.enter_context(Server(config))
        for target in targets.values():
            measure(target, sink, warm_up)
        for number in range(options.runs):
            for name, target in targets.items():
                run = measure(target, sink, load)
                runs.setdefault(name, []).append(run)
                said = f"run {number + 1} {name}: {run.cpu_us:.1f} us a message, {run.rate:.0f} messages/s"
                print(said, file=sys.stderr, flush=True)
    result: dict[str, object] = {"load": load, "workers": options.workers, "runs": options.runs}
    result["file_system"] = file_system_of(tempfile.gettempdir())
    for name, figures in runs.items():
        cpu_us, rate = Summary.of([run.cpu_us for run in figures]), Summary.of([run.rate for run in figures])
        result[name] = {"cpu_us": cpu_us, "rate": rate}
    ours = median(run.cpu_us for run in runs["posthaste"])
    if options.postfix:
        result["ratio"] = round(median(run.cpu_us for run in runs["postfix"]) / ours, 2)
    if options.mx:
        result["mx_ratio"] = round(median(run.cpu_us for run in runs["posthaste by MX"]) / ours, 3)
    if options.limits:
        result["limits_ratio"] = round(median(run.cpu_us for run in runs["posthaste, limits"]) / ours, 3)
    return result


def main() -> int:
    """Run the benchmark from the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="bench.relay", description="CPU a message and messages a second, relaying.")
    parser.add_argument("-m", "--messages", type=int, default=20_000, help="messages a run (20000)")
    parser.add_argument("-s", "--sessions", type=int, default=50, help="connections at once (50)")
    parser.add_argument("-l", "--length", type=int, default=4096, help="octets of body a message (4096)")
    parser.add_argument("--runs", type=int, default=5, help="runs (5)")
    parser.add_argument("--workers", type=int, default=2, help="workers of Posthaste (2)")
    parser.add_argument("--reconnect", action="store_true", help="a new connection for each message")
    parser.add_argument("--postfix", action="store_true", help="measure a private Postfix in turn (root only)")
    parser.add_argument("--mx", action="store_true", help="measure routing by MX in turn with a route")
    parser.add_argument("--limits", action="store_true", help="measure with all client limits in turn")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    try:
        result = run_all(options)
    except (PeerMissing, NsdMissing, StartFailed, RuntimeError, TimeoutError) as error:
        print(f"bench.relay: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(msgspec.to_builtins(result)))
        return 0
    for name in ("posthaste", "posthaste by MX", "posthaste, limits", "postfix"):
        if name in result:
            figures = msgspec.to_builtins(result[name])
            for key, unit in (("cpu_us", "us CPU a message"), ("rate", "messages/s")):
                row = figures[key]
                print(f"{name:18}{row['median']:10.1f} {unit:18} ({row['min']:.1f} to {row['max']:.1f})")
    if "ratio" in result:
        print(f"ratio             {result['ratio']:10} times less CPU than Postfix")
    if "mx_ratio" in result:
        print(f"ratio             {result['mx_ratio']:10} times the CPU of a route")
    if "limits_ratio" in result:
        print(f"ratio             {result['limits_ratio']:10} times the CPU without client limits")
    return 0


if __name__ == "__main__":
    sys.exit(main())

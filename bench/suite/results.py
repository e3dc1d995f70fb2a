"""A result file: one JSON object with everything that a run of the suite has found out, written anew after each run.

Rule: figures are those of single runs. Medians, with the least and the most beside them, are made by whoever reads it,
so that two files can be held against each other run by run.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.load import Percentiles
from bench.peers import Flushes
from bench.suite.machine import Flush, Machine
from bench.suite.plan import Shape
from bench.summary import Summary

__all__ = [
    "ACCEPTED",
    "CPU",
    "RATE",
    "REPLY",
    "SPENT",
    "WHOLE",
    "About",
    "Figure",
    "Measurement",
    "Results",
    "Run",
    "read",
    "write",
]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one server under one load. Times of CPU are microseconds a message."""

    messages: int
    """That got their 250."""
    others: int
    """That did not: refused, or lost with a connection before the 250."""
    late: int
    """Of an open loop: how many were begun more than a millisecond after their time."""
    accepted_rate: float
    """Messages a second that got their 250, from the first one begun to the last 250. A server that takes mail faster
    than it sends it on has a queue at the end, and this is more than its rate."""
    rate: float
    """Messages a second, from the first one begun to the last one at the sink; of a server that only receives, to its
    last 250."""
    cpu_us: float
    """Of all processes of the server."""
    machine_us: float
    """Of everything on the machine, source and sink included, until the last message is at the sink."""
    source_us: float
    sink_us: float
    rss_octets: int
    """The most anonymous memory that the server's processes held together."""
    left: int
    """Messages not at the sink when the source has ended, within a second after the last 250; later there are none, or
    the measurement has failed."""
    reply: Percentiles
    """From the end of data to the 250."""
    whole: Percentiles
    """From MAIL to the 250; in an open loop from the time that the schedule had for it."""
    commit_p99_us: float = 0.0
    """Of an open loop: this machine's own LMDB commit, timed just before."""
    histograms: dict[str, str] = {}
    """Encoded HDR histograms of microseconds: `reply`, `whole`, and `delivery`, from MAIL or the scheduled time to the
    sink. `bench.load.histogram` reads them."""


class Figure(NamedTuple):
    """One thing that is told of a measurement, and compared."""

    name: str
    of: Callable[[Run], float]
    is_better_high: bool = False


RATE = Figure("messages/s", lambda run: run.rate, is_better_high=True)
ACCEPTED = Figure("accepted/s", lambda run: run.accepted_rate, is_better_high=True)
CPU = Figure("CPU µs a message", lambda run: run.cpu_us)
SPENT = (
    CPU,
    Figure("the machine's CPU µs", lambda run: run.machine_us),
    Figure("peak RssAnon MB", lambda run: run.rss_octets / 1e6),
)
# From the end of data to the 250.
REPLY = (
    Figure("reply p50 ms", lambda run: run.reply.p50 / 1e3),
    Figure("reply p99 ms", lambda run: run.reply.p99 / 1e3),
    Figure("reply p99.9 ms", lambda run: run.reply.p999 / 1e3),
)
# The same from the scheduled time: with the wait for a server that is behind.
WHOLE = (
    Figure("whole p50 ms", lambda run: run.whole.p50 / 1e3),
    Figure("whole p99 ms", lambda run: run.whole.p99 / 1e3),
    Figure("whole p99.9 ms", lambda run: run.whole.p999 / 1e3),
)


class Measurement(msgspec.Struct, kw_only=True):
    """One server under one load."""

    server: str
    shape: Shape
    runs: list[Run] = []
    failed: str = ""
    """Why there are no figures of it: what was lost, doubled or changed, or what else went wrong."""

    @property
    def name(self) -> str:
        """As in "postfix: 50 kept, 4 KB"."""
        return f"{self.server}: {self.shape.name}"

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What is told of it."""
        # The rate of an open loop is given, not reached; latencies of a closed one are those of its connections.
        return (*SPENT, *REPLY, *WHOLE) if self.shape.share else (RATE, ACCEPTED, *SPENT)

    def sum_up(self, figure: Figure) -> Summary:
        """Return one figure of all its runs."""
        return Summary.of(map(figure.of, self.runs))


class About(msgspec.Struct, kw_only=True):
    """What a peer is."""

    version: str
    label: str
    """What it flushes before it says 250."""
    how: str = ""
    """How its CPU time is counted."""
    flushes: Flushes | None = None


class Results(msgspec.Struct, kw_only=True):
    """The file."""

    plan: str
    began: str
    """In ISO 8601, UTC."""
    machine: Machine
    fdatasync: Flush
    """How fast the machine flushes while nothing else does, and commits."""
    commit: Flush
    peers: dict[str, About] = {}
    missing: dict[str, str] = {}
    """Servers that this machine cannot run: what is missing, and the line that installs it."""
    measurements: list[Measurement] = []
    scans: dict[str, float] = {}
    """Rates of the reader of DATA, as shares of memmem's over the same octets."""

    def find(self, server: str, shape: Shape) -> Measurement | None:
        """Return a measurement that is there."""
        return next((each for each in self.measurements if (each.server, each.shape) == (server, shape)), None)

    def record(self, server: str, shape: Shape) -> Measurement:
        """Return a measurement, and make it if it is not there."""
        found = self.find(server, shape)
        if found is None:
            found = Measurement(server=server, shape=shape)
            self.measurements.append(found)
        return found

    def done(self, server: str, shape: Shape) -> Measurement | None:
        """Return a measurement that has figures."""
        found = self.find(server, shape)
        return found if found and found.runs and not found.failed else None


def read(path: Path) -> Results:
    """Read a file. Raises OSError, and ValueError when it is none of ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path} is no result file: {error}") from error


def write(path: Path, results: Results) -> None:
    """Write a file in one step: whoever is interrupted leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
        os.replace(part, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()

"""A whole plan, from its first missing run to its last.

    results = run(HEADLINE, Path("bench/results/mine.json"))

A group's servers are started together, warmed up, and then take turns, so that whatever else happens on the machine
meets all of them. After each run the result file is written; what is in it already is not done again.

Rule: a measurement that fails says so on stderr and in the file, and costs no other one anything.
"""

import datetime
import os
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from bench.load import Load, LoadFailed, Sink
from bench.micro.reader import memmem_ratios
from bench.peers import PEERS, Peer, PeerMissing, flushes
from bench.server import StartFailed
from bench.suite.machine import describe, time_commits, time_fdatasyncs
from bench.suite.measure import Failed, drive
from bench.suite.plan import Group, Plan, Shape
from bench.suite.results import RATE, About, Results, Run, read, write
from bench.suite.servers import kind_of, serving

__all__ = ["left", "mismatch", "run"]

FAULTS = (Failed, LoadFailed, StartFailed, OSError, RuntimeError)


def run(plan: Plan, path: Path, *, resumes: bool = False) -> Results:
    """Measure what a plan asks for, and return the results, which are in the file at `path`, too.

    With `resumes` what the file holds is not measured again, except for what has failed. Raises ValueError when it is
    of another plan or machine, OSError when it cannot be read or written.
    """
    end_at = time.monotonic() + plan.limit_s
    results = _begin(plan, path, resumes=resumes)
    for name in plan.flushed:
        if name in results.peers and results.peers[name].flushes is None:
            _say(f"counting the flushes of {name}")
            try:
                results.peers[name].flushes = flushes(PEERS[name])
            except (PeerMissing, *FAULTS) as error:
                results.missing[f"flushes of {name}"] = str(error)
            write(path, results)
    if plan.scans and not results.scans:
        results.scans = _scan()
        write(path, results)
    for number, group in enumerate(plan.groups, 1):
        servers = _todo(group, plan, results)
        if servers and time.monotonic() > end_at:
            _say(f"{plan.limit_s:.0f} s are over")
            break
        if servers:
            _say(f"group {number} of {len(plan.groups)}: {group.shape.name}")
            _Turns(group.shape, plan, results, path).measure(servers)
    return results


def left(plan: Plan, results: Results) -> list[str]:
    """Return the names of the measurements that a plan asks for and that have too few runs.

    What this machine cannot measure is not among them, nor what has failed.
    """
    names = {each.name for each in results.measurements if each.failed}
    todo = [f"{server}: {group.shape.name}" for group in plan.groups for server in _todo(group, plan, results)]
    return [name for name in todo if name not in names]


def _todo(group: Group, plan: Plan, results: Results) -> list[str]:
    if group.shape.is_pinned and results.machine.cores < 2:
        return []
    found = {server: results.done(server, group.shape) for server in group.servers if server not in results.missing}
    return [server for server, done in found.items() if done is None or len(done.runs) < plan.runs]


def mismatch(plan: Plan, results: Results) -> str:
    """Return what keeps these results from being gone on with, as in "another machine"; nothing if nothing does."""
    if results.plan != plan.name:
        return "another plan"
    if results.machine != describe():
        return "another machine"
    for name, about in results.peers.items():
        with suppress(PeerMissing):
            if about.version != (version := kind_of(name).require()):
                return f"another {name}: {about.version}, and here is {version}"
    return ""


def _begin(plan: Plan, path: Path, *, resumes: bool) -> Results:
    """Return the results so far; what is missing on this machine is found anew."""
    if resumes and path.exists():
        results = read(path)
        if why := mismatch(plan, results):
            raise ValueError(f"{path} is of {why}")
        results.missing.clear()
    else:
        began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        results = Results(
            plan=plan.name, began=began, machine=describe(), fdatasync=time_fdatasyncs(), commit=time_commits()
        )
    for server in dict.fromkeys(server for group in plan.groups for server in group.servers):
        kind = kind_of(server)
        try:
            about = About(version=kind.require(), label=kind.label)
        except PeerMissing as error:
            _leave_out(server, error, results)
        else:
            results.peers.setdefault(kind.name, about)
    write(path, results)
    return results


def _leave_out(server: str, why: PeerMissing, results: Results) -> None:
    results.missing[server] = str(why)
    _say(f"{server} is left out: {why}")


def _scan() -> dict[str, float]:
    ratios = memmem_ratios()
    return {"whole": ratios.whole, "pieces": ratios.segments}


class _Turns:
    """One group while it is measured."""

    def __init__(self, shape: Shape, plan: Plan, results: Results, path: Path) -> None:
        self._shape, self._plan, self._results, self._path = shape, plan, results, path
        self._here: frozenset[int] | None = None
        """The server's cores, and those of source and sink; None is all."""
        self._there: frozenset[int] | None = None
        if shape.is_pinned:
            self._here, self._there = (frozenset({core}) for core in sorted(os.sched_getaffinity(0))[:2])
        self._peers: dict[str, Peer] = {}
        self._rested_at: dict[str, float] = {}
        self._stack = ExitStack()

    def measure(self, servers: list[str]) -> None:
        """Do every run that is missing."""
        with self._stack:
            self._sink = self._stack.enter_context(Sink(cores=self._there))
            able = [server for server in servers if self._attempt(server, is_warm_up=True)]
            for number in range(self._plan.runs):
                commit_us = time_commits().p99_us if self._shape.share else 0.0
                # Whatever follows from who comes first concerns each in turn.
                turn = number % max(1, len(able))
                for server in able[turn:] + able[:turn]:
                    measurement = self._results.record(server, self._shape)
                    if len(measurement.runs) > number:
                        continue
                    done = self._attempt(server)
                    if done is None:
                        able.remove(server)
                        continue
                    measurement.runs.append(msgspec.structs.replace(done, commit_p99_us=commit_us))
                    write(self._path, self._results)
                    _say(f"  {number + 1} {server}: {done.rate:.0f} messages/s, {done.cpu_us:.1f} µs")

    def _attempt(self, server: str, *, is_warm_up: bool = False) -> Run | None:
        """Do a run; None if it fails, and then the server is ended: what it still has to do shall cost nobody."""
        try:
            load = self._load(server, is_warm_up=is_warm_up)
            if is_warm_up:
                self._start(server)
            time.sleep(max(0.0, self._rested_at.get(server, 0.0) - time.monotonic()))
            peer = self._peers[server]
            done = drive(peer, self._sink, load, cores=self._there)
            self._rested_at[server] = time.monotonic() + peer.rest_s
            return done
        except PeerMissing as error:
            _leave_out(server, error, self._results)
        except FAULTS as error:
            measurement = self._results.record(server, self._shape)
            measurement.runs, measurement.failed = [], f"{type(error).__name__}: {error}"
            _say(f"FAILED {measurement.name}: {measurement.failed}")
            if server in self._peers:
                self._peers[server].close()
        write(self._path, self._results)
        return None

    def _start(self, server: str) -> None:
        self._results.record(server, self._shape).failed = ""
        peer = self._stack.enter_context(serving(server, self._sink, self._here))
        self._peers[server] = peer
        self._results.peers[peer.name].how = peer.account.how

    def _load(self, server: str, *, is_warm_up: bool) -> Load:
        shape, seconds, rate = self._shape, self._plan.seconds, 0.0
        if shape.share:
            maximum = self._results.done(server, shape.maximum)
            if maximum is None:
                raise Failed(f"there is no figure of {shape.maximum.name}, of which this is a share")
            seconds, rate = self._plan.open_seconds, shape.share * maximum.sum_up(RATE).median
        if is_warm_up:
            seconds, rate = self._plan.warm_up_s, 0.0
        return Load(
            seconds=seconds,
            connections=shape.connections,
            rate=rate,
            pipelining=shape.pipelining,
            fresh=shape.fresh,
            octets=shape.octets,
            domains=shape.domains,
        )


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)

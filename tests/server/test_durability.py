"""250 leaves only after the commit that holds the message has returned, and one commit serves many."""

import os
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

import lmdb

from bench.server import Server
from bench.sink import Sink
from tests.harness import Call, Ledger, Trace, relaying, require_tool, run_async
from tests.server.conftest import Serve

READS = ("read", "readv", "recvfrom", "recvmsg")
WRITES = ("write", "writev", "sendto", "sendmsg")
PAGES = ("pwrite64", "pwritev", "pwritev2", "write", "writev")
SYNCS = ("fdatasync", "fsync")
_PROMISE = re.compile(rb"queued as ([0-9a-f]{32})")


def _is_dsync(pid: int, fd: str) -> bool:
    info = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
    flags = re.search(r"flags:\s*([0-7]+)", info)
    return flags is not None and bool(int(flags.group(1), 8) & os.O_DSYNC)


def _lmdb_descriptors(pid: int) -> tuple[set[int], set[int]]:
    """Return the descriptors of the queue's data file: the ordinary ones, and those that flush as they write."""
    fds = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    data = {fd for fd, path in fds.items() if path.endswith("/data.mdb")}
    meta = {fd for fd in data if _is_dsync(pid, fd)}
    return {int(fd) for fd in data - meta}, {int(fd) for fd in meta}


def _first_reads(calls: Iterable[Call], ids: Iterable[bytes]) -> dict[bytes, Call]:
    """Return, for each id, the read with which it first came out of a socket; a frame may be cut anywhere."""
    streams: defaultdict[int, list[Call]] = defaultdict(list)
    for call in calls:
        streams[call.fd].append(call)
    found: dict[bytes, Call] = {}
    for reads in streams.values():
        stream = b"".join(call.data for call in reads)
        ends = list(accumulate(len(call.data) for call in reads))
        for raw in ids:
            at = stream.find(raw)
            if at >= 0:
                call = reads[bisect_right(ends, at + len(raw) - 1)]
                if raw not in found or call.ended < found[raw].ended:
                    found[raw] = call
    return found


def _next(calls: list[Call], after: int) -> Call | None:
    """Return the first of these calls that was entered after that line of the trace."""
    return next((call for call in calls if call.began > after), None)


# Where an id says which process made it.
INCARNATION = slice(8, 12)


def test_250_is_written_after_its_commit_has_returned(sink: Sink, serve: Serve) -> None:
    """For every id: PUT read, its pages written, fdatasync returned, meta page on disk, 250 written; in this order."""
    strace = require_tool("strace", "strace")
    server = serve(relaying(sink.via))
    children = server.children()
    queue = children["queue"]
    workers = {pid for name, pid in children.items() if name.startswith("worker ")}
    data_fds, meta_fds = _lmdb_descriptors(queue)
    assert data_fds
    assert meta_fds
    ledger = Ledger(server.address, octets=300)
    names = sorted({*READS, *WRITES, *PAGES, *SYNCS})
    with Trace(strace, [queue, *workers], names) as trace:
        run_async(ledger.send(500, 32), timeout_s=90)
    calls = trace.calls()
    assert len(ledger.acknowledged) == 500
    assert ledger.refused == []

    promises = {
        bytes.fromhex(found.decode()): call
        for call in calls
        if call.pid in workers and call.name in WRITES
        for found in _PROMISE.findall(call.data)
    }
    ids = [bytes.fromhex(text) for text in ledger.acknowledged.values()]
    assert set(promises) == set(ids)
    of_queue = [call for call in calls if call.pid == queue and call.result >= 0]
    reads = _first_reads((call for call in of_queue if call.name in READS), ids)
    pages = [call for call in of_queue if call.name in PAGES and call.fd in data_fds]
    syncs = [call for call in of_queue if call.name in SYNCS and call.fd in data_fds]
    metas = [call for call in of_queue if call.name == "pwrite64" and call.fd in meta_fds]
    served: dict[int, set[bytes]] = {}
    for raw in ids:
        assert raw in reads, f"{raw.hex()}: never read from a worker"
        page = _next([call for call in pages if raw in call.data], reads[raw].ended)
        assert page is not None, f"{raw.hex()}: never written"
        sync = _next(syncs, page.ended)
        assert sync is not None, f"{raw.hex()}: never flushed"
        meta = _next(metas, sync.ended)
        assert meta is not None, f"{raw.hex()}: never committed"
        assert promises[raw].began > meta.ended, f"{raw.hex()}: 250 before the commit returned"
        served.setdefault(meta.ended, set()).add(raw[INCARNATION])
    # Group commit: both workers' messages in one.
    assert max(map(len, served.values())) == 2


def _last_txnid(server: Server) -> int:
    path = str(server.data_dir / "queue")
    with lmdb.open(path, readonly=True, lock=False, create=False) as env:
        return int(env.info()["last_txnid"])


def test_commit_under_64_sessions_serves_at_least_four_messages(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    before = _last_txnid(server)
    ledger = Ledger(server.address)
    run_async(ledger.send(2000, 64))
    server.wait_empty()
    assert len(ledger.acknowledged) == 2000
    assert ledger.refused == []
    assert _last_txnid(server) - before <= 2000 / 4

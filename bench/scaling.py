"""What more cores would do: a model fed with costs measured here. `bench/SCALING.md` tells what it says.

    python -m bench.scaling --measure COSTS.json     measure the costs of this machine, some 3 minutes
    python -m bench.scaling COSTS.json               print what the model makes of them, as Markdown

The costs are CPU seconds a message of each kind of process. A worker's and the report process's are taken to be the
same whatever the rate; the master and the state process take less than a microsecond together, and are left out. The
queue process's are a share of each message and a share of each commit, and the commit's is
the smaller the more messages a commit holds; both are fitted (least squares) over loads that fill commits differently.
"""

import argparse
import sys
import time
from pathlib import Path

import lmdb
import msgspec

from bench.cpu import tree_cpu_s
from bench.load import Load, Sink
from bench.peers import Posthaste
from bench.server import Server
from bench.suite.measure import drive

__all__ = ["Costs", "Queue", "Sample", "fit", "one_queue_rate", "rate", "read_costs", "report"]

CONNECTIONS = (1, 2, 4, 8, 16, 50, 200)
MESSAGES_A_CONNECTION = 2000
MOST_MESSAGES = 20_000
OCTETS = 4096
# A commit takes no more (mta/queue/batch.py).
MOST_A_COMMIT = 128
CORES = (2, 4, 8, 16, 32, 64)
# Cores that are never quite idle and never quite busy: what is left for the kernel's own work and for uneven load.
USABLE = 0.9
MILLION_AN_HOUR = 1_000_000 / 3600


class Sample(msgspec.Struct, frozen=True):
    """One load: what each kind of process took."""

    connections: int
    rate: float
    """Messages a second."""
    a_commit: float
    """Messages a commit."""
    queue_s: float
    """CPU seconds a message, as the two below."""
    worker_s: float
    report_s: float
    written: float
    """Octets a message that the queue and report processes have written to files; the file system adds its own."""


class Costs(msgspec.Struct, frozen=True):
    """What was measured on one machine; times are in seconds."""

    samples: tuple[Sample, ...]
    flush_s: float
    """How long a commit waits for the device, beyond its CPU."""


class Queue(msgspec.Struct, frozen=True):
    """The queue process: CPU seconds of each message, and of each commit."""

    message_s: float
    commit_s: float


def fit(samples: tuple[Sample, ...]) -> Queue:
    """Fit the queue process's CPU a message to message_s + commit_s / (messages a commit), least squares."""
    points = [(1 / sample.a_commit, sample.queue_s) for sample in samples]
    mean_x, mean_y = (sum(column) / len(points) for column in zip(*points, strict=True))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    return Queue(mean_y - slope * mean_x, slope)


def one_queue_rate(queue: Queue, flush_s: float) -> float:
    """Return how many messages a second one queue process can take: its commits are full, one follows the other."""
    return MOST_A_COMMIT / (MOST_A_COMMIT * queue.message_s + queue.commit_s + flush_s)


def rate(cores: int, shards: int, costs: Costs) -> float:
    """Return the messages a second of a machine with so many cores and queue processes."""
    queue, busiest = fit(costs.samples), costs.samples[-1]
    full = queue.message_s + queue.commit_s / MOST_A_COMMIT
    by_cores = cores * USABLE / (busiest.worker_s + busiest.report_s + full)
    return min(by_cores, shards * one_queue_rate(queue, costs.flush_s))


def take(peer: Posthaste, sink: Sink, connections: int) -> Sample:
    """Measure one load."""
    n_messages = min(MOST_MESSAGES, connections * MESSAGES_A_CONNECTION)
    server = peer.server
    before, commits_before, written_before = cpu_by_kind(server), n_commits(server), n_written(server)
    run = drive(peer, sink, Load(messages=n_messages, connections=connections, octets=OCTETS))
    after, n_new, n_octets = cpu_by_kind(server), n_commits(server) - commits_before, n_written(server) - written_before
    spent = {kind: (after[kind] - before[kind]) / n_messages for kind in after}
    costs = spent["queue"], spent["worker"], spent["report"]
    return Sample(connections, run.rate, n_messages / n_new, *costs, n_octets / n_messages)


def cpu_by_kind(server: Server) -> dict[str, float]:
    """Return the CPU seconds of the server's children, those of a kind together."""
    spent: dict[str, float] = {}
    for name, pid in server.children().items():
        kind = name.split()[0]
        spent[kind] = spent.get(kind, 0.0) + tree_cpu_s(pid)
    return spent


def n_commits(server: Server) -> int:
    """Return the number of the last transaction of the server's queue."""
    with lmdb.open(str(server.data_dir / "queue"), readonly=True, lock=True, max_dbs=0) as env:
        return int(env.info()["last_txnid"])


def n_written(server: Server) -> int:
    """Return the octets written so far by the processes that write to files; they speak to sockets by send(2), which
    does not count here. `write_bytes` beside it counts whole large folios, of which a part was written. proc(5)."""
    children = server.children()
    texts = [Path(f"/proc/{children[name]}/io").read_text(encoding="ascii") for name in ("queue", "report")]
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("wchar"))


def flush_s(directory: Path) -> float:
    """Return how long a small LMDB commit waits beyond its CPU, the median of many, in a new environment."""
    waits: list[float] = []
    with lmdb.open(str(directory), map_size=1 << 26) as env:
        for number in range(500):
            txn = env.begin(write=True)
            txn.put(number.to_bytes(8, "big"), bytes(1000))
            began, began_cpu = time.perf_counter(), time.process_time()
            txn.commit()
            waits.append((time.perf_counter() - began) - (time.process_time() - began_cpu))
    return sorted(waits)[len(waits) // 2]


def measure_costs(n_workers: int) -> Costs:
    """Measure this machine, with a private server, and source and sink beside it."""
    samples: list[Sample] = []
    with Sink() as sink, Posthaste(sink.via, config={"workers": {"count": n_workers}}) as peer:
        drive(peer, sink, Load(messages=2000, octets=OCTETS))
        for connections in CONNECTIONS:
            samples.append(take(peer, sink, connections))
            print(f"{connections} connections: {samples[-1]}", file=sys.stderr, flush=True)
        waits_s = flush_s(peer.server.directory / "flush")
    return Costs(tuple(samples), waits_s)


def report(costs: Costs) -> str:
    """Return the model's answers as Markdown tables."""
    queue = fit(costs.samples)
    one = one_queue_rate(queue, costs.flush_s)
    busiest, quietest = costs.samples[-1], costs.samples[0]
    rows = ["| connections | messages/s | messages a commit | queue µs | workers µs | report µs |", "|" + "---|" * 6]
    for s in costs.samples:
        spent = " | ".join(f"{part * 1e6:.0f}" for part in (s.queue_s, s.worker_s, s.report_s))
        rows.append(f"| {s.connections} | {s.rate:.0f} | {s.a_commit:.1f} | {spent} |")
    rows += [
        "",
        f"Queue process: {queue.message_s * 1e6:.0f} µs a message and {queue.commit_s * 1e6:.0f} µs a commit; a",
    ]
    rows[-1] += (
        f" commit waits {costs.flush_s * 1e6:.0f} µs for the device. One queue process is full at {one:.0f} messages/s."
    )
    rows += ["", "| cores | one queue process | 2 | 4 | 8 | cores busy with one |", "|" + "---|" * 6]
    for cores in CORES:
        rates = [rate(cores, shards, costs) for shards in (1, 2, 4, 8)]
        full = queue.message_s + queue.commit_s / MOST_A_COMMIT
        busy = rates[0] * (busiest.worker_s + busiest.report_s + full)
        rows.append(f"| {cores} | " + " | ".join(f"{each:.0f}" for each in rates) + f" | {busy:.1f} |")
    rows += ["", f"A million messages an hour ({MILLION_AN_HOUR:.0f}/s)", ""]
    rows += ["| if they come | cores | commits, of two flushes each | GB written |", "|" + "---|" * 4]
    for how, s in (("one by one", quietest), ("in crowds", busiest)):
        cores_busy = MILLION_AN_HOUR * (s.queue_s + s.worker_s + s.report_s)
        rows.append(f"| {how} | {cores_busy:.2f} | {1e6 / s.a_commit:,.0f} | {s.written * 1e6 / 1e9:.1f} |")
    return "\n".join(rows)


def read_costs(path: Path) -> Costs:
    """Read what `--measure` wrote. Raises OSError and msgspec.MsgspecError."""
    return msgspec.json.decode(path.read_bytes(), type=Costs)


def main(words: list[str] | None = None) -> int:
    """Run from the command line, or as if it said `words`; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.scaling", description="What more cores would do, by measured costs.")
    parser.add_argument("costs", type=Path, help="the file of the costs")
    parser.add_argument("--measure", action="store_true", help="measure this machine and write the file first")
    parser.add_argument("--workers", type=int, default=2, help="workers of the server that is measured (2)")
    options = parser.parse_args(words)
    if options.measure:
        text = msgspec.json.format(msgspec.json.encode(measure_costs(options.workers)))
        options.costs.write_bytes(text + b"\n")
    try:
        costs = read_costs(options.costs)
    except (OSError, msgspec.MsgspecError) as problem:
        print(f"bench.scaling: {options.costs}: {problem}; --measure makes one", file=sys.stderr)
        return 1
    print(report(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())

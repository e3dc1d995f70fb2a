"""What is asked of Posthaste, as ratios in one run, and whether a result file has it.

A ratio is that of two medians; the least and the most beside it are of pairs, one run of each server after the other.
What the suite does not measure itself, deep queues and idle connections, comes out of the files of their benchmarks.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench.deep import Deep
from bench.idle import Idle
from bench.suite.plan import KB, Shape
from bench.suite.results import CPU, RATE, Figure, Measurement, Results, Run
from bench.summary import Summary

__all__ = ["Row", "asked", "asked_beside", "read_beside"]

HALF = Shape(share=0.5)
UNPIPELINED = Shape(pipelining=False)
# Load, what is held against Postfix's, how many times better it has to be; 0 stands beside the others.
BESIDE_POSTFIX: tuple[tuple[Shape, Figure, float], ...] = (
    (Shape(), CPU, 16.0),
    (Shape(), RATE, 10.0),
    (UNPIPELINED, CPU, 0.0),
    (UNPIPELINED, RATE, 0.0),
    (Shape(connections=200), CPU, 20.0),
    (Shape(connections=200), RATE, 13.0),
    (Shape(fresh=True), CPU, 12.0),
    (Shape(fresh=True), RATE, 8.0),
    (Shape(connections=1), CPU, 5.0),
    (Shape(connections=1), RATE, 2.5),
    (Shape(octets=32 * KB), CPU, 10.0),
    (Shape(octets=256 * KB), CPU, 6.0),
)
COMMITS_A_REPLY = 3.0
SCANS = (
    ("whole", "DATA reader, 64 KB at once, of memmem's rate", 0.8),
    ("pieces", "DATA reader, in 1,448-octet pieces, of memmem's rate", 0.4),
)
WORKERS_COST = 1.1
DEEP, DEEP_RATE, DEEP_RSS_MB = 1_000_000, 0.8, 100.0
IDLE_KB, IDLE_RATE = 12.0, 0.9


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    what: str
    figure: str
    asked: str
    is_met: bool | None
    """None where nothing is asked."""


def read_beside(path: Path) -> list[Row]:
    """Return the lines of a file that `bench.deep --json` or `bench.idle --json` has made.

    Raises OSError, and ValueError when it is neither's.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=list[Deep] | Idle)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path} is neither of bench.deep nor of bench.idle: {error}") from error
    if isinstance(found, list):
        return [row for depth in found for row in _deep(depth)]
    kb = Summary.of([found.octets_each / KB])
    rate = _shares(found.relayed["beside"].rate, found.relayed["without"].rate)
    idle = f"{found.connections:,} idle connections"
    return [
        _row(f"{idle}: KB of RssAnon each, beyond the server at rest", kb, most=IDLE_KB),
        _row(f"{idle}: rate beside them, of that without", rate, least=IDLE_RATE, digits=2),
    ]


def _deep(deep: Deep) -> list[Row]:
    rate = _shares(deep.relayed["deep"].rate, deep.relayed["empty"].rate)
    rss = Summary.of([max(mb for name, mb in deep.rss_anon_mb.items() if name != "empty")])
    depth, is_asked = f"{deep.messages:,} deferred", deep.messages >= DEEP
    return [
        _row(f"{depth}: rate, of that with an empty queue", rate, least=is_asked * DEEP_RATE, digits=2),
        _row(f"{depth}: MB of RssAnon of the queue process", rss, most=is_asked * DEEP_RSS_MB),
    ]


def _shares(one: Summary, other: Summary) -> Summary:
    """Return a ratio of medians, and the furthest that the runs allow."""
    return Summary(one.median / other.median, one.min / other.max, one.max / other.min)


def asked_beside(rows: Sequence[Row]) -> list[Row]:
    """Return a line for what is asked of deep queues and idle connections and is not among these rows."""
    wanted = {f"{DEEP:,} deferred": "bench.deep", "10,000 idle connections": "bench.idle"}
    told = {row.what.partition(":")[0] for row in rows}
    return [_unmeasured(what, f"--with a file of {whose}") for what, whose in wanted.items() if what not in told]


def asked(results: Results) -> list[Row]:
    """Return a line for everything that is asked, whether it was measured or not."""
    rows: list[Row] = []
    for shape, figure, times in BESIDE_POSTFIX:
        ours, theirs = results.done("posthaste", shape), results.done("postfix", shape)
        what = f"{shape.name}: {'messages/s' if figure is RATE else 'less CPU a message'}, times Postfix"
        if ours and theirs:
            more, less = (ours, theirs) if figure.is_better_high else (theirs, ours)
            rows.append(_row(what, _ratio(more, less, figure.of), least=times))
        elif times:
            rows.append(_unmeasured(what, f"at least {times:g}"))
    what = "p99 from end of data to 250 at 50 %, times p99 of an LMDB commit"
    if half := results.done("posthaste", HALF):
        ratio = Summary.of(run.reply.p99 / run.commit_p99_us for run in half.runs)
        rows.append(_row(what, ratio, most=COMMITS_A_REPLY, digits=2))
    else:
        rows.append(_unmeasured(what, f"at most {COMMITS_A_REPLY:g}"))
    for name, what, least in SCANS:
        if name in results.scans:
            rows.append(_row(what, Summary.of([results.scans[name]]), least=least, digits=2))
        else:
            rows.append(_unmeasured(what, f"at least {least:g}"))
    what = "CPU a message with 2 workers, times that with 1"
    one, two = (results.done(f"posthaste, {words}", Shape()) for words in ("1 worker", "2 workers"))
    if one and two:
        rows.append(_row(what, _ratio(two, one, CPU.of), most=WORKERS_COST, digits=2))
    else:
        rows.append(_unmeasured(what, f"at most {WORKERS_COST:g}"))
    route = results.done("posthaste by route", Shape())
    for server, what in (("posthaste by MX", "routed by MX"), ("posthaste, limits", "with all client limits counted")):
        dear = results.done(server, Shape())
        if route and dear:
            rows.append(_row(f"CPU a message {what}, times that without", _ratio(dear, route, CPU.of), digits=2))
    return rows


def _unmeasured(what: str, limit: str) -> Row:
    return Row(what=what, figure="not measured", asked=limit, is_met=None)


def _ratio(above: Measurement, below: Measurement, of: Callable[[Run], float]) -> Summary:
    pairs = [of(one) / of(other) for one, other in zip(above.runs, below.runs, strict=False)]
    medians = [Summary.of(map(of, each.runs)).median for each in (above, below)]
    return Summary(medians[0] / medians[1], min(pairs), max(pairs))


def _row(what: str, ratio: Summary, *, least: float = 0.0, most: float = 0.0, digits: int = 1) -> Row:
    limit = f"at least {least:g}" if least else f"at most {most:g}" if most else ""
    is_met = None
    if limit:
        is_met = ratio.median >= least if least else ratio.median <= most
    figure = f"{ratio.median:.{digits}f}"
    if ratio.min != ratio.max:
        figure += f" ({ratio.min:.{digits}f} to {ratio.max:.{digits}f})"
    return Row(what=what, figure=figure, asked=limit, is_met=is_met)

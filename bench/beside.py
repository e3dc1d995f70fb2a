"""One load through several servers in turn: what one costs beside another that differs in one thing.

Rule: a run counts only if every message arrived, once and as it was sent; otherwise it raises. Used by `bench.deep` and
`bench.idle`.
"""

import sys
import time
from collections.abc import Mapping

import msgspec

from bench.load import Load, Sink, percentiles, send
from bench.peers import Posthaste
from bench.summary import Summary

__all__ = ["Figures", "compare", "told"]

ARRIVE_S = 600.0
# For what a server still has to write down when the last message has left it.
SETTLE_S = 0.5
WARM_UP = 2000


class Run(msgspec.Struct, frozen=True):
    """One load through one server."""

    rate: float
    cpu_us: float
    p99_ms: float


class Figures(msgspec.Struct, frozen=True):
    """All loads through one server."""

    rate: Summary
    """Messages a second, from the first MAIL until the last arrived."""
    cpu_us: Summary
    """CPU microseconds of the server a message."""
    p99_ms: Summary
    """99th percentile from the end of data to the 250, in milliseconds."""


def _measure(server: Posthaste, sink: Sink, load: Load) -> Run:
    cpu_before_s = server.cpu_s()
    sent = send(server.address, load)
    sink.wait(sent, ARRIVE_S)
    tally = sink.tally(sent.run)
    if sent.accepted < sent.offered or tally.doubled or tally.changed:
        raise RuntimeError(f"{sent.accepted} of {sent.offered} accepted, refused {sent.refused}, {tally}")
    time.sleep(SETTLE_S)
    cpu_us = (server.cpu_s() - cpu_before_s) / sent.accepted * 1e6
    return Run(sent.accepted / tally.lasted_s, cpu_us, percentiles(sent.reply_us).p99 / 1000)


def compare(servers: Mapping[str, Posthaste], sink: Sink, load: Load, runs: int) -> dict[str, Figures]:
    """Send the load through each server in turn, so many times, and return the figures of each. Raises RuntimeError."""
    done: dict[str, list[Run]] = {name: [] for name in servers}
    for server in servers.values():
        _measure(server, sink, msgspec.structs.replace(load, messages=min(WARM_UP, load.messages)))
    for number in range(runs):
        for name, server in servers.items():
            run = _measure(server, sink, load)
            done[name].append(run)
            said = f"run {number + 1} {name}: {run.rate:.0f} messages/s, {run.cpu_us:.1f} us a message"
            print(said, file=sys.stderr, flush=True)
    return {
        name: Figures(*(Summary.of([getattr(run, field) for run in some]) for field in Run.__struct_fields__))
        for name, some in done.items()
    }


def told(figures: Mapping[str, Figures]) -> str:
    """Return figures in words, the ratio of the first two at the end."""
    lines = [
        f"{name:8} {each.rate.median:.0f} messages/s ({each.rate.min:.0f} to {each.rate.max:.0f}), "
        f"{each.cpu_us.median:.1f} us CPU a message ({each.cpu_us.min:.1f} to {each.cpu_us.max:.1f}), "
        f"p99 {each.p99_ms.median:.1f} ms"
        for name, each in figures.items()
    ]
    names = list(figures)
    rates = [figures[name].rate.median for name in names]
    return "\n".join([*lines, f"{names[0]} / {names[1]}: {rates[0] / rates[1]:.2f} of the rate"])

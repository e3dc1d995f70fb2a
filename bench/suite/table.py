"""A result file as Markdown: the machine and what is asked on top, then every figure, then what there is none of."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.suite.asked import Row, asked, asked_beside
from bench.suite.results import ACCEPTED, CPU, RATE, REPLY, SPENT, WHOLE, Measurement, Results
from bench.summary import Summary

__all__ = ["markdown"]

MET = {True: "met", False: "**not met**", None: ""}
SAID = {
    "messages/s": "from the first one begun until the last one is at the sink, with what piled up meanwhile",
    "left": "messages in the queue when the source has ended; a little later there are none",
    "source + sink": "CPU µs a message of both, which are in no server's figure",
    "reply": "from the end of data to the 250",
    "whole": "from the time that the schedule had for a message to its 250",
    "late": "share of messages begun more than 1 ms after their time, for want of a connection or of CPU",
}


def markdown(results: Results, more: Sequence[Row] = (), pictures: Iterable[Path] = ()) -> str:
    """Return the whole page; `more` are rows of what is asked that others have measured."""
    machine = results.machine
    memory = machine.memory_octets / 2**30
    blocks = [
        f"# Posthaste and its peers: {results.plan}",
        f"{results.began}. {machine.cpu}, {machine.cores} cores, {memory:.0f} GiB, Linux {machine.kernel}, "
        f"{machine.file_system}, Python {machine.python}; source and sink on the same machine.",
        "Its own flushes, idle: fdatasync of 4 KB "
        f"{results.fdatasync.p50_us:.0f} µs (p99 {results.fdatasync.p99_us:.0f}), LMDB commit of 4 KB "
        f"{results.commit.p50_us:.0f} µs (p99 {results.commit.p99_us:.0f}).",
        "Medians, with the least and the most of all runs; servers under one load take turns.",
    ]
    rows = [*asked(results), *more, *asked_beside(more)]
    cells = [(row.what, row.figure, row.asked, MET[row.is_met]) for row in rows]
    blocks += ["## What is asked", _table(("what", "figure", "asked", ""), cells)]
    whole = [each for each in results.measurements if each.runs and not each.failed]
    if closed := [each for each in whole if not each.shape.share]:
        blocks += ["## As fast as it is answered", _closed(closed), _explain("messages/s", "left", "source + sink")]
    if opened := [each for each in whole if each.shape.share]:
        blocks += ["## On a schedule", _opened(opened), _explain("reply", "whole", "late")]
    blocks += ["## Servers", _peers(results)]
    lacking = [f"- **{each.name} failed**: {each.failed}" for each in results.measurements if each.failed]
    lacking += [f"- {name}: {why}" for name, why in results.missing.items()]
    if lacking:
        blocks += ["## Not measured", "\n".join(lacking)]
    blocks += [f"![{path.stem}]({path.name})" for path in pictures]
    return "\n\n".join(blocks) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _explain(*names: str) -> str:
    return "; ".join(f"*{name}*: {SAID[name]}" for name in names) + "."


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


def _cell(summary: Summary) -> str:
    if summary.min == summary.max:
        return _number(summary.median)
    return f"{_number(summary.median)} ({_number(summary.min)} to {_number(summary.max)})"


def _closed(measurements: Iterable[Measurement]) -> str:
    figures = (RATE, ACCEPTED, *SPENT)
    rows = []
    for each in measurements:
        load_us = Summary.of(run.source_us + run.sink_us for run in each.runs).median
        n_left = Summary.of(run.left for run in each.runs).median
        refused = sum(run.others for run in each.runs)
        name = each.server + (f" ({refused} not accepted)" if refused else "")
        rows.append(
            (each.shape.name, name, *(_cell(each.sum_up(it)) for it in figures), _number(load_us), f"{n_left:,.0f}")
        )
    return _table(("load", "server", *(figure.name for figure in figures), "source + sink", "left"), rows)


def _opened(measurements: Iterable[Measurement]) -> str:
    figures = (CPU, *REPLY, *WHOLE)
    rows = []
    for each in measurements:
        rate = Summary.of(run.rate for run in each.runs).median
        late = sum(run.late for run in each.runs) / sum(run.messages for run in each.runs)
        cells = (_cell(each.sum_up(figure)) for figure in figures)
        rows.append((each.shape.name, each.server, _number(rate), *cells, f"{late:.1%}"))
    return _table(("load", "server", "messages/s", *(figure.name for figure in figures), "late"), rows)


def _peers(results: Results) -> str:
    rows = []
    for name, about in results.peers.items():
        flushes = f"{about.flushes.a_message:.2f}" if about.flushes else ""
        rows.append((name, about.version, flushes, about.label, about.how))
    return _table(
        ("server", "version", "flushes a message, in and out", "what it flushes before 250", "CPU counted by"), rows
    )

"""The suite from the command line.

python -m bench.suite run headline|full [--out FILE] [--resume] [--with OTHER]...
                                                                   measure; FILE.md and pictures are made beside FILE
python -m bench.suite table FILE [--with OTHER]...                 print its page; OTHER is of bench.deep or bench.idle
python -m bench.suite plot FILE                                    draw its pictures again
python -m bench.suite compare OLD NEW                              exit 1 when a figure got worse by more than the noise
"""

import argparse
import datetime
import signal
import sys
from pathlib import Path

from bench.suite.asked import Row, read_beside
from bench.suite.compare import compare, told
from bench.suite.plan import PLANS, Plan
from bench.suite.plots import plot
from bench.suite.results import read
from bench.suite.runner import left, mismatch, run
from bench.suite.table import markdown

__all__ = ["main"]

RESULTS = Path(__file__).resolve().parent.parent / "results"


def main(words: list[str] | None = None) -> int:
    """Do what the command line says, or `words`; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.suite", description="Posthaste and its peers, side by side.")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure")
    running.add_argument("plan", choices=sorted(PLANS))
    running.add_argument("--out", type=Path, help="the result file (bench/results/PLAN-DATE.json)")
    running.add_argument("--resume", action="store_true", help="go on with FILE, or with the newest one of this plan")
    showing = commands.add_parser("table", help="print the page of a result file")
    showing.add_argument("file", type=Path)
    for each in (running, showing):
        each.add_argument(
            "--with",
            type=Path,
            dest="others",
            action="append",
            default=[],
            help="a file of bench.deep or bench.idle --json",
        )
    drawing = commands.add_parser("plot", help="draw the pictures of a result file")
    drawing.add_argument("file", type=Path)
    comparing = commands.add_parser("compare", help="what got worse from one result file to another")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    options = parser.parse_args(words)
    try:
        match options.command:
            case "run":
                return _run(PLANS[options.plan], options.out, options.others, resumes=options.resume)
            case "table":
                print(markdown(read(options.file), _more(options.others)), end="")
            case "plot":
                for path in plot(read(options.file), options.file.with_suffix("")):
                    print(path)
            case "compare":
                return _compare(options.old, options.new)
    except (OSError, ValueError) as error:
        print(f"bench.suite: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `run --resume` goes on", file=sys.stderr)
        return 130
    return 0


def _more(others: list[Path]) -> list[Row]:
    return [row for path in others for row in read_beside(path)]


def _run(plan: Plan, out: Path | None, others: list[Path], *, resumes: bool) -> int:
    # Whoever ends this ends the servers, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    path = out or _newest(plan, resumes=resumes)
    print(f"results go to {path}", file=sys.stderr)
    more = _more(others)
    results = run(plan, path, resumes=resumes)
    pictures = plot(results, path.with_suffix(""))
    page = markdown(results, more, [each for each in pictures if each.suffix == ".png"])
    path.with_suffix(".md").write_text(page, encoding="utf-8")
    print(page, end="")
    undone = left(plan, results)
    if undone:
        print(f"{len(undone)} measurements are left; --resume goes on:", *undone, sep="\n  ", file=sys.stderr)
    is_failed = any(each.failed for each in results.measurements)
    return 1 if undone or is_failed else 0


def _newest(plan: Plan, *, resumes: bool) -> Path:
    """Return the newest file that can be gone on with and is not whole, or a new one."""
    if resumes:
        for path in sorted(RESULTS.glob(f"{plan.name}-*.json"), reverse=True):
            try:
                results = read(path)
            except ValueError:
                # Of a version of this program that kept other figures.
                continue
            if not mismatch(plan, results) and (
                left(plan, results) or any(each.failed for each in results.measurements)
            ):
                return path
    now = datetime.datetime.now(datetime.UTC)
    return RESULTS / f"{plan.name}-{now:%Y%m%d-%H%M%S}.json"


def _compare(old_path: Path, new_path: Path) -> int:
    old, new = read(old_path), read(new_path)
    if old.machine != new.machine:
        print("these are two machines: what differs may be theirs", file=sys.stderr)
    changes, broken = compare(old, new)
    if not changes and not broken:
        raise ValueError("the two files have no measurement in common")
    print(told(changes))
    for name in broken:
        print(f"FAILED {name}")
    n_worse = sum(change.is_worse for change in changes)
    print(f"{len(changes)} figures compared: {n_worse} worse, {len(broken)} measurements failed")
    return 1 if n_worse or broken else 0


if __name__ == "__main__":
    sys.exit(main())

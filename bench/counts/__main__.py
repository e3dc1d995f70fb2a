"""Count the instructions a message of each piece of work, and compare them with those that are kept.

    python -m bench.counts [--keep] [NAME...]

Ends with 1 when one takes more than 2 % more than was kept for this build: it is counted in other layouts of memory
before that is said. Where nothing is kept for this build, 10 % more than was kept for the one that is most like it; and
where there is none like it (another processor, another Python), nothing can be said, which in CI is a failure, too.
--keep writes what was found into `bench/counts/kept.json`.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.counts import (
    KEPT,
    LAYOUTS,
    MORE_LAYOUTS,
    MOST,
    MOST_OF_NEAREST,
    CountFailed,
    build,
    count,
    find_kept,
    find_nearest,
    judge,
    keep,
)
from bench.work import WORKS

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, path: Path = KEPT) -> int:
    """Print a line for each piece; return 1 if one takes too much, 2 if it could not be counted."""
    parser = argparse.ArgumentParser(prog="python -m bench.counts", description="Instructions a message, counted.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKS)} (all)")
    parser.add_argument("--keep", action="store_true", help="keep what is found, for later counts to be compared with")
    options = parser.parse_args(argv)
    names = options.names or list(WORKS)
    if unknown := [name for name in names if name not in WORKS]:
        parser.error(f"no such work: {', '.join(unknown)}; there are {', '.join(WORKS)}")
    most = MOST
    try:
        ours = build()
        kept = find_kept(path, ours)
        nearest = find_nearest(path, ours) if kept is None and not options.keep else None
        if nearest is not None:
            kept, most = nearest.counts, MOST_OF_NEAREST
        kept = kept or {}
        layouts = (*LAYOUTS, *MORE_LAYOUTS) if options.keep else LAYOUTS
        counts = count({name: WORKS[name] for name in names}, layouts)
        if not options.keep and (suspects := judge(kept, counts, most)):
            again = count({name: WORKS[name] for name in suspects}, MORE_LAYOUTS)
            counts |= {name: min(counts[name], again[name]) for name in suspects}
    except CountFailed as problem:
        print(f"bench.counts: {problem}", file=sys.stderr)
        return 2
    print(f"{'instructions a message':24} {'now':>10} {'kept':>10}")
    for name, found in counts.items():
        compared = f"{kept[name]:10,} {found / kept[name] - 1:+8.2%}" if name in kept else f"{'-':>10}"
        print(f"{name:24} {found:10,} {compared}")
    if options.keep:
        keep(path, ours, counts)
        return 0
    if nearest is not None:
        print("nothing is kept for this build; compared with the one most like it. --keep keeps what was found")
        differing = {what: value for what, value in ours.items() if nearest.build.get(what) != value}
        print("\n".join(f"    {what:10} {value}, kept {nearest.build.get(what)}" for what, value in differing.items()))
    if missing := [name for name in names if name not in kept]:
        print(f"NOT COMPARED, nothing is kept for a build like this: {', '.join(missing)}; --keep keeps what was found")
    if less := [name for name in counts if name in kept and counts[name] * most < kept[name]]:
        print(f"LESS than was kept: {', '.join(less)}; --keep holds on to that")
    for name in (too_much := judge(kept, counts, most)):
        print(f"TOO MUCH: {name} takes {counts[name] / kept[name]:.1%} of what was kept, {most:.0%} may be")
    return 1 if too_much or (missing and os.environ.get("CI")) else 0


if __name__ == "__main__":
    sys.exit(main())

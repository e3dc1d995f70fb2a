"""Time the scanners, and the work of `bench.work` for each message, with pyperf.

    python -m bench.micro [pyperf's options] [NAME...]

All of them, or those that are named. pyperf runs each in processes of its own, which begin here again: what a piece of
work needs is set up in the process that times it, and there alone. `--fast` takes less time, `-o FILE` keeps what was
found, and `python -m pyperf compare_to` sets two of those side by side.
"""

import atexit
import time
from argparse import Namespace

import pyperf  # type: ignore[import-untyped]

from bench.micro.scanners import SCANNERS
from bench.work import WORKS, Work
from bench.work.mail import GROUP

__all__ = ["main"]

WARM_UP = 200


class Timed:
    """A piece of work that is set up when its time is first taken."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: Work | None = None

    def __call__(self, n_groups: int) -> float:
        """Return the seconds that so many groups of messages take."""
        work = self._work
        if work is None:
            work = self._work = WORKS[self._name]()
            atexit.register(work.close)
            work.run(WARM_UP)
        began = time.perf_counter()
        work.run(n_groups * GROUP)
        return time.perf_counter() - began


def _hand_on(command: list[str], options: Namespace) -> None:
    """Have a worker process know the names, too: it counts what it has to do by them."""
    command += options.names


def main() -> None:
    """Time what is wanted."""
    runner = pyperf.Runner(program_args=("-m", "bench.micro"), add_cmdline_args=_hand_on)
    known = [*SCANNERS, *WORKS]
    runner.argparser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)} (all)")
    options = runner.parse_args()
    if unknown := [name for name in options.names if name not in known]:
        runner.argparser.error(f"nothing is called {', '.join(unknown)}; there are {', '.join(known)}")
    for name in options.names or known:
        if name in SCANNERS:
            runner.bench_func(name, SCANNERS[name])
        else:
            runner.bench_time_func(name, Timed(name), inner_loops=GROUP)


if __name__ == "__main__":
    main()

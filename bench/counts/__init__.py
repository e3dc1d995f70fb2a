"""Instructions a message, counted: what a change costs or saves, told where times are too noisy to tell it.

Each piece of `bench.work` runs under valgrind's callgrind in processes of its own. Rule: two counts of one build differ
by less than half a percent, so that two percent more is a change. Counts of different builds (interpreter, compiler,
Cython, libraries) differ by a few percent for no reason of ours: `kept` says what makes a build.
"""

from bench.counts.callgrind import LAYOUTS, MORE_LAYOUTS, CountFailed, count
from bench.counts.kept import KEPT, MOST, MOST_OF_NEAREST, build, find_kept, find_nearest, judge, keep

__all__ = [
    "KEPT",
    "LAYOUTS",
    "MORE_LAYOUTS",
    "MOST",
    "MOST_OF_NEAREST",
    "CountFailed",
    "build",
    "count",
    "find_kept",
    "find_nearest",
    "judge",
    "keep",
]

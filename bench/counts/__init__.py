"""Instructions a message, counted: what a change costs or saves, told where times are too noisy to tell it.

Each piece of `bench.work` runs under valgrind's callgrind in processes of its own. Rule: two counts of one build differ
by less than half a percent, so that two percent more is a change. Counts of different builds (interpreter, compiler,
Cython, libraries) are not compared: `kept` says what makes a build.
"""

from bench.counts.callgrind import LAYOUTS, MORE_LAYOUTS, CountFailed, count
from bench.counts.kept import KEPT, MOST, build, find_kept, judge, keep

__all__ = ["KEPT", "LAYOUTS", "MORE_LAYOUTS", "MOST", "CountFailed", "build", "count", "find_kept", "judge", "keep"]

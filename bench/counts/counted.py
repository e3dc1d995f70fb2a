"""The process that is counted: python -m bench.counts.counted TOGGLE MODULE:CLASS MESSAGES LAYOUT

Sets the work up and runs it for a while first: the interpreter adapts its code to what it meets, and caches fill. Rule:
nothing is left to chance. The garbage collector is off, the parent has fixed the seed of hashes, and where objects lie
in memory is what the layout says.
"""

import ctypes
import gc
import importlib
import sys

__all__ = ["main"]

WARM_UP = 200
SMALL_OCTETS = 512


def main() -> None:
    """Count one piece of work."""
    _, toggle, named, n_messages, layout = sys.argv
    # Whatever is made from here on lies so many objects of its size further on.
    padding = [bytes(size) for size in range(1, SMALL_OCTETS, 8) for _ in range(int(layout))]
    module, _, kind = named.partition(":")
    work = getattr(importlib.import_module(module), kind)()
    count = ctypes.CDLL(toggle)
    gc.disable()
    work.run(WARM_UP)
    count.begin_count()
    work.run(int(n_messages))
    count.end_count()
    work.close()
    padding.clear()


if __name__ == "__main__":
    main()

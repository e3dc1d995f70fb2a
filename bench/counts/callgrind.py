"""Counting pieces of work: each a process under callgrind that counts only while the work runs.

Valgrind places memory by itself, the same way each time: that the kernel randomizes addresses has no say in it. But
where objects lie has one, for the interpreter's caches go by address, and a change anywhere can move them: in one
layout a session took 9 % more than in ten others. So it is counted in two, and in MORE_LAYOUTS where that matters; the
least is its count.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["LAYOUTS", "MORE_LAYOUTS", "CountFailed", "count"]

LAYOUTS = (0, 4)
MORE_LAYOUTS = (2, 6, 8, 10)
N_MESSAGES = 400
RUN_S = 300.0
ROOT = Path(__file__).resolve().parents[2]
TOGGLE = Path(__file__).with_name("toggle.c")
_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


class CountFailed(Exception):
    """Something is missing (the text says what installs it), or the work has failed (the text says how)."""


def count(kinds: Mapping[str, type], layouts: Sequence[int] = LAYOUTS, n_messages: int = N_MESSAGES) -> dict[str, int]:
    """Return the instructions a message of pieces of work, given by their classes; some are counted at once.

    Raises CountFailed.
    """
    with tempfile.TemporaryDirectory(prefix="mta-counts-") as directory:
        toggle = Path(directory, "toggle.so")
        _run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(toggle), str(TOGGLE)])

        works = {
            name: [str(toggle), f"{kind.__module__}:{kind.__qualname__}", str(n_messages)]
            for name, kind in kinds.items()
        }
        for work in works.values():
            # Once without counting: to compile a module leaves memory otherwise than to find it compiled.
            _run([sys.executable, "-m", "bench.counts.counted", *work, "0"])
        # Counts do not depend on what else runs.
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            begun = {name: [pool.submit(_count, work, layout) for layout in layouts] for name, work in works.items()}
            return {name: min(counted.result() for counted in some) for name, some in begun.items()}


def _count(work: Sequence[str], layout: int) -> int:
    with tempfile.NamedTemporaryFile(prefix="mta-counts-") as out:
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "-q", f"--callgrind-out-file={out.name}"]
        _run([*valgrind, sys.executable, "-m", "bench.counts.counted", *work, str(layout)])
        found = _TOTALS.search(Path(out.name).read_text(encoding="ascii", errors="replace"))
    if found is None or found[1] == "0":
        raise CountFailed(f"callgrind has counted nothing of {work[1]}")
    return round(int(found[1]) / int(work[2]))


def _run(command: list[str]) -> None:
    """Run a program to its end, in an environment in which nothing depends on who calls."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_S, check=False
        )
    except FileNotFoundError as problem:
        raise CountFailed(f"{command[0]} is missing: apt-get install gcc valgrind") from problem
    except subprocess.TimeoutExpired as problem:
        raise CountFailed(f"{' '.join(command)} took more than {RUN_S:.0f} s") from problem
    if done.returncode:
        raise CountFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.strip()}")

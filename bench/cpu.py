"""CPU time of a server and everything it ever started, from /proc.

User and system time of all threads, in seconds, at the grain of the kernel's clock tick (10 ms a process). A dead
child counts once its parent has waited for it: the parent's cutime and cstime then hold it, and all it had reaped.
What escapes: a process whose parent died first (it becomes a child of init), and kernel threads that write back.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["children_of", "family_of", "sum_cpu_s", "title_of", "tree_cpu_s"]

TICKS_A_S = os.sysconf("SC_CLK_TCK")


class Stat(NamedTuple):
    """What we need of /proc/PID/stat."""

    parent: int
    session: int
    cpu_s: float


def _stat(pid: int) -> Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name may hold blanks and brackets: the fields begin behind the last one. Field 3 is the first here.
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(int(fields[1]), int(fields[3]), sum(int(ticks) for ticks in fields[11:15]) / TICKS_A_S)


def _all_stats() -> dict[int, Stat]:
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return {pid: stat for pid in pids if (stat := _stat(pid)) is not None}


def children_of(pid: int) -> list[int]:
    """Return the pids of the direct children of `pid`, in order."""
    return sorted(child for child, stat in _all_stats().items() if stat.parent == pid)


def family_of(pid: int) -> list[int]:
    """Return the pids of `pid`, of its descendants and of whoever is in the session that it leads, in order."""
    stats = _all_stats()
    found, todo = set(), [pid, *(other for other, stat in stats.items() if stat.session == pid)]
    while todo:
        parent = todo.pop()
        if parent in stats and parent not in found:
            found.add(parent)
            todo += [child for child, stat in stats.items() if stat.parent == parent]
    return sorted(found)


def sum_cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds of these processes and of what they have reaped."""
    return sum(stat.cpu_s for pid in pids if (stat := _stat(pid)) is not None)


def title_of(pid: int) -> str:
    """Return the command line of `pid` as shown by ps; "" when it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def tree_cpu_s(pid: int, without: str = "") -> float:
    """Return the CPU seconds of `pid` and its descendants, living and reaped.

    Leaves out living descendants whose command line holds `without`, when that is given.
    """
    stats = _all_stats()
    if pid not in stats:
        raise ProcessLookupError(f"process {pid} is gone")
    total_s, todo = 0.0, [pid]
    while todo:
        parent = todo.pop()
        if not (without and without in title_of(parent)):
            total_s += stats[parent].cpu_s
        todo += [child for child, stat in stats.items() if stat.parent == parent]
    return total_s

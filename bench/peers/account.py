"""Which processes belong to a server, and the CPU time of them all: a control group of its own where one can be made.

A control group (cgroup v2: cpu.stat; v1: cpuacct.usage) counts nanoseconds of every process that was ever born in it.
Where none can be made, what is counted are the processes in the server's session and all its descendants, in clock
ticks. That loses up to two ticks with each process, and all of those that end without being waited for, which is how
Exim ends its deliveries: its figure is then far too low. `Account.how` says how it was counted.

Rule: a process gets into the group before it becomes the server, so nothing of it is left out.
"""

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.cpu import family_of, sum_cpu_s
from bench.wait import wait_until

__all__ = ["Account", "busy_s"]

END_S = 20.0
TICKS_A_S = os.sysconf("SC_CLK_TCK")
# As root a shell moves itself into the group, then becomes what follows.
JOIN = 'echo $$ >"$0" && exec "$@"'


def busy_s() -> float:
    """Return the CPU seconds that all cores of the machine were busy since its start; waiting for disks is not."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq")
    ticks = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    spent = dict(zip(names, map(int, ticks), strict=False))
    return sum(spent[name] for name in names if name not in ("idle", "iowait")) / TICKS_A_S


def _usage_v2(group: Path) -> float:
    rows = dict(line.split() for line in (group / "cpu.stat").read_text(encoding="ascii").splitlines())
    return int(rows["usage_usec"]) / 1e6


def _usage_v1(group: Path) -> float:
    return int((group / "cpuacct.usage").read_text(encoding="ascii")) / 1e9


def _parents() -> list[tuple[str, Path, Callable[[Path], float]]]:
    """Return where this process's own groups are: the folders that a new group could be made in."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path.lstrip("/")
    found: list[tuple[str, Path, Callable[[Path], float]]] = []
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, point, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.append(("cgroup v2", Path(point) / own.get("", ""), _usage_v2))
        elif kind == "cgroup" and "cpuacct" in options.split(","):
            path = next((path for names, path in own.items() if "cpuacct" in names.split(",")), "")
            found.append(("cgroup v1", Path(point) / path, _usage_v1))
    return sorted(found, key=lambda row: row[0], reverse=True)


class Account:
    """The processes of one server."""

    def __init__(self, name: str, *, is_grouped: bool = True) -> None:
        """`is_grouped` False does without a control group even where there could be one."""
        self.how = "process times"
        """How CPU time is counted: "cgroup v2", "cgroup v1" or "process times"."""
        self._group: Path | None = None
        for how, parent, usage in _parents() if is_grouped else ():
            with contextlib.suppress(OSError):
                self._group, self.how = Path(tempfile.mkdtemp(prefix=f"bench-{name}-", dir=parent)), how
                self._usage = usage
                break

    @property
    def words(self) -> list[str]:
        """What stands in front of the words that start the server."""
        return [] if self._group is None else ["/bin/sh", "-c", JOIN, str(self._group / "cgroup.procs")]

    def pids(self, main: int) -> list[int]:
        """Return who is there; `main` is the server's first process, 0 if it is unknown."""
        if self._group is not None:
            return sorted(int(line) for line in (self._group / "cgroup.procs").read_text(encoding="ascii").split())
        return family_of(main) if main else []

    def cpu_s(self, main: int) -> float:
        """Return the CPU seconds of the server so far."""
        return sum_cpu_s(family_of(main)) if self._group is None else self._usage(self._group)

    def close(self, main: int) -> None:
        """Kill whoever is left, and remove the group. Raises TimeoutError when somebody does not die."""

        def is_over() -> bool:
            left = self.pids(main)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self._group is not None and not left:
                # The kernel may need a moment more than the last process.
                with contextlib.suppress(OSError):
                    self._group.rmdir()
                    self._group = None
            return not left and self._group is None

        wait_until(is_over, "the end of a server's processes", END_S)

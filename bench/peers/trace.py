"""A peer under strace from its first process on, and what it called."""

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from bench.peers.peer import Peer, find_program
from bench.wait import wait_until

__all__ = ["Call", "Traced", "parse"]

END_S = 60.0
_LINE = re.compile(r"(\d+) +(\d+\.\d+) (.*)")
_BEGUN = re.compile(r"(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_WHOLE = re.compile(r"(\w+)\((.*)\) += (.*)")


class Call(NamedTuple):
    """One call that was made."""

    at: float
    """When it was entered, in seconds of the epoch."""
    name: str
    arguments: str
    result: str


def parse(lines: Iterable[str]) -> Iterator[Call]:
    """Yield the calls of a trace made with `-f -ttt`, in the order in which they ended."""
    begun: dict[str, tuple[float, str]] = {}
    for line in lines:
        if not (parts := _LINE.match(line)):
            continue
        pid, at, text = parts[1], float(parts[2]), parts[3]
        if half := _BEGUN.match(text):
            begun[pid] = (at, f"{half[1]}({half[2]}")
            continue
        if rest := _RESUMED.match(text):
            # Without a beginning it was under way when its process came into the trace.
            at, first = begun.pop(pid, (at, f"{rest[1]}("))
            text = first + rest[2]
        if call := _WHOLE.match(text):
            yield Call(at, call[1], call[2], call[3])


class Traced:
    """A peer that runs under strace from its first process on; `calls` after the context."""

    def __init__(self, peer: Peer, calls: Sequence[str]) -> None:
        """Calls that this kind of machine has not are left out. Raises PeerMissing without strace."""
        self.peer = peer
        with tempfile.NamedTemporaryFile(prefix="strace-", delete=False) as file:
            self._file = Path(file.name)
        what = ["-e", "trace=" + ",".join(f"?{call}" for call in calls), "-e", "signal=none", "-y", "-s", "16"]
        # As a process apart, so that the peer's pids are what they are without; it ends when the last of them has.
        tracer = [find_program("strace", "apt-get install strace"), "-DDD", "-f", "--seccomp-bpf", "-ttt"]
        peer.tracer = [*tracer, "-o", str(self._file), *what]

    def __enter__(self) -> Self:
        try:
            self.peer.__enter__()
        except BaseException:
            self._file.unlink()
            raise
        status = Path(f"/proc/{self.peer.pid}/status").read_text(encoding="ascii", errors="replace")
        self._tracer = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("TracerPid:"))
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()
        wait_until(self._is_written, "the end of strace", END_S)

    def _is_written(self) -> bool:
        # A zombie has written all it had, and is for init to bury.
        path = Path(f"/proc/{self._tracer}/stat")
        return not path.exists() or path.read_text(encoding="ascii").rpartition(") ")[2].startswith("Z")

    def calls(self) -> list[Call]:
        """Return what was traced, and delete it."""
        try:
            with self._file.open(encoding="utf-8", errors="replace") as lines:
                return list(parse(line.rstrip("\n") for line in lines))
        finally:
            self._file.unlink()

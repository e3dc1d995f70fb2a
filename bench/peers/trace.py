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
    """A peer that runs under strace from its first process on, for the length of a `with`, which also ends it."""

    def __init__(self, peer: Peer, names: Sequence[str]) -> None:
        """`names` are the calls to trace; those that this kind of machine has not are left out."""
        self.peer = peer
        self.calls: list[Call] = []
        """What was traced, when it is over."""
        self._names = names

    def __enter__(self) -> Self:
        """Start it. Raises PeerMissing without strace, and what the peer raises."""
        try:
            strace = find_program("strace", "apt-get install strace")
            with tempfile.NamedTemporaryFile(prefix="strace-", delete=False) as file:
                self._file = Path(file.name)
            try:
                # As a process apart, so that the peer's pids are what they are without; it ends when the last has.
                what = ["-e", "trace=" + ",".join(f"?{name}" for name in self._names), "-e", "signal=none", "-y"]
                how = ["-DDD", "-f", "--seccomp-bpf", "-ttt", "-s", "16", "-o", str(self._file)]
                self.peer.tracer = [strace, *how, *what]
                self.peer.start()
                status = Path(f"/proc/{self.peer.pid}/status").read_text(encoding="ascii", errors="replace")
                self._tracer = next(int(line.split()[1]) for line in status.splitlines() if "TracerPid" in line)
            except BaseException:
                self._file.unlink()
                raise
        except BaseException:
            self.peer.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()
        try:
            wait_until(self._is_written, "the end of strace", END_S)
            with self._file.open(encoding="utf-8", errors="replace") as lines:
                self.calls = list(parse(line.rstrip("\n") for line in lines))
        finally:
            self._file.unlink()

    def _is_written(self) -> bool:
        # A zombie has written all it had, and is for init to bury.
        try:
            return Path(f"/proc/{self._tracer}/stat").read_text(encoding="ascii").rpartition(") ")[2].startswith("Z")
        except (FileNotFoundError, ProcessLookupError):
            return True

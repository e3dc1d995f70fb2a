"""A trace of system calls by strace, read as a list of calls with their octets.

Rule: the order is that of lines in the trace, never of clocks. A traced process stands still until strace has written
down that it enters or leaves a call; a call whose first line stands after another's last line was begun after that one
had returned.
"""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

from bench.wait import wait_until

__all__ = ["Call", "Trace", "parse"]

# Enough for any single string in what is traced: a network read, or a page.
STRING_OCTETS = 1_000_000
_WHOLE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_BEGUN = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_ENDED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class Call(NamedTuple):
    """One system call that came to its end."""

    pid: int
    name: str
    fd: int
    """Its first argument."""
    data: bytes
    """All strings among its arguments, one behind the other."""
    result: int
    began: int
    """Line of the trace where it was entered."""
    ended: int
    """Line of the trace where it returned."""


def _call(pid: str, name: str, arguments: str, result: str, began: int, ended: int) -> Call:
    fd = arguments.partition(",")[0].strip()
    data = bytes.fromhex("".join(_STRING.findall(arguments)).replace("\\x", ""))
    return Call(int(pid), name, int(fd) if fd.isdigit() else -1, data, int(result), began, ended)


def parse(lines: Iterable[str]) -> list[Call]:
    """Return the calls of a trace made with `-f -xx`, in the order in which they ended."""
    calls: list[Call] = []
    begun: dict[str, tuple[str, str, int]] = {}
    for number, line in enumerate(lines):
        if match := _BEGUN.match(line):
            pid, name, arguments = match.groups()
            begun[pid] = (name, arguments, number)
        elif match := _ENDED.match(line):
            pid, name, arguments, result = match.groups()
            # A call that was under way when strace came has no beginning.
            name_begun, first, began = begun.pop(pid, ("", "", 0))
            if name_begun == name:
                calls.append(_call(pid, name, first + arguments, result, began, number))
        elif match := _WHOLE.match(line):
            pid, name, arguments, result = match.groups()
            calls.append(_call(pid, name, arguments, result, number, number))
    return calls


class Trace:
    """strace on running processes, between entering and leaving the context."""

    def __init__(self, strace: str, pids: Iterable[int], calls: Iterable[str]) -> None:
        descriptor, name = tempfile.mkstemp(prefix="strace-")
        os.close(descriptor)
        self._file = Path(name)
        self._log = self._file.with_suffix(".log")
        self._pids = list(pids)
        attach = [word for pid in self._pids for word in ("-p", str(pid))]
        what = ["-e", f"trace={','.join(calls)}", "-e", "abbrev=none", "-e", "signal=none"]
        self._command = [strace, "-f", "-xx", "-s", str(STRING_OCTETS), *what, "-o", name, *attach]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stderr=log, start_new_session=True)
        try:
            wait_until(self._is_attached, "strace attached", 10)
        except TimeoutError:
            self.__exit__()
            raise
        return self

    def _is_attached(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"strace ended: {self._log.read_text()}")
        said = self._log.read_text()
        return all(re.search(rf"Process {pid} attached", said) for pid in self._pids)

    def __exit__(self, *_: object) -> None:
        """Detach: the processes go on."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        self._process.wait(30)

    def calls(self) -> list[Call]:
        """Return what was traced, and delete the trace; to be called once, after the context."""
        try:
            with self._file.open(encoding="ascii", errors="replace") as lines:
                return parse(line.rstrip("\n") for line in lines)
        finally:
            self._file.unlink()
            self._log.unlink()

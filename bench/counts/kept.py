"""The counts that are kept in `kept.json`: one set for each build that somebody has kept them for.

A build is everything besides this source that decides how many instructions there are: the interpreter and what it was
compiled with, the compiler and Cython, the libraries that do a share of the work, what the processor offers to them,
and valgrind, which runs it. Rule: a count is compared with one of the very same build. Where there is none, because a
library was released since, the build that differs in the fewest things has to do, and more is let pass.
"""

import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import lmdb
import msgspec

from bench.counts.callgrind import CountFailed
from mta._fast import VECTOR_PATHS

__all__ = ["KEPT", "MOST", "MOST_OF_NEAREST", "Kept", "build", "find_kept", "find_nearest", "judge", "keep"]

KEPT = Path(__file__).with_name("kept.json")
MOST = 1.02
"""Of the kept count; more is a failure."""
MOST_OF_NEAREST = 1.1
"""Of a count that was kept for another build."""
PACKAGE = Path(__file__).resolve().parents[2] / "mta"


class Kept(msgspec.Struct, frozen=True):
    """Instructions a message of each piece of work, in one build."""

    build: dict[str, str]
    counts: dict[str, int]


def build() -> dict[str, str]:
    """Return what makes this build. Raises CountFailed when part of the package is not compiled, or a tool missing."""
    for declared in sorted(each for each in PACKAGE.rglob("*.pxd") if each.parent.name != "_fast"):
        if not any(declared.parent.glob(f"{declared.stem}.*.so")):
            raise CountFailed(f"{declared.with_suffix('.py')} is not compiled: make build")
    return {
        "python": sys.version,
        "machine": f"{platform.machine()} {VECTOR_PATHS[0]}",
        "libc": " ".join(platform.libc_ver()),
        "gcc": _first_line("gcc", "--version"),
        "valgrind": _first_line("valgrind", "--version"),
        "cython": version("cython"),
        "msgspec": version("msgspec"),
        "lmdb": f"{lmdb.__version__} {'.'.join(map(str, lmdb.version()))}",
    }


def _first_line(*command: str) -> str:
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as problem:
        raise CountFailed(f"{command[0]} is missing: apt-get install {command[0]}") from problem
    return said.partition("\n")[0]


def find_kept(path: Path, of: Mapping[str, str]) -> dict[str, int] | None:
    """Return the counts that are kept for a build, None if there are none."""
    return next((kept.counts for kept in _read(path) if kept.build == of), None)


def find_nearest(path: Path, of: Mapping[str, str]) -> Kept | None:
    """Return what is kept for the build that differs in the fewest things, of those for this processor and this version
    of Python, whatever its patch level; None if there is none."""

    def likeness(kept: Kept) -> int:
        return sum(kept.build.get(what) == value for what, value in of.items())

    def family(build: Mapping[str, str]) -> tuple[str, list[str]]:
        return build["machine"], build["python"].split(".")[:2]

    return max((kept for kept in _read(path) if family(kept.build) == family(of)), key=likeness, default=None)


def keep(path: Path, of: Mapping[str, str], counts: Mapping[str, int]) -> None:
    """Keep these counts for a build, beside those of other work and of other builds."""
    before = find_kept(path, of) or {}
    others = [kept for kept in _read(path) if kept.build != of]
    encoded = msgspec.json.encode([*others, Kept(dict(of), before | dict(counts))])
    path.write_bytes(msgspec.json.format(encoded, indent=2) + b"\n")


def _read(path: Path) -> list[Kept]:
    return msgspec.json.decode(path.read_bytes(), type=list[Kept]) if path.exists() else []


def judge(kept: Mapping[str, int], counts: Mapping[str, int], most: float = MOST) -> list[str]:
    """Return the names of the work that takes more than `most` of what was kept; what was not kept is not judged."""
    return [name for name, found in counts.items() if name in kept and found > kept[name] * most]

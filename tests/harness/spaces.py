"""Commands in namespaces of their own: where everybody may read what only root can, or where nothing can be written.

Rule: each function returns the words that go in front of a command; the command keeps its pid unless it says otherwise.
Only root may do this, and not in every container.
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.harness.setup import require_tool

__all__ = ["as_first_process", "read_by_all", "read_by_root", "require_root", "without_writing"]

# Over each directory comes an empty one of another mode, and the paths wanted below it are mounted into that again.
REMADE = """
set -e
hold=$1; shift
over=$1; shift
mount -t tmpfs none "$hold"
n=0
for path in $PATHS; do n=$((n + 1)); mkdir "$hold/$n"; mount --rbind "$path" "$hold/$n"; done
for directory in $over; do mount -t tmpfs -o "mode=$MODE" none "$directory"; done
n=0
for path in $PATHS; do n=$((n + 1)); mkdir -p "$path"; mount --rbind "$hold/$n" "$path"; done
umount -l "$hold"
exec "$@"
"""
SEAL = """
set -e
for path in $PATHS; do mount --bind "$path" "$path"; done
mount -o remount,bind,ro /
exec "$@"
"""


def require_root() -> None:
    """Leave the test unless it can have namespaces of its own, which in CI is a failure."""
    unshare = require_tool("unshare", "util-linux")
    if os.geteuid() != 0:
        pytest.skip("only root can become another user, or mount")
    done = subprocess.run(
        [unshare, "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr.decode()}")


def _unshare(script: str, paths: Iterable[Path], *words: str, mode: str = "") -> list[str]:
    given = " ".join(str(path) for path in paths)
    return ["unshare", "--mount", "env", f"PATHS={given}", f"MODE={mode}", "sh", "-c", script, "sh", *words]


def _closed(path: Path) -> Path | None:
    """Return the directory that keeps others from a path: the topmost that they may not enter."""
    return next((each for each in reversed(path.parents) if not each.stat().st_mode & 0o001), None)


def read_by_all(hold: Path) -> list[str]:
    """Run where every user can read Python, its environment and this checkout. `hold` is an empty directory."""
    wanted = [Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[2]]
    paths = {path.resolve(): place for path in wanted if (place := _closed(path.resolve()))}
    over = " ".join(sorted({str(place) for place in paths.values()}))
    return _unshare(REMADE, paths, str(hold), over, mode="755")


def read_by_root(hold: Path, path: Path) -> list[str]:
    """Run where only root can reach a directory. `hold` is an empty one."""
    return _unshare(REMADE, [path], str(hold), str(path.parent), mode="700")


def without_writing(*but: Path) -> list[str]:
    """Run where the root file system is read-only, `but` for these directories: as ProtectSystem=strict has it."""
    return _unshare(SEAL, but)


def as_first_process() -> list[str]:
    """Run as process 1 of its own, as in a container. The pid outside is that of a child of what is started."""
    return ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]

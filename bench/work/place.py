"""Where the work keeps an environment: in memory where the system has such a file system, so that no disk has a say."""

import tempfile
from pathlib import Path

__all__ = ["MAP_OCTETS", "temporary_directory"]

MAP_OCTETS = 1 << 28
_SHM = Path("/dev/shm")


def temporary_directory() -> "tempfile.TemporaryDirectory[str]":
    """Return a directory that is deleted when its `cleanup` is called."""
    return tempfile.TemporaryDirectory(prefix="mta-work-", dir=_SHM if _SHM.is_dir() else None)

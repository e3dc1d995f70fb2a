"""Copies the queue's file without what is free in it, and puts the copy in its place.

Rule: the old file is untouched until the copy is on the disk and was found to have the same rows; then one rename
decides. Only for one who holds the data_dir's lock: what a server writes meanwhile would be lost.
"""

import contextlib
import os
from pathlib import Path

import lmdb

from mta.store.errors import StoreError
from mta.store.keys import TABLES
from mta.store.writer import MAX_TABLES

__all__ = ["compact"]

FILE = "data.mdb"
LOCK = "lock.mdb"
# What an earlier run that crashed has left is of no use to anybody.
SUFFIX = ".compact"


def compact(data_dir: str, map_octets: int) -> tuple[int, int]:
    """Compact `data_dir/queue`; return the octets of its file before and after.

    Raises FileNotFoundError when there is no queue yet, StoreError when it cannot be copied or the copy is not the
    same. Then the old file is as it was.
    """
    folder = Path(data_dir, "queue")
    old, new, lock = folder / FILE, folder / (FILE + SUFFIX), folder / (LOCK + SUFFIX)
    if not old.exists():
        raise FileNotFoundError(f"{folder}: there is no queue yet")
    try:
        try:
            _forget(new, lock)
            rows = _copy(old, new, map_octets)
            copied = _rows(new, map_octets)
            if copied != rows:
                table = next(name for name in TABLES if copied[name] != rows[name])
                raise StoreError(f"{new}: the copy has {copied[table]} rows in {table}, and not {rows[table]}")
            octets = old.stat().st_size, new.stat().st_size
            _copy_owner(old, lock)
            # LMDB keeps the number of the last transaction in its lock file, and a copy begins to count anew. Whoever
            # still reads the old file keeps the old lock file, and cannot hand the old number on to who opens the new.
            os.rename(lock, folder / LOCK)
            os.rename(new, old)
            _flush(folder)
        except BaseException:
            _forget(new, lock)
            raise
    except lmdb.Error as problem:
        raise StoreError(f"{folder}: {problem}") from problem
    except OSError as problem:
        raise StoreError(f"{folder}: {problem.strerror or problem}") from problem
    return octets


def _forget(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _copy(old: Path, new: Path, map_octets: int) -> dict[str, int]:
    """Write the copy and flush it; return how many rows each table should have."""
    with _opened(old.parent, map_octets, subdir=True) as env:
        rows = _count(env)
        _copy_owner(old, new)
        fd = os.open(new, os.O_WRONLY)
        try:
            env.copyfd(fd, compact=True)
            os.fsync(fd)
        finally:
            os.close(fd)
    return rows


def _copy_owner(old: Path, new: Path) -> None:
    """Make an empty file that has the owner and the rights of another: root may compact what a server shall open."""
    told = old.stat()
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if (told.st_uid, told.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(fd, told.st_uid, told.st_gid)
        os.fchmod(fd, told.st_mode & 0o777)
        os.fsync(fd)
    finally:
        os.close(fd)


def _rows(file: Path, map_octets: int) -> dict[str, int]:
    with _opened(file, map_octets, subdir=False) as env:
        return _count(env)


def _opened(path: Path, map_octets: int, *, subdir: bool) -> contextlib.closing[lmdb.Environment]:
    env = lmdb.open(
        str(path),
        map_size=map_octets,
        max_dbs=MAX_TABLES,
        subdir=subdir,
        readonly=True,
        # Nobody else has the copy yet; of the original somebody may be reading.
        lock=subdir,
        readahead=True,
        create=False,
    )
    return contextlib.closing(env)


def _count(env: lmdb.Environment) -> dict[str, int]:
    tables = {name: env.open_db(name.encode(), create=False) for name in TABLES}
    with env.begin() as txn:
        return {name: int(txn.stat(table)["entries"]) for name, table in tables.items()}


def _flush(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

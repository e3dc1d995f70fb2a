"""Compacting: the same rows in a smaller file, or the old file as it was."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from mta.store import Reader, StoreError, Writer, compact
from mta.store.keys import TABLES

from .damage import MAP_OCTETS, look, make_queue, raw


def rows(data_dir: Path) -> dict[str, list[tuple[bytes, bytes]]]:
    with raw(data_dir) as tables:
        return {table: tables.rows(table) for table in TABLES}


def fatten(data_dir: Path) -> None:
    """Let the file grow, and be mostly free."""
    for _ in range(2):
        with raw(data_dir) as tables:
            for n in range(1000):
                tables.put("trash", b"%016d" % n, bytes(1000))
        with raw(data_dir) as tables:
            for n in range(1000):
                tables.delete("trash", b"%016d" % n)


def names(data_dir: Path) -> set[str]:
    return {path.name for path in (data_dir / "queue").iterdir()}


def test_compact_gives_a_smaller_file_with_the_same_rows(tmp_path: Path) -> None:
    make_queue(tmp_path)
    fatten(tmp_path)
    before = rows(tmp_path)
    file = tmp_path / "queue" / "data.mdb"
    size, mode = file.stat().st_size, file.stat().st_mode
    told = compact(str(tmp_path), MAP_OCTETS)
    assert told == (size, file.stat().st_size)
    assert told[1] < told[0] // 2
    assert rows(tmp_path) == before
    assert look(tmp_path) == []
    assert file.stat().st_mode == mode
    assert names(tmp_path) == {"data.mdb", "lock.mdb"}


def test_compact_file_can_be_written_on(tmp_path: Path) -> None:
    make_queue(tmp_path)
    fatten(tmp_path)
    compact(str(tmp_path), MAP_OCTETS)
    writer = Writer(str(tmp_path), MAP_OCTETS)
    for _ in range(20):
        writer.begin()
        writer.add_event(b"\x90")
        writer.commit()
    writer.close()
    with raw(tmp_path) as tables:
        assert len(tables.rows("event")) == 30


# LMDB finds the newer of its two meta pages by whether the last transaction's number is odd.
@pytest.mark.parametrize("n_commits", [0, 1])
def test_compact_while_somebody_reads_the_old_file_gives_the_next_writer_a_whole_one(
    tmp_path: Path, n_commits: int
) -> None:
    make_queue(tmp_path)
    fatten(tmp_path)
    for n in range(n_commits):
        with raw(tmp_path) as tables:
            tables.put("gone", b"%016d" % n, b"")
    wanted = rows(tmp_path)
    # In a process of its own: one process can have an environment open once.
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            with Reader(str(tmp_path), MAP_OCTETS).snapshot():
                os.write(writes, b"x")
                signal.pause()
        finally:
            os._exit(1)
    assert os.read(reads, 1) == b"x"
    try:
        compact(str(tmp_path), MAP_OCTETS)
        assert rows(tmp_path) == wanted
        writer = Writer(str(tmp_path), MAP_OCTETS)
        assert writer.n_messages == len(wanted["message"])
        writer.close()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reads)
        os.close(writes)


def test_compact_what_an_earlier_crash_left_is_removed(tmp_path: Path) -> None:
    make_queue(tmp_path)
    for name in ("data.mdb.compact", "lock.mdb.compact"):
        (tmp_path / "queue" / name).write_bytes(b"half a copy")
    compact(str(tmp_path), MAP_OCTETS)
    assert names(tmp_path) == {"data.mdb", "lock.mdb"}
    assert look(tmp_path) == []


def raising(problem: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise problem

    return fail


@pytest.mark.parametrize(
    ("where", "what"),
    [
        # The disk is full, the copy lacks a row, it cannot be flushed, it cannot be moved into its place.
        ("_copy", OSError(28, "No space left on device")),
        ("_rows", {}),
        ("os.fsync", OSError(5, "Input/output error")),
        ("os.rename", OSError(13, "Permission denied")),
        ("_rows", lmdb.CorruptedError("page")),
    ],
)
def test_compact_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, what: Any
) -> None:
    make_queue(tmp_path)
    fatten(tmp_path)
    file = tmp_path / "queue" / "data.mdb"
    before, inode = file.read_bytes(), file.stat().st_ino
    lost = {**dict.fromkeys(TABLES, 0), **what} if isinstance(what, dict) else {}
    fake = raising(what) if isinstance(what, Exception) else lambda *_: lost
    if where.startswith("os."):
        monkeypatch.setattr(where, fake)
    else:
        # The door gives the function under the name of its module.
        monkeypatch.setattr(sys.modules["mta.store.compact"], where, fake)
    with pytest.raises(StoreError, match="queue"):
        compact(str(tmp_path), MAP_OCTETS)
    monkeypatch.undo()
    assert (file.read_bytes(), file.stat().st_ino) == (before, inode)
    assert names(tmp_path) == {"data.mdb", "lock.mdb"}
    assert look(tmp_path) == []


def test_compact_without_queue_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no queue yet"):
        compact(str(tmp_path), MAP_OCTETS)
